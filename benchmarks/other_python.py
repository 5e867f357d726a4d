"""Runs a script in another Python, where packages may be older than the project's."""

import json
import os
import subprocess
from pathlib import Path

from badnet_defense.errors import InputError


def figures_of(python, script, *arguments):
    """The JSON that a script prints last, as a dict.

    Args:
        python: the other Python.
        script: its path.
        arguments: paths and words for it.

    Raises:
        InputError: it fails, or prints nothing.
    """
    done = subprocess.run(
        [python, script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        told = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise InputError(f"{python}: the toolbox did not run: {told}")
    return json.loads(lines[-1])
