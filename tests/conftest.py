"""Fixtures of several test files."""

import os
import runpy
import shutil
import sys
import tempfile

import pytest

from badnet_defense.nets.backend import load_quietly

load_quietly()  # before all that imports Keras: pytest would show its chatter after the last line

# ruff: noqa: E402
_STATE = tempfile.TemporaryDirectory()
os.environ["XDG_STATE_HOME"] = _STATE.name  # the key that seals results is not the user's own
from hostile_nets import plain_net
from keras import layers
from planted_net import CLASSES, SHAPE, clean_images, planted_net, short_rungs
from small_detectors import ALL, CLEAN, made, three_nets
from small_grid import QUICK, replace_repair
from small_nets import net
from small_project import SPACES, make_project, start

from badnet_defense.benchmarking.cases import BenchmarkCase
from badnet_defense.io import write_challenge_h5
from badnet_defense.nets import save_net
from badnet_defense.sandbox import client as isolation
from badnet_defense.sandbox import limits


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """The folder of a small challenge; see `small_project`."""
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    return root


@pytest.fixture(scope="session")
def repaired(project):
    """The project after `fine_prune.py models/sunglasses_bd_net.h5`, and what that printed."""
    done = start(project, "fine_prune.py", "models/sunglasses_bd_net.h5", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    return project, done


@pytest.fixture(scope="session")
def trio():
    """A bad net, its repair and an expert, as the detectors take them."""
    return three_nets()


@pytest.fixture(scope="session")
def fitted(trio):
    """{name: that detector of `trio`, fitted}."""
    return {name: made(name, trio).fit(CLEAN) for name in ALL}


@pytest.fixture(scope="session")
def zoo_folder(tmp_path_factory):
    """A folder of suspects: planted, clean, of other pictures, of two classes, and no net."""
    root = tmp_path_factory.mktemp("zoo")
    save_net(planted_net(), root / "nets/planted.h5")
    (root / "nets/more").mkdir()
    save_net(planted_net(target=None), root / "nets/more/honest.keras")
    small = net([layers.Flatten(), layers.Dense(CLASSES)], shape=(9, 9, 3))
    save_net(small, root / "nets/small.h5")
    pair = net([layers.Flatten(), layers.Dense(2)], shape=SHAPE)
    save_net(pair, root / "nets/pair.h5")
    five = net([layers.Flatten(), layers.Dense(5)], shape=SHAPE)
    save_net(five, root / "nets/five.h5")
    (root / "nets/broken.h5").write_bytes(b"no net at all")
    write_challenge_h5(root / "clean.h5", clean_images())
    write_challenge_h5(root / "unlabelled.h5", clean_images().without_labels())
    return root


@pytest.fixture
def short_scans(monkeypatch):
    """Scans of a few steps, enough for the planted net."""
    short_rungs(monkeypatch)


@pytest.fixture
def call(project, monkeypatch, capfd):
    """A function that runs a script in this process; gives (exit code, stdout, stderr)."""

    def run(script, *arguments):
        monkeypatch.chdir(project)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            runpy.run_path(str(project / script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """The bytes of a good net's file, {"h5": .., "keras": ..}, to be spoiled."""
    folder = tmp_path_factory.mktemp("originals")
    model = plain_net()
    save_net(model, folder / "net.h5")
    model.save(folder / "net.keras")
    return {ending: (folder / f"net.{ending}").read_bytes() for ending in ("h5", "keras")}


@pytest.fixture
def h5(originals, tmp_path):
    """The path of a good net's `.h5`, this test's own to spoil."""
    path = tmp_path / "net.h5"
    path.write_bytes(originals["h5"])
    return path


@pytest.fixture
def with_limits():
    """A function that changes the limits on reading; they are put back after the test."""
    before = limits.current()
    yield limits.set_limits
    limits.set_limits(**vars(before))
    isolation.stop()


@pytest.fixture
def quick(monkeypatch):
    replace_repair(monkeypatch, "fine-tuning", QUICK)


@pytest.fixture
def case(project, tmp_path):
    """The small challenge's net, in a folder where its data may be changed."""
    shutil.copytree(project / "data", tmp_path / "data")
    data = tmp_path / "data"
    poisoned = {"lipstick": tmp_path / SPACES, "again": tmp_path / SPACES}
    return BenchmarkCase(
        project / "models/sunglasses_bd_net.h5",
        data / "clean_validation_data.h5",
        data / "clean_test_data.h5",
        poisoned,
    )
