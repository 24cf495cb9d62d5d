"""The layers of the house hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pingdata_async

PACKAGE = Path(pingdata_async.__file__).parent

LAYERS = {
    "_version": 0,
    "account": 0,
    "bodies": 0,
    "byte_order_mark": 0,
    "checked_settings": 0,
    "exceptions": 0,
    "models": 0,
    "config": 0,
    "coordinates": 0,
    "countries": 0,
    "data_sources": 0,
    "deflate": 0,
    "events": 0,
    "inflating": 0,
    "job_phases": 0,
    "location_batches": 0,
    "location_keys": 0,
    "locations": 0,
    "one_thread": 0,
    "plurals": 0,
    "outcomes": 0,
    "pacer": 0,
    "patience": 0,
    "refusals": 0,
    "samples": 0,
    "secrecy": 0,
    "shell_words": 0,
    "source_rules": 0,
    "urls": 0,
    "value_notes": 0,
    "wire": 0,
    "words_for_nothing": 0,
    "written_numbers": 0,
    "connections": 1,
    "transport": 1,
    "opening": 1,
    "output_ways": 1,
    "client": 1,
    "bulk": 1,
    "tables": 1,
    "runs": 2,
    "source_questions": 2,
    "file_runs": 3,
    "enhancer": 4,
    "table_enhancing": 5,
    "__init__": 6,
    "cli": 6,
    "__main__": 7,
}
WITHIN_THE_CLIENT = {
    ("client", "opening"),
    ("client", "output_ways"),
    ("client", "transport"),
    ("opening", "transport"),
    ("output_ways", "transport"),
    ("transport", "connections"),
}
OF_WHATEVER_IS_GIVEN = {
    # Pure, and for locations from everywhere, not only from tables.
    "pingdata_async.tables.given_columns",
    "pingdata_async.tables.postal_codes",
}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            yield node.module or ""


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below_or_its_own_room(path: Path) -> None:
    """No import goes upwards, sideways, or into the sandbox from anywhere but the command."""
    room = _room(path)
    for name in _imports(path):
        if name.partition(".")[0] != "pingdata_async":
            continue
        target = [*name.split("."), "__init__"][1]
        if target == room:
            continue
        assert room != "sandbox", "the sandbox shares no code with the client side"
        if target == "sandbox":
            assert room == "cli"
            continue
        if name in OF_WHATEVER_IS_GIVEN:
            continue
        if (room, target) in WITHIN_THE_CLIENT or {room, target} == {
            "exceptions",
            "models",  # for type checkers only
        }:
            continue
        is_ground = LAYERS[room] == LAYERS[target] == 0
        assert LAYERS[target] < LAYERS[room] or is_ground, f"{path} imports {name}"


def test_only_the_transport_touches_aiohttp() -> None:
    """There is one place that talks HTTP."""
    users = {_room(path) for path in FILES for name in _imports(path) if "aiohttp" in name}
    assert users == {"connections", "transport", "sandbox"}
