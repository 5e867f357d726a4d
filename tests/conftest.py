"""Fixtures of several test files."""

import runpy
import sys

import pytest
from hostile_nets import plain_net
from small_detectors import ALL, CLEAN, made, three_nets
from small_project import make_project, start

from badnet_defense.data import isolation, limits
from badnet_defense.nets import save_net


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
