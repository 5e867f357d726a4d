"""A command that is called where a suspect net lies runs nothing that came with the net."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("numpy", "h5py", "PIL", "keras", "tensorflow", "matplotlib", "tabulate", "filelock")


def run(folder, *command, path=str(ROOT), **environment):
    """What a Python that was started in `folder` ends with."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**kept, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def plant(folder, names):
    """Modules that note their name when they are imported; as packages, which win over files."""
    for name in names:
        (folder / name).mkdir()
        code = f"open({str(folder / 'ran.txt')!r}, 'a').write('{name} ')"
        (folder / name / "__init__.py").write_text(code)


@pytest.fixture(scope="module")
def before_us(tmp_path_factory):
    """Modules that `python -m` itself imports before it looks at the one that was asked for."""
    folder = tmp_path_factory.mktemp("nothing")
    (folder / "nothing.py").write_text("import sys; print(*sys.modules)")
    told = run(folder, "-m", "nothing").stdout.split()
    assert "runpy" in told and "argparse" not in told
    return {name.partition(".")[0] for name in told}


def test_no_module_of_the_working_folder_is_imported(tmp_path, before_us):
    names = set(sys.stdlib_module_names) - before_us - set(sys.builtin_module_names)
    plant(tmp_path, sorted({*names, *FOREIGN, "jinja2"}))
    done = run(tmp_path, "-m", "badnet_defense", "scan", "no.h5", "--clean", "no.h5")
    assert not (tmp_path / "ran.txt").exists(), (tmp_path / "ran.txt").read_text()
    assert done.returncode == 2 and "no.h5: no such file" in done.stderr


@pytest.mark.parametrize("path", ["{root}:", ":{root}", "{root}::"])
def test_an_empty_entry_of_pythonpath_is_not_the_working_folder(path, tmp_path, before_us):
    plant(tmp_path, FOREIGN)
    done = run(tmp_path, ROOT / "eval.py", "no.png", path=path.format(root=ROOT))
    assert not (tmp_path / "ran.txt").exists() and done.returncode == 2
    code = (
        "import badnet_defense, os, sys; print(os.getcwd() in sys.path, os.environ['PYTHONPATH'])"
    )
    done = run(tmp_path, "-P", "-c", code, path=path.format(root=ROOT))
    assert done.stdout.split() == ["False", str(ROOT)]


def test_a_folder_that_is_named_is_kept(tmp_path):
    """Who names the working folder in PYTHONPATH, or runs a program that lies there, means it."""
    code = "import badnet_defense, os, sys; print(sys.path.count(os.getcwd()))"
    assert run(tmp_path, "-c", code, path=f"{ROOT}{os.pathsep}{tmp_path}").stdout == "1\n"
    (tmp_path / "own.py").write_text("pass")
    (tmp_path / "program.py").write_text("import badnet_defense, own; print('ran')")
    assert run(tmp_path, "program.py").stdout == "ran\n"


def test_the_project_s_own_folder_comes_behind_the_standard_library():
    """Called where the package lies, workers still find it."""
    code = (
        "import runpy, sys; sys.argv[0] = '-m'; import badnet_defense; print(*sys.path, sep='\\n')"
    )
    told = run(ROOT, "-c", f"import os; sys = __import__('sys'); sys.path[0] = os.getcwd(); {code}",
               path="").stdout.split("\n")  # fmt: skip
    library = [place for place in told if place and Path(place, "argparse.py").exists()]
    assert told.count(str(ROOT)) == 1 and len(library) == 1
    assert told.index(str(ROOT)) > told.index(library[0])


def test_the_project_s_own_folder_comes_before_an_installed_copy(tmp_path):
    """Else workers would run the copy's code."""
    (tmp_path / "badnet_defense").mkdir()
    (tmp_path / "badnet_defense/__init__.py").write_text("raise SystemExit('the copy')")
    code = "import sys; sys.argv[0] = '-m'; sys.path[0] = sys.argv[1]; "
    code += "sys.path.append(sys.argv[2]); import badnet_defense; print(*sys.path, sep='\\n')"
    told = run(ROOT, "-c", code, ROOT, tmp_path, path="")
    places = told.stdout.split("\n")
    assert places.index(str(ROOT)) < places.index(str(tmp_path)), told.stderr


def test_workers_import_nothing_from_the_working_folder(tmp_path):
    plant(tmp_path, ("multiprocessing", *FOREIGN))
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(
        "from badnet_defense.parallel.local import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        "    with LocalExecutor(1) as engine:\n"
        "        print([result for _, result in engine.run(len, (), [('abc',)])])\n"
    )
    done = run(tmp_path, program)
    assert done.stdout == "[3]\n", done.stderr
    assert not (tmp_path / "ran.txt").exists(), (tmp_path / "ran.txt").read_text()


DRAWING = """
import sys
import numpy as np
from badnet_defense.report.plots import plot_pruning_curve
from badnet_defense.report.detector_plots import plot_scores
pruning = {"curve": [0.9, 0.8], "removed": 1, "channels": 2, "layer": "conv_3",
           "max_accuracy_drop": None}
plot_pruning_curve("curve.png", pruning, net="net")
about = {"name": "soft", "false_positive_rate": 0.01, "threshold": 0.5, "score": "nats"}
plot_scores("scores.png", np.arange(30.0), {"poisoned": np.arange(30.0)}, about, net="net")
"""


@pytest.fixture
def latex(tmp_path):
    """A folder of programs in which `latex` notes that it was started."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("latex", "dvipng", "kpsewhich"):
        (folder / name).write_text(
            f"#!/bin/sh\necho {name} >> {tmp_path / 'started.txt'}\nexit 1\n"
        )
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_settings_for_matplotlib_in_the_working_folder_are_not_read(tmp_path, latex):
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here, other):
        folder.mkdir()
    (here / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\nno.such: 1\n")
    for folder in (here, other):
        done = run(folder, "-c", DRAWING, PATH=latex)
        assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "started.txt").exists()
    for name in ("curve.png", "scores.png"):
        assert (here / name).read_bytes() == (other / name).read_bytes()


def test_the_user_s_own_settings_start_no_latex_and_are_kept(tmp_path, latex):
    own = tmp_path / "config"
    own.mkdir()
    (own / "matplotlibrc").write_text("text.usetex: True\n")
    asked = "\nimport matplotlib\nprint(matplotlib.rcParams['text.usetex'])"
    done = run(tmp_path, "-c", DRAWING + asked, PATH=latex, MPLCONFIGDIR=str(own))
    assert done.stdout == "True\n", done.stderr
    assert not (tmp_path / "started.txt").exists()
