"""Mutants that the tests let through, by cosmic-ray (`pip install cosmic-ray==8.7.0`).

`python3 benchmarks/mutants.py [NAME ..] [--out results/mutants]`: for each of `MODULES` one
operator or number after the other is changed in a copy of the repository's last commit, and the
tests that belong to the module run on it. A mutant is killed where they fail. What survives is
written to <out>/NAME.diff, to be read: some changes change nothing. A run that is stopped goes on
where it was.

TensorFlow takes seconds to start, a test of these modules a tenth of one. So it is imported once,
and each mutant's tests run in a fork of that process.
"""

import argparse
import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/repairs/test_pruning.py -k 'not number_by_number or side_path_only or residual_stem'"
ALONE = "--noconftest -o pythonpath=tests"  # the fixtures that all tests share are slow to import
MODULES = {
    "metrics": ("evaluation/metrics.py", f"{ALONE} tests/evaluation/test_metrics.py"),
    "scores": ("detectors/scores.py", f"{ALONE} tests/detectors/test_detector_scores.py"),
    "calibration": ("detectors/calibration.py", f"{ALONE} tests/detectors/test_calibration.py"),
    "base": ("detectors/base.py", f"{ALONE} tests/detectors/test_base.py"),
    "hard": ("detectors/hard_disagreement.py", f"{ALONE} tests/detectors/test_base.py"),
    "soft": ("detectors/soft_disagreement.py", f"{ALONE} tests/detectors/test_base.py"),
    "disagreement": ("guards/disagreement.py", f"{ALONE} tests/guards/test_disagreement.py"),
    "calibrated": ("guards/calibrated.py", f"{ALONE} tests/guards/test_calibrated.py"),
    "outliers": ("scan/outliers.py", f"{ALONE} tests/scan/test_outliers.py"),
    "augmentation": ("repairs/augmentation.py", f"{ALONE} tests/repairs/test_augmentation.py"),
    "batches": ("repairs/batches.py", f"{ALONE} tests/repairs/test_augmentation.py"),
    "pruning": ("repairs/pruning.py", TESTS),
    "pruning_curve": ("repairs/pruning_curve.py", TESTS),
}
"""Name: the module below badnet_defense, and what pytest is told to run."""
MAX_SECONDS = 90
CONFIG = """[cosmic-ray]
module-path = "badnet_defense/{module}"
timeout = {seconds}
excluded-modules = []
test-command = {command}

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
exclude-operators = [
  "core/ReplaceBinaryOperator_.*_(RShift|LShift|BitOr|BitAnd|BitXor)",
  "core/ReplaceBinaryOperator_(RShift|LShift|BitOr|BitAnd|BitXor)_.*",
  "core/ReplaceUnaryOperator_USub_(Not|Invert)",
  "core/ReplaceComparisonOperator_(Eq|NotEq|Lt|LtE|Gt|GtE)_(Is|IsNot)",
]
"""
"""Left out are operators of bits and of identity in the place of arithmetic: nearly all of them end
in a TypeError at once, and would only make the share of killed mutants look better."""


def main() -> None:
    """Runs the mutants of the named modules and prints how many survived."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", default=list(MODULES), help=", ".join(MODULES))
    parser.add_argument("--out", type=Path, default=Path("results/mutants"))
    asked = parser.parse_args()
    for name in asked.names:
        print(name, dict(run(name, asked.out.resolve() / name)), flush=True)


def run(name: str, folder: Path) -> Counter:
    """{outcome: number of mutants} of one module; the copy and the session stand in `folder`."""
    module, tests = MODULES[name]
    server, session = folder / "server", folder / f"{name}.sqlite"
    if not session.exists():
        folder.mkdir(parents=True, exist_ok=True)
        files = subprocess.run(
            ["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "x"], cwd=folder, check=True, input=files.stdout)
        client = [sys.executable, "-S", str(Path(__file__).resolve()), "--client", str(server)]
        command = json.dumps(f"{shlex.join(client)} -x {tests}")
        config = CONFIG.format(module=module, seconds=float(MAX_SECONDS), command=command)
        (folder / "mutants.toml").write_text(config)
        cosmic_ray(folder, "cosmic-ray", "init", "mutants.toml", session.name)
        cosmic_ray(folder, "cr-filter-operators", session.name, "mutants.toml")
    serving = subprocess.Popen(
        [sys.executable, __file__, "--server", server], cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        while not server.exists():
            time.sleep(0.1)
        cosmic_ray(folder, "cosmic-ray", "baseline", "mutants.toml")  # all tests pass unchanged
        cosmic_ray(folder, "cosmic-ray", "exec", "mutants.toml", session.name)
    finally:
        serving.terminate()
        server.unlink(missing_ok=True)
    report = cosmic_ray(folder, "cr-report", "--show-diff", "--surviving-only", session.name)
    (folder.parent / f"{name}.diff").write_text(report)
    found = sqlite3.connect(session).execute(
        "select worker_outcome, test_outcome from work_results"
    )
    return Counter(test or worker for worker, test in found)


def cosmic_ray(folder: Path, *command: str) -> str:
    """What one of cosmic-ray's commands prints; it is started beside this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, check=True, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


def serve(path: str) -> None:
    """Imports what is slow, then runs pytest in a fork for each client."""
    sys.dont_write_bytecode = True  # a mutant of the same size and second would be taken for it
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    import hypothesis  # noqa: F401
    import keras  # noqa: F401
    import scipy.stats  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                break
            client.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os._exit(test(client))


def test(client: socket.socket) -> int:
    """Runs what a client asks for in a process group of its own, and tells it the exit code."""
    import pytest

    os.setsid()
    sys.path.insert(0, os.getcwd())
    client.sendall(f"{os.getpid()}\n".encode())
    plain = ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-q"]
    code = int(pytest.main([*plain, *json.loads(client.makefile().readline())]))
    client.sendall(f"{code}\n".encode())
    return code


def ask(path: str, arguments: list[str]) -> int:
    """The exit code of pytest with these arguments on the files as they are now."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        server.sendall(f"{json.dumps(arguments)}\n".encode())
        answers = server.makefile()
        group = int(answers.readline())
        server.settimeout(MAX_SECONDS - 5)
        try:
            return int(answers.readline() or 1)  # a mutant may end its process
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            return 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--server"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["--client"]:
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
    else:
        main()
