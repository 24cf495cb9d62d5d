"""The public names, pinned."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import pingdata_async


def test_every_public_name_is_listed_and_there() -> None:
    """`__all__` holds exactly what the package offers, in order."""
    listed = pingdata_async.__all__
    assert sorted(listed) == listed
    offered = {
        name
        for name, value in vars(pingdata_async).items()
        if not name.startswith("_") and isinstance(value, type | FunctionType)
    }
    assert offered == {name for name in listed if not name.startswith("_")}


def test_what_an_import_loads() -> None:
    """Importing the package loads neither the web server, the command line nor rich."""
    code = "import pingdata_async, sys; print(*sys.modules)"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert not loaded & {"rich", "click", "pingdata_async.sandbox", "pingdata_async.cli"}


def test_every_error_is_ours() -> None:
    """Whoever catches PingDataError catches everything that is raised on purpose."""
    errors = [
        value
        for value in vars(pingdata_async).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert all(issubclass(error, pingdata_async.PingDataError) for error in errors)
