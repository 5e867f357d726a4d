"""What must be installed is what is imported, each with a lower and an upper bound."""

import re
import sys
from pathlib import Path

import pytest
from sources import FILES, imported, tree

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"pillow": "PIL"}
LINES = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line]


def roots():
    """The first names of all modules that the package and the scripts import."""
    import ast

    files = [*FILES, *ROOT.glob("*.py")]
    return {name.split(".")[0] for path in files for name in imported(ast.walk(tree(path)))}


@pytest.mark.parametrize("line", LINES)
def test_each_is_used_and_bounded(line):
    name, bounds = re.fullmatch(r"([\w-]+)(.*)", line).groups()
    assert NAMES.get(name, name) in roots()
    assert re.fullmatch(r">=[\d.]+,<[\d.]+", bounds), line


def test_nothing_else_is_imported():
    optional = {"tf2onnx", "onnxruntime", "ray", "jax"}
    listed = {NAMES.get(name, name) for name in (re.match(r"[\w-]+", line)[0] for line in LINES)}
    foreign = roots() - set(sys.stdlib_module_names) - {"badnet_defense"}
    assert foreign - optional <= listed
