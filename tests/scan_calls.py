"""The scan command, called in this process on a planted net."""

import contextlib
import io
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from planted_net import TARGET, clean_images, planted_net, planted_trigger, short_rungs
from small_grid import replace_repair

from badnet_defense.cli import console
from badnet_defense.cli.main import main
from badnet_defense.evaluation.stamping import stamp
from badnet_defense.io import write_challenge_h5
from badnet_defense.nets import save_net
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.scan_unlearning import ScanUnlearningConfig, unlearn

ENDINGS = ("json", "norms.png", "npz", "triggers.png")
"""Of what a scan writes."""
RECIPE = Recipe(optimizer="amsgrad", learning_rate=0.05, epochs=40, batch_size=64, clip=1.0)
"""For a net whose weights were set by hand, and are large."""


@dataclass(frozen=True, kw_only=True)
class QuickUnlearning(ScanUnlearningConfig):
    tuning: Recipe = RECIPE


def called(start, name, arguments):
    """(exit code, stdout, stderr) of a script's `start` here, with short rungs and `RECIPE`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        short_rungs(patch)
        replace_repair(patch, "scan-unlearning", unlearn, config=QuickUnlearning)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                start()
            except SystemExit as stop:
                code = stop.code or 0
    return code, out.getvalue(), err.getvalue()


def scan(*arguments):
    """The command `scan`."""
    return called(lambda: console.run(main), "badnet_defense", ["scan", *arguments])


def names(folder):
    """The names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def fill(root):
    """A planted net and its pictures; the same net for pixels in 0-255, and its pictures."""
    save_net(planted_net(), root / "net.h5")
    save_net(planted_net(span=255.0), root / "raw.h5")
    clean = clean_images(160)
    write_challenge_h5(root / "clean.h5", clean)
    write_challenge_h5(root / "unlabelled.h5", clean.without_labels())
    poisoned = clean_images(80, seed=3)
    poisoned = poisoned.subset(poisoned.labels != TARGET)
    poisoned.images[:] = np.rint(stamp(poisoned.images, *planted_trigger()))
    poisoned.labels[:] = TARGET
    write_challenge_h5(root / "poisoned.h5", poisoned)
