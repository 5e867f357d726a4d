"""The example package of docs/extending.md, as a user would install it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extending.md").read_text("utf-8")
REPAIR = """
from badnet_defense.nets import deep_id, describe
from badnet_defense.repairs import REPAIRS

net = describe(deep_id(classes=5))
method = REPAIRS["weight-clipping"]
repaired, report = method.run(net, None, config=method.make_config({"quantile": 0.5}))
before, after = (abs(one.layers["conv_1"].weights[0]).max() for one in (net, repaired))
print(list(REPAIRS.names())[-1], report["layers"] == len(net.layers), after < before)
"""
DETECTOR = """
import numpy as np
from badnet_defense.detectors import DETECTORS, make_detector
from badnet_defense.nets import deep_id, describe

net = describe(deep_id(classes=5))
images = np.random.default_rng(0).integers(0, 256, (40, 55, 47, 3), "uint8")
detector = make_detector("margin", {"suspect": net}, false_positive_rate=0.1).fit(images)
ordered = np.sort(np.log(net.predict_proba(images)), axis=1)
scores = ordered[:, -1] - ordered[:, -2]
print(
    list(DETECTORS.names())[-1],
    np.allclose(detector.anomaly_score(images), scores, atol=1e-4),
    (detector.predict(images) == 5).sum(),
)
"""


def block(language, words):
    """The code block of the page that contains some words."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (one,) = [code for code in found if words in code]
    return one


def installed(folder, module, words):
    """Puts an example into a folder as pip would: its module, and its entry points."""
    (folder / f"{module}.py").write_text(block("python", words))
    group, line = re.search(
        rf'\[project\.entry-points\."(.+)"\]\n(.+ = "{module}")\n', PAGE
    ).groups()
    about = folder / f"{module}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 0.1\n")
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
    installed(tmp_path, "weight_clipping", "@REPAIRS.register")
    assert run(tmp_path, "-c", REPAIR).split() == ["weight-clipping", "True", "True"]


def test_the_command_line_lists_it(tmp_path):
    installed(tmp_path, "weight_clipping", "@REPAIRS.register")
    assert "weight-clipping" in run(tmp_path, "-m", "badnet_defense", "repair", "--help")


def test_the_example_s_detector_is_one_of_the_detectors(tmp_path):
    """Of 40 images four may be flagged at a rate of 0.1; a threshold takes one more."""
    installed(tmp_path, "margin_detector", "@DETECTORS.register")
    name, equal, flagged = run(tmp_path, "-c", DETECTOR).split()
    assert (name, equal) == ("margin", "True") and int(flagged) == 3


def test_the_examples_are_short():
    for words in ("@REPAIRS.register", "@DETECTORS.register"):
        assert len(block("python", words).splitlines()) <= 32
