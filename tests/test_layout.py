"""The layout of the tests: each test stands where the thing it tests would be looked for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pingdata_async

TESTS = Path(__file__).parent
PACKAGE = Path(pingdata_async.__file__).parent

PUBLIC = {
    "pingdata_async",
    "pingdata_async.__main__",
    "pingdata_async.cli.main",
    "pingdata_async.events",
    "pingdata_async.exceptions",
    "pingdata_async.models",
    "pingdata_async.sandbox",
}
"""What a test of behaviour may import: these let everything else change."""


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _module_of(test: Path) -> Path | None:
    """The module that a unit test is of: its name may go on behind that of the module."""
    folder = PACKAGE / test.parent.relative_to(TESTS / "unit")
    words = test.stem.removeprefix("test_").split("_")
    for number in range(len(words), 0, -1):
        module = folder / f"{'_'.join(words[:number])}.py"
        if module.exists():
            return module
    return None


UNIT_TESTS = sorted((TESTS / "unit").rglob("test_*.py"))
BEHAVIOUR_TESTS = sorted((TESTS / "behaviour").rglob("test_*.py"))


@pytest.mark.parametrize("test", UNIT_TESTS, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_unit_test_has_its_module(test: Path) -> None:
    """tests/unit/engine/test_task.py, or test_task_more.py, is of engine/task.py."""
    assert _module_of(test), f"{test} is of no module"


@pytest.mark.parametrize("test", BEHAVIOUR_TESTS, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_of_behaviour_knows_the_public_face_alone(test: Path) -> None:
    """It would stand as it is if everything inside were written anew."""
    inner = {name for name in _imports(test) if name.startswith("pingdata_async")} - PUBLIC
    assert not inner


_SECTION = re.compile(r"(?m)^(?:Args|Attributes|Raises):\n((?: .*\n?|\n)*)")
_AT_MARGIN = re.compile(r"(?m)^    (?=\S)(.*)")
_ENTRY = re.compile(r"\*{0,2}\w[\w.]*(, \*{0,2}\w[\w.]*)*: ")


def _broken_entries(path: Path) -> Iterator[str]:
    """Lines at the margin of a docstring's section that name no argument, attribute or error."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for section in _SECTION.findall(ast.get_docstring(node) or ""):
                yield from (line for line in _AT_MARGIN.findall(section) if not _ENTRY.match(line))


def test_what_continues_an_entry_of_a_docstring_is_indented() -> None:
    """As `help()` shows it: under `Args:` and the like, each line at the margin is `name: ...`."""
    paths = PACKAGE.rglob("*.py")
    assert [(path.name, line) for path in paths for line in _broken_entries(path)] == []
