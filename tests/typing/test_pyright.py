"""What pyright says of a user's program, and of each mistake in one.

basedpyright is pyright in packages of PyPI alone, so that nothing has to be fetched from elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SETTINGS = {
    "typeCheckingMode": "strict",
    "enableTypeIgnoreComments": False,
    "pythonVersion": "3.11",
    "extraPaths": [str(REPOSITORY)],
}
MISTAKES = {
    number: (line.strip().partition("  #")[0], line.rpartition("# ")[2])
    for number, line in enumerate((HERE / "mistakes.py").read_text().splitlines())
    if "# type: ignore" in line
}

pytestmark = pytest.mark.large  # it takes seconds to begin


Found = dict[tuple[str, int], set[str]]
"""What it finds, by file and line."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One look at both files."""
    place = tmp_path_factory.mktemp("pyright")
    (place / "pyrightconfig.json").write_bytes(msgspec.json.encode(SETTINGS))
    for name in ("program.py", "mistakes.py"):
        (place / name).write_text((HERE / name).read_text())
    done = subprocess.run(
        [
            *(sys.executable, "-m", "basedpyright", "--outputjson"),
            *("--pythonpath", sys.executable, "--project", str(place)),
        ],
        check=False,
        capture_output=True,
    )
    rules: Found = {}
    for each in msgspec.json.decode(done.stdout)["generalDiagnostics"]:
        where = Path(each["file"]).name, each["range"]["start"]["line"]
        rules.setdefault(where, set()).add(each["rule"])
    return rules


def test_a_program_without_mistakes(found: Found) -> None:
    """Nothing is said of it by the strictest checks."""
    assert not [where for where in found if where[0] == "program.py"]


@pytest.mark.parametrize("line", MISTAKES, ids=lambda line: MISTAKES[line][0])
def test_a_mistake(found: Found, line: int) -> None:
    """It is found where it is."""
    assert MISTAKES[line][1] in found.get(("mistakes.py", line), ())


def test_nothing_else(found: Found) -> None:
    """No other line of the mistakes is one."""
    assert {line for name, line in found if name == "mistakes.py"} == set(MISTAKES)
