"""Kills runs at random moments, and looks whether anything was lost.

`python3 benchmarks/kills.py [--kills 15]`: for fine_prune.py, scan, compare and the demo's drawing,
on a small challenge: each run is killed (SIGKILL) at a random moment; whatever stands under a final
name must be whole; at last a run goes to its end (and so does one that was quicker than its kill),
must give what an undisturbed one gave, and must have cleaned up after the killed ones.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

DATA = ["--clean-validation", "data/clean_validation_data.h5"]
DRAW = (
    "from badnet_defense.demo import make_challenge; make_challenge({out!r}, people=40, workers=1)"
)
COMMANDS = {
    "fine_prune.py": [
        "fine_prune.py", "models/sunglasses_bd_net.h5", "--epochs", "4", "--out", "{out}",
    ],
    "scan": [
        "-m", "badnet_defense", "scan", "models/sunglasses_bd_net.h5", "--clean",
        "data/clean_validation_data.h5", "--out", "{out}/net",
    ],
    "compare": [
        "-m", "badnet_defense", "compare", "--nets",
        "models/sunglasses_bd_net.h5=data/Multi-trigger Multi-target/lipstick poisoned.h5",
        "--repairs", "magnitude-pruning", "--detectors", "hard", "sentinet",
        "--false-positive-rate", "0.2", "--out", "{out}",
    ],
    "demo": ["-c", DRAW],
}  # fmt: skip
"""What is run, in the small challenge's folder."""
CHANGING = ("seconds", "per_second", "file", "png", "seal")


def started(folder, name, out):
    """A run as a process."""
    return subprocess.Popen(
        [sys.executable, *(part.replace("{out!r}", repr(out)).replace("{out}", out)
                           for part in COMMANDS[name])],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finals(out):
    """Every file under a final name below `out`."""
    files = (path for path in Path(out).rglob("*") if path.is_file())
    return sorted(path for path in files if ".partial" not in str(path.relative_to(out)))


def leftovers(out):
    """Every file that a run leaves only when it is killed."""
    files = (path for path in Path(out).rglob("*") if path.is_file())
    return sorted(path for path in files if ".partial" in str(path.relative_to(out)))


def content(path):
    """What a file holds, but for seconds and paths; raises where it is not whole."""
    from PIL import Image

    from badnet_defense.guards.reading import read_guard
    from badnet_defense.io import read_images
    from badnet_defense.nets import read_net

    ending = path.suffix
    if ending == ".json":
        return _digest(json.dumps(_lasting(json.loads(path.read_text())), sort_keys=True).encode())
    if ending == ".npz":
        with np.load(path) as arrays:
            return _digest(*(arrays[name].tobytes() for name in sorted(arrays)))
    if ending == ".png":
        with Image.open(path) as image:
            return _digest(np.asarray(image).tobytes())
    if ending == ".keras":
        nets = read_guard(path).nets.values()
        return _digest(*(array.tobytes() for net in nets for array in _arrays(net)))
    if ending == ".h5" and "data" in path.stem:
        images = read_images(path, shape=(55, 47, 3))
        return _digest(images.images.tobytes(), images.labels.tobytes())
    if ending == ".h5":
        return _digest(*(array.tobytes() for array in _arrays(read_net(path))))
    text = path.read_text()
    assert ending != ".html" or text.rstrip().endswith("</html>"), f"{path} is cut off"
    return None  # the page and the CSV hold seconds


def whole(out):
    """{path below `out`: what the file holds}."""
    return {path.relative_to(out): content(path) for path in finals(out)}


def _arrays(net):
    return (array for layer in net.layers.values() for array in layer.weights)


def _digest(*parts):
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _lasting(value):
    """A result without what differs from run to run."""
    if isinstance(value, dict):
        kept = (key for key in value if not any(word in key for word in CHANGING))
        return {key: _lasting(value[key]) for key in kept}
    return [_lasting(one) for one in value] if isinstance(value, list) else value


def names_in(out):
    """Names and sizes of all that is there now."""
    found = set()
    for path in Path(out).rglob("*"):
        with contextlib.suppress(OSError):
            found.add((str(path), path.stat().st_size))
    return found


def wait(run, seconds):
    """Waits so long, or until the run ends."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(seconds)


def trial(folder, name, kills, rng):
    """(kills, files looked at, files lost, leftovers seen) of one command."""
    begin = time.monotonic()
    undisturbed = started(folder, name, "whole")
    assert undisturbed.wait() == 0, undisturbed.stderr.read()
    length = time.monotonic() - begin
    expected, same = whole(folder / "whole"), True
    counts = {"killed": 0, "ended before": 0, "looked at": 0, "lost": 0, "left": 0}
    for kill in range(kills):
        before = names_in(folder / "killed")
        run = started(folder, name, "killed")
        if kill % 2:  # at any moment
            wait(run, rng.uniform(0.1, 1) * length)
        else:  # soon after a file has come or gone
            while run.poll() is None and names_in(folder / "killed") == before:
                time.sleep(0.002)
            wait(run, rng.uniform(0, 0.3))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            counts["killed"] += 1
        else:
            counts["ended before"] += 1
            same &= whole(folder / "killed") == expected
            shutil.rmtree(folder / "killed")  # or the next ones would have nothing to do
        counts["left"] += bool(leftovers(folder / "killed"))
        for path in finals(folder / "killed"):
            counts["looked at"] += 1
            try:
                content(path)
            except Exception as error:  # noqa: BLE001 counted and told
                counts["lost"] += 1
                print(f"{name}, kill {kill}: {path}: {error}", file=sys.stderr)
    last = started(folder, name, "killed")
    assert last.wait() == 0, last.stderr.read()
    same &= whole(folder / "killed") == expected
    return {"command": name, "seconds": round(length, 1), **counts, "same result": same,
            "left at the end": len(leftovers(folder / "killed"))}  # fmt: skip


def main():
    """Runs all and prints the table."""
    from small_project import make_project

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=15, help="of each command")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, rows = np.random.default_rng(arguments.seed), []
    for name in arguments.commands:
        with tempfile.TemporaryDirectory() as folder:
            make_project(Path(folder))
            rows.append(trial(Path(folder), name, arguments.kills, rng))
            print(json.dumps(rows[-1]), flush=True)
    print(tabulate(rows, headers="keys", tablefmt="github"))


if __name__ == "__main__":
    main()
