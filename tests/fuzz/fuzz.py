"""Coverage-guided fuzzing of every reader of hostile files, with atheris (libFuzzer).

`pip install atheris`, then `python3 tests/fuzz/fuzz.py [--seconds 300] [--readers net.h5 ..]`. For
each reader: good files, what libFuzzer makes of them, and after each input the question whether
anything but the project's own errors came out. A crash, an input that takes over 10 seconds or
over 1 GB is written into `--out` and counted; then the fuzzing of that reader goes on.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tabulate import tabulate

HERE = Path(__file__).resolve().parent
SECONDS_EACH, MEGABYTES = 10, 1024


def fuzz_one(name, arguments):
    """LibFuzzer's own loop over one reader; ends with the process."""
    import atheris

    with atheris.instrument_imports(include=["badnet_defense"], enable_loader_override=False):
        from readers import READERS

        from badnet_defense.errors import InputError
        from badnet_defense.sandbox.limits import set_limits
    set_limits(isolate=False)  # in this process, where the branches are counted
    path = f"/dev/shm/fuzz.{os.getpid()}.{name}"

    def test(content):
        with open(path, "wb") as file:
            file.write(content)
        try:
            READERS[name](path)
        except InputError as error:
            assert "\n" not in str(error) and path in str(error)

    atheris.Setup([sys.argv[0], *arguments], test)
    atheris.Fuzz()


def campaign(name, seconds, out):
    """Fuzzes one reader for so long; a row of the table."""
    corpus, found = out / name / "corpus", out / name / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(exist_ok=True)
    end, inputs, paths = time.monotonic() + seconds, 0, 0
    while (left := int(end - time.monotonic())) > 0:
        limits = [f"-max_total_time={left}", f"-timeout={SECONDS_EACH}"]
        limits += [f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={found}/", "-max_len=65536"]
        asked = ["--one", name, str(corpus), *limits, "-print_final_stats=1"]
        done = subprocess.run(
            [sys.executable, __file__, *asked],
            capture_output=True, text=True, errors="replace", cwd=HERE.parents[1],
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        )  # fmt: skip
        runs = re.findall(r"(?:number_of_executed_units:\s*|^#)(\d+)", done.stderr, re.M)
        inputs += int(runs[-1]) if runs else 0
        covered = re.findall(r"\bcov: (\d+)", done.stderr)
        paths = max(paths, int(covered[-1]) if covered else 0)
        (out / name / "last.log").write_text(done.stderr)
    kinds = [one.name.split("-")[0] for one in found.iterdir()]
    counts = {kind: kinds.count(kind) for kind in ("crash", "timeout", "oom")}
    return {"reader": name, "inputs": inputs, "branches": paths,
            "corpus": len(list(corpus.iterdir())), **counts}  # fmt: skip


def main():
    """Fuzzes and prints the table."""
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    from readers import READERS, good_files

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300, help="for each reader")
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=READERS)
    parser.add_argument("--out", type=Path, default=Path("results/fuzz"))
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    for name, contents in good_files().items():
        folder = out / name / "corpus"
        folder.mkdir(parents=True, exist_ok=True)
        for place, content in enumerate(contents):
            (folder / f"good{place}").write_bytes(content)
    rows = []
    for name in arguments.readers:
        rows.append(campaign(name, arguments.seconds, out))
        print(json.dumps(rows[-1]), flush=True)
    print(tabulate(rows, headers="keys", tablefmt="github"))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
