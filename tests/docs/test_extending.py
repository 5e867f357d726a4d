"""The example package of docs/extending.md, as a user would install it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extending.md").read_text("utf-8")
CALL = """
from badnet_defense.nets import deep_id, describe
from badnet_defense.repairs import REPAIRS

net = describe(deep_id(classes=5))
method = REPAIRS["weight-clipping"]
repaired, report = method.run(net, None, config=method.make_config({"quantile": 0.5}))
before, after = (abs(one.layers["conv_1"].weights[0]).max() for one in (net, repaired))
print(list(REPAIRS.names())[-1], report["layers"] == len(net.layers), after < before)
"""


def block(language, words):
    """The code block of the page that contains some words."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (one,) = [code for code in found if words in code]
    return one


def installed(folder):
    """Puts the example into a folder as pip would: its module, and its entry points."""
    (folder / "weight_clipping.py").write_text(block("python", "@REPAIRS.register"))
    points = block("toml", "[project.entry-points")
    about = folder / "weight_clipping-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: weight-clipping\nVersion: 0.1\n")
    group, line = re.search(r'\[project\.entry-points\."(.+)"\]\n(.+)\n', points).groups()
    (about / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, *command],
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_s_repair_is_one_of_the_repairs(tmp_path):
    installed(tmp_path)
    assert run(tmp_path, "-c", CALL).split() == ["weight-clipping", "True", "True"]


def test_the_command_line_lists_it(tmp_path):
    installed(tmp_path)
    told = run(tmp_path, "-m", "badnet_defense", "audit", "--help")
    assert "weight-clipping" in told


def test_the_example_is_short():
    assert len(block("python", "@REPAIRS.register").splitlines()) <= 32
