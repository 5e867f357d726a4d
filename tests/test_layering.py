"""The rules of the house: who may import whom, and who may print."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "badnet_defense"
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = {path.stem for path in ROOT.glob("*.py")} | {"eval_sunglasses", "submission"}
GROUND = {"data", "nets", "errors"}
HEAVY = {"tensorflow", "keras", "matplotlib", "scipy"}


def part_of(path):
    """The package's part that a file belongs to: `data`, `nets`, .. or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(nodes):
    """Full names of the modules that the `import` statements among `nodes` name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layers"
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def tree(path):
    return ast.parse(path.read_text("utf-8"))


def parts_imported(path):
    """The package's parts that a file imports, anywhere in it."""
    names = [name.split(".") for name in imported(ast.walk(tree(path)))]
    return {name[1] for name in names if name[0] == "badnet_defense" and len(name) > 1}


def of_part(*parts):
    found = [path for path in FILES if part_of(path) in parts]
    assert found, f"no files in {parts}"
    return found


def test_the_parts_are_there():
    parts = {part_of(path) for path in FILES}
    assert {"data", "nets", "repair", "guard", "attack", "demo", "measure", "report"} <= parts


@pytest.mark.parametrize("path", of_part("data", "nets"), ids=lambda path: path.stem)
def test_ground_floor_stands_on_itself(path):
    allowed = {"data", "errors"} if part_of(path) == "data" else GROUND
    assert parts_imported(path) <= allowed


def test_no_defence_knows_an_attack_or_the_demo():
    defences = [path for path in FILES if part_of(path) in {"repair", "guard", "scan", "measure"}]
    for path in [*defences, *of_part("runs", "report")]:
        assert not parts_imported(path) & {"attack", "demo"}, path


def test_repairs_and_guards_stand_on_nets_data_and_measure():
    for path in FILES:
        part = part_of(path)
        if part in {"repair", "guard", "scan"}:
            allowed = GROUND | {"measure", part} | ({"engine"} if part == "scan" else set())
            assert parts_imported(path) <= allowed, path


def test_engines_know_no_defence():
    for path in of_part("engine"):
        assert parts_imported(path) <= GROUND | {"engine"}, path


def test_report_computes_nothing():
    for path in of_part("report"):
        assert not parts_imported(path) & {"nets", "repair", "guard", "measure", "attack"}, path


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


def test_only_the_console_prints():
    for path in FILES:
        if path.relative_to(PACKAGE).as_posix() in {
            "console.py",
            "commands.py",
            "compare_commands.py",
            "audit_commands.py",
            "guard_commands.py",
        }:
            continue
        for node in ast.walk(tree(path)):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", None)
            assert called != "print", f"{path}:{node.lineno}"


def test_no_bare_except():
    for path in FILES:
        for node in ast.walk(tree(path)):
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path


def test_every_module_says_what_it_is():
    for path in FILES:
        if path.read_text("utf-8").strip():
            assert ast.get_docstring(tree(path)), path


def test_ground_floor_and_drawing_import_nothing_heavy_at_once():
    """A picture is answered in three seconds, which is what TensorFlow alone takes to import."""
    light = {
        "data",
        "nets",
        "errors",
        "demo",
        "console",
        "commands",
        "compare_commands",
        "audit_commands",
        "guard_commands",
        "runs",
        "__main__",
        "measure",
    }
    heavy_runs = {"repairing.py", "judging.py"}  # these import TensorFlow's users, when called
    for path in FILES:
        if part_of(path) in light and path.name not in heavy_runs:
            tops = {name.split(".")[0] for name in imported(tree(path).body)}
            assert not tops & HEAVY, path
