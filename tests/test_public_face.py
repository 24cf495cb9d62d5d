"""The public names, pinned."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

import pingdata_async


def test_every_public_name_is_listed_and_there() -> None:
    """`__all__` holds exactly what the package offers, in order."""
    listed = pingdata_async.__all__
    assert sorted(listed) == listed
    for name in listed:
        getattr(pingdata_async, name)  # some are loaded only now
    offered = {
        name
        for name, value in vars(pingdata_async).items()
        if not name.startswith("_") and isinstance(value, type | FunctionType)
    }
    assert offered == {name for name in listed if not name.startswith("_")}


def test_type_checkers_see_what_python_does() -> None:
    """What is loaded later comes from where it is imported for type checkers."""
    tree = ast.parse(Path(pingdata_async.__file__).read_text(encoding="utf-8"))
    (for_type_checkers,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in for_type_checkers.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    later = vars(pingdata_async)["_LOADED_LATER"]
    loaded = {name: f"pingdata_async.{module}" for name, module in later.items()}
    assert loaded == seen
    for name, module in seen.items():
        assert getattr(pingdata_async, name) is getattr(import_module(str(module)), name)


def test_a_name_that_is_not_there() -> None:
    """It is missing as from any module, and every other is found by whoever lists them."""
    with pytest.raises(AttributeError, match="'pingdata_async' has no attribute 'PingClient'"):
        pingdata_async.PingClient  # type: ignore[attr-defined]  # noqa: B018 - that is the test
    assert set(pingdata_async.__all__) <= set(dir(pingdata_async))


def test_every_error_is_ours() -> None:
    """Whoever catches PingDataError catches everything that is raised on purpose."""
    errors = [
        value
        for value in (getattr(pingdata_async, name) for name in pingdata_async.__all__)
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert all(issubclass(error, pingdata_async.PingDataError) for error in errors)


@pytest.mark.parametrize(
    ("method", "paths", "option"),
    [
        ("run", ["in.csv", "out.jsonl"], "overwrit"),
        ("plan", ["in.csv", "out.jsonl"], "discard_run"),
        ("dry_run", ["in.csv"], "check_space"),
        ("resume", ["out.jsonl.run"], "dedupe"),
        ("retry", ["out.jsonl.run"], "discard_run"),
    ],
)
async def test_an_option_that_a_method_does_not_have(
    method: str, paths: list[str], option: str
) -> None:
    """It is refused at once, as Python refuses an argument that is not declared."""
    enhancer = pingdata_async.BulkEnhancer(pingdata_async.PingDataClient(), ["PG"])
    with pytest.raises(TypeError, match=rf"{method}\(\) got an unexpected .*'{option}'"):
        await getattr(enhancer, method)(*paths, **{option: True})
