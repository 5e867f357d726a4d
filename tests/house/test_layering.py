"""The rules of the house: who may import whom, and who may print."""

import ast

import pytest
from sources import FILES, PACKAGE, ROOT, imported, part_of, parts_imported, tree

SCRIPTS = {path.stem for path in ROOT.glob("*.py")} | {"eval_sunglasses", "submission"}
GROUND = {"io", "sandbox", "nets", "errors", "registry"}
ALLOWED = {
    "io": GROUND,
    "nets": GROUND,
    "sandbox": GROUND | {"guards"},  # a guard's file is read in the limited process, too
    "parallel": GROUND,
    "evaluation": GROUND,
    "detectors": GROUND | {"evaluation"},
    "guards": GROUND | {"evaluation", "detectors"},
    "scan": GROUND | {"evaluation", "parallel"},
    "repairs": GROUND | {"evaluation", "scan"},  # one repair unlearns what a scan found
    "report": {"errors", "io", "evaluation"},
    "workflows": GROUND
    | {"evaluation", "detectors", "guards", "scan", "repairs", "parallel", "report"},
    "benchmarking": GROUND
    | {"evaluation", "detectors", "guards", "scan", "repairs", "parallel", "report", "workflows"},
}
"""For each part: the others that it may import."""
HEAVY = {"tensorflow", "keras", "matplotlib", "scipy"}
LIGHT = {"io", "nets", "sandbox", "errors", "demo", "cli", "evaluation", "__main__"}
"""Parts whose import must take no time: an image is answered before TensorFlow is imported."""


def of_part(*parts):
    found = [path for path in FILES if part_of(path) in parts]
    assert found, f"no files in {parts}"
    return found


def test_every_part_has_a_rule():
    free = {"attacks", "demo", "cli", "__main__", "__init__", "errors", "registry"}
    assert {part_of(path) for path in FILES} == set(ALLOWED) | free


@pytest.mark.parametrize("part", ALLOWED)
def test_each_part_imports_what_it_may(part):
    for path in of_part(part):
        assert parts_imported(path) <= ALLOWED[part] | {part}, path


def test_no_defence_imports_an_attack_or_the_demo():
    for path in of_part(*ALLOWED):
        assert not parts_imported(path) & {"attacks", "demo"}, path


def test_nobody_imports_the_scripts():
    for path in FILES:
        tops = {name.split(".")[0] for name in imported(ast.walk(tree(path)))}
        assert not tops & SCRIPTS, path


def test_scripts_import_the_package_alone():
    """They parse arguments and call: a screenful, nothing of their own."""
    for path in ROOT.glob("*.py"):
        tops = {name.split(".")[0] for name in imported(ast.walk(tree(path)))}
        assert tops <= {"badnet_defense", "argparse", "pathlib", "sys"}, path
        assert len(path.read_text("utf-8").splitlines()) <= 60, path


def test_only_the_command_line_prints():
    for path in FILES:
        if part_of(path) != "cli":
            for node in ast.walk(tree(path)):
                called = isinstance(node, ast.Call) and getattr(node.func, "id", None)
                assert called != "print", f"{path}:{node.lineno}"


def test_no_bare_except():
    for path in FILES:
        for node in ast.walk(tree(path)):
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path


def test_every_module_says_what_it_is():
    for path in FILES:
        assert ast.get_docstring(tree(path)), path


def test_light_parts_import_nothing_heavy_at_once():
    """An image is answered in less time than TensorFlow alone takes to import."""
    for path in of_part(*LIGHT):
        tops = {name.split(".")[0] for name in imported(tree(path).body)}
        assert not tops & HEAVY, path


def test_a_function_is_read_without_scrolling():
    long = {}
    for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and lines_of(node) > MAX_LINES:
                long[f"{path.relative_to(ROOT)}:{node.name}"] = lines_of(node)
    assert not long


MAX_LINES = 60
"""Of a function, without its docstring."""


def lines_of(function):
    documented = ast.get_docstring(function, clean=False)
    first = function.body[1 if documented and len(function.body) > 1 else 0]
    head = function.body[0].lineno - function.lineno
    return head + function.end_lineno - first.lineno + 1


def test_the_hash_of_the_code_covers_parts_that_are_there():
    from badnet_defense.io.records import _COMPUTING

    for part in _COMPUTING:
        assert list((PACKAGE / part).glob("*.py")), part
