"""The order of dependencies, as CONTRIBUTING.md draws it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import pingdata_async

PACKAGE = Path(pingdata_async.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
FILES = sorted(PACKAGE.rglob("*.py"))

STRANGERS = [
    ("api", "tables"),
    ("results", "tables"),
    ("tables.readers", "tables.writers"),
]
USERS_OF_AIOHTTP = {
    "api.connections",
    "api.transport",
    "cli.metrics",
    "sandbox.downloads",
    "sandbox.server",
}


class Layer(NamedTuple):
    """Where a package stands.

    Attributes:
        height: Of its line, from the bottom.
        group: Those that may import each other.
    """

    height: int
    group: str


def _drawn_layers() -> dict[str, Layer]:
    drawing = re.search(r"```layers\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL)
    assert drawing
    lines = drawing[1].splitlines()
    return {
        package: Layer(len(lines) - number, group)
        for number, line in enumerate(lines)
        for group in re.split(r"\s{2,}", line)
        for package in group.split(" + ")
    }


LAYERS = _drawn_layers()


def _module(path: Path) -> str:
    names = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(
        names if names == ("__init__",) else names[: -(names[-1] == "__init__")] or names
    )


def _package(module: str) -> str:
    """The longest prefix that the drawing has."""
    names = module.split(".")
    prefixes = [".".join(names[:number]) for number in range(len(names), 0, -1)]
    return next(prefix for prefix in prefixes if prefix in LAYERS)


def _is_of(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


class Import(NamedTuple):
    """An import of a module.

    Attributes:
        name: What is imported, with the package's own name before it.
        is_for_types: Whether only type checkers see it.
        is_late: Whether it is inside a function.
    """

    name: str
    is_for_types: bool
    is_late: bool


@functools.cache
def _imports(path: Path) -> Sequence[Import]:
    return list(_found_imports(path))


def _found_imports(path: Path) -> Iterator[Import]:
    to_look_at: list[tuple[ast.AST, bool, bool]] = [
        (ast.parse(path.read_text(encoding="utf-8")), False, False)
    ]
    while to_look_at:
        node, is_for_types, is_late = to_look_at.pop()
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.append(inner if inner in MODULES else str(node.module))
        for name in names:
            yield Import(name, is_for_types, is_late)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                is_late = True
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                is_for_types = True
        # Nothing is imported within an expression.
        to_look_at += [
            (inner, is_for_types, is_late)
            for inner in ast.iter_child_nodes(node)
            if not isinstance(inner, ast.expr)
        ]


MODULES = {f"pingdata_async.{_module(path)}": path for path in FILES}


def _own_imports(path: Path) -> Iterator[tuple[str, Import]]:
    """What a module imports of the package."""
    for found in _imports(path):
        root, _, name = found.name.partition(".")
        if root == "pingdata_async":
            yield name or "__init__", found


def test_modules_import_only_from_below() -> None:
    """From its own package or a lower line, never sideways or up, also inside functions."""
    for module, (name, found) in (
        (_module(path), each) for path in FILES for each in _own_imports(path)
    ):
        if _is_of(module, "sandbox"):
            assert _is_of(name, "sandbox"), f"{module} shares code with the rest: {name}"
            continue
        if _is_of(name, "sandbox"):
            is_client = module == "api.client_task" and found.is_late
            assert is_client or _is_of(module, "cli"), f"{module} imports {name}"
            continue
        if (module, name, found.is_for_types) == ("exceptions", "models", True):
            continue
        if module == "models" and _is_of(name, "report"):
            assert found.is_late, f"{module} imports {name}"
            continue
        own, other = LAYERS[_package(module)], LAYERS[_package(name)]
        assert other == own or other.height < own.height, f"{module} imports {name}"
        for one, another in STRANGERS:
            assert not (_is_of(module, one) and _is_of(name, another)), f"{module}: {name}"
            assert not (_is_of(module, another) and _is_of(name, one)), f"{module}: {name}"


def test_no_circle_of_modules() -> None:
    """Whatever is imported at the top of a module does not lead back to it."""
    needs = {
        _module(path): {
            name
            for name, found in _own_imports(path)
            if not found.is_for_types and not found.is_late
        }
        for path in FILES
    }
    while free := {module for module, needed in needs.items() if not needed & needs.keys()}:
        for module in free:
            del needs[module]
    assert not needs, f"they import each other: {sorted(needs)}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name == "__init__.py"], ids=_module
)
def test_a_package_begins_with_its_table_of_contents(path: Path) -> None:
    """A docstring that names each module beside it, and no import: every start would pay for it."""
    if path.parent == PACKAGE:
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        line.split()[0].rstrip("/") for line in (ast.get_docstring(tree) or "").splitlines() if line
    }
    beside = {
        other.stem
        for other in path.parent.iterdir()
        if (other.suffix == ".py" and other != path) or (other / "__init__.py").exists()
    }
    assert beside <= named
    assert path.parent.name == "sandbox" or len(tree.body) == 1


def test_only_the_transport_touches_aiohttp() -> None:
    """There is one place that talks HTTP."""
    users = {
        _module(path)
        for path in FILES
        for found in _imports(path)
        if found.name.partition(".")[0] == "aiohttp"
    }
    assert users == USERS_OF_AIOHTTP


def test_the_drawing_has_no_package_that_is_gone() -> None:
    """Each name in it is a module or a package."""
    for package in LAYERS:
        where = PACKAGE.joinpath(*package.split("."))
        assert where.is_dir() or where.with_suffix(".py").is_file(), package
