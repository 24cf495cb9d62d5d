"""What is loaded by an import of the package, and by each command: no more than it needs.

Whoever makes something here load more has made every start of it slower: on purpose, it is hoped.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import NamedTuple

import pytest

from tests.support.sweeps import sampled

HEAVY = {"aiohttp.web", "asyncio", "csv", "pingdata_async.sandbox.server", "sqlite3"}
COMMAND = """
import sys
from pingdata_async.__main__ import main
sys.argv[1:] = {words}
try:
    main()
except SystemExit:
    pass
"""


class Loads(NamedTuple):
    """What some code may load.

    Attributes:
        code: What is run.
        packages: Packages of others that it loads; what those load is theirs.
        heavy: Those of `HEAVY` that it loads.
    """

    code: str
    packages: set[str]
    heavy: set[str]


def command(*words: str) -> str:
    return COMMAND.format(words=list(words))


CLIENT = {"aiohttp", "anyio", "isal", "msgspec"}
RUNS = {"anyio", "isal", "msgspec", "yarl", "zstandard"}
ALLOWED = {
    "the package": Loads("import pingdata_async", set(), set()),
    "an error": Loads("from pingdata_async import PingDataError", set(), set()),
    "limits": Loads("from pingdata_async import Limits", {"msgspec"}, set()),
    "a model": Loads("from pingdata_async import Location", {"msgspec"}, set()),
    "the client": Loads("from pingdata_async import PingDataClient", CLIENT, {"asyncio"}),
    "the enhancer": Loads(
        "from pingdata_async import BulkEnhancer", CLIENT | RUNS, {"asyncio", "csv", "sqlite3"}
    ),
    "a run's status": Loads("from pingdata_async import read_status", RUNS, {"asyncio", "sqlite3"}),
    "everything": Loads(
        "from pingdata_async import *", CLIENT | RUNS, {"asyncio", "csv", "sqlite3"}
    ),
    "--help": Loads(command("--help"), {"click", "cloup"}, {"csv"}),
    "--version": Loads(command("--version"), {"click"}, set()),
    "no such command": Loads(command("enhence"), {"click"}, set()),
    "a mistake": Loads(  # what draws pages of help is for these alone
        command("status"), RUNS | {"click"}, {"asyncio", "csv", "sqlite3"}
    ),
    "enhance --help": Loads(
        command("enhance", "--help"),
        CLIENT | RUNS | {"click", "cloup"},
        {"asyncio", "csv", "sqlite3"},
    ),
    "limits --help": Loads(
        command("limits", "--help"),
        CLIENT | RUNS | {"click", "cloup"},
        {"asyncio", "csv", "sqlite3"},
    ),
    "enhance-one --help": Loads(
        command("enhance-one", "--help"),
        CLIENT | RUNS | {"click", "cloup"},
        {"asyncio", "csv", "sqlite3"},
    ),
    "status --help": Loads(
        command("status", "--help"), RUNS | {"click", "cloup"}, {"asyncio", "csv", "sqlite3"}
    ),
    "sandbox --help": Loads(
        command("sandbox", "--help"), RUNS | {"click", "cloup"}, {"asyncio", "csv", "sqlite3"}
    ),
}


@cache
def modules_after(code: str) -> frozenset[str]:
    """What is loaded once the code has run in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset(done.stdout.splitlines()[-1].split())


def packages_of_others(code: str) -> frozenset[str]:
    """Likewise, but only the names of what is neither ours nor Python's."""
    names = {module.partition(".")[0] for module in modules_after(code) - modules_after("pass")}
    return frozenset(names - sys.stdlib_module_names - {"pingdata_async"})


@pytest.mark.parametrize("what", sampled(ALLOWED, 7))
def test_what_is_loaded(what: str) -> None:
    """Of packages and of heavy modules, exactly those listed."""
    code, packages, heavy = ALLOWED[what]
    theirs = set().union(*(packages_of_others(f"import {package}") for package in packages))
    loaded = packages_of_others(code)
    assert packages <= loaded <= theirs
    assert modules_after(code) & HEAVY == heavy


def test_an_import_of_the_package_loads_its_errors_alone() -> None:
    """And what takes secrets out of them; nothing else of ours."""
    ours = {name for name in modules_after("import pingdata_async") if "pingdata" in name}
    ours = {name for name in ours if not name.startswith("_")}  # of an editable installation
    assert ours == {
        f"pingdata_async{name}"
        for name in ("", "._version", ".exceptions", ".util", ".util.redaction")
    }
