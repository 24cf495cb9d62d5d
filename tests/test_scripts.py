"""The scripts do with their words what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
SAYS_ITSELF = '#!/usr/bin/env bash\necho "${0##*/scripts/}" "$@"\n'
SHORT = "-m not sweep and not large"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with `scripts/test` whose commands only say how they were called."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPTS / "test", tmp_path / "scripts")
    pythons = [f".venv{kind}/bin/python" for kind in ("", "-3.13", "-lake")]
    commands = [".venv/bin/ruff", ".venv/bin/mypy", *pythons]
    for command in ("scripts/prepare", *commands):
        (tmp_path / command).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / command).write_text(SAYS_ITSELF, encoding="utf-8")
        (tmp_path / command).chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "python", "tests"),
    [
        ([], None, [SHORT, "--sample"]),
        (["--all"], None, []),
        (["tests/a b.py", "-x", "--all", "-m", "large"], None, ["tests/a b.py -x -m large"]),
        (["--python", "3.13"], "3.13", [SHORT, "--sample"]),
        (["tests/x"], None, [SHORT, "tests/x"]),
        (["--all", "--python=3.13", "tests/x"], "3.13", ["tests/x"]),
    ],
)
def test_words_of_the_test_script(
    clone: Path, words: list[str], python: str | None, tests: list[str]
) -> None:
    """Its own two options may stand anywhere and together; the other words are pytest's."""
    done = subprocess.run(
        [clone / "scripts" / "test", *words], capture_output=True, text=True, check=True
    )
    checks = ["prepare dev", ".venv/bin/ruff check .", ".venv/bin/ruff format --check .",
              ".venv/bin/mypy"]  # fmt: skip
    at_once = 2 * (os.cpu_count() or 1)
    pytest_ = " ".join([f"-m pytest --numprocesses {at_once} --dist worksteal", *tests])
    assert done.stdout.splitlines() == (
        [*checks, f".venv/bin/python {pytest_}"]
        if python is None
        else [f"prepare dev {python}", f".venv-{python}/bin/python {pytest_}"]
    )


def test_the_engines_are_tested_apart(clone: Path) -> None:
    """In one process and an environment of their own, which the ordinary tests never make."""
    script = clone / "scripts" / "test"
    done = subprocess.run([script, "--lake", "-x"], capture_output=True, text=True, check=True)
    pytest_ = "-m pytest tests/lake --durations 10 -x"
    assert done.stdout.splitlines() == ["prepare lake", f".venv-lake/bin/python {pytest_}"]


def test_a_sample_has_a_third_of_many_cases() -> None:
    """Of a test of 6 cases 2, and every test of fewer than 4; the other tests are named."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", __file__]
    whole, sample = (
        subprocess.run([*words, *more], capture_output=True, text=True, check=True).stdout
        for more in ([], ["--sample"])
    )
    assert whole.count("::test_words_of_the_test_script[") == 6
    assert sample.count("::test_words_of_the_test_script[") == 2
    assert "::test_a_sample_has_a_third_of_many_cases" in sample
