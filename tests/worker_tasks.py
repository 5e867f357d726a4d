"""Tasks for the tests of the executors: functions that workers import by name."""

import os
import signal
import time
from pathlib import Path

from tqdm import tqdm

from badnet_defense.errors import TooLargeError
from badnet_defense.sandbox.limits import current


def scaled(factor, number):
    return factor * number


def limits():
    return vars(current())


def process():
    return os.getpid()


def refused(number):
    raise TooLargeError(f"{number} is too large.")


def lost_once(folder, number):
    """Kills its own process the first time that it comes to number 3."""
    mark = Path(folder) / "killed"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def lost_but(number):
    """Kills its own process, but for number 0."""
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def lost():
    os.kill(os.getpid(), signal.SIGKILL)


def threads():
    return os.environ["TF_NUM_INTRAOP_THREADS"], os.environ["OMP_NUM_THREADS"]


def slow(number):
    time.sleep(0.4)
    return number


def held(folder):
    """Notes that it has begun, and waits until it is told that it is enough."""
    (Path(folder) / f"begun.{time.monotonic_ns()}").touch()
    while not (Path(folder) / "enough").exists():
        time.sleep(0.05)
    return "done"


def counted(number):
    return sum(1 for _ in tqdm(range(number), disable=None))
