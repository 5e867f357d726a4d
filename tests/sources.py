"""The package's source files and what they import."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "badnet_defense"
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    """The package's part that a file belongs to: `io`, `nets`, .. or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree(path):
    return ast.parse(path.read_text("utf-8"))


def imported(nodes):
    """Full names of the modules that the `import` statements among `nodes` name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layers"
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def parts_imported(path):
    """The package's parts that a file imports, anywhere in it."""
    names = [name.split(".") for name in imported(ast.walk(tree(path)))]
    return {name[1] for name in names if name[0] == "badnet_defense" and len(name) > 1}
