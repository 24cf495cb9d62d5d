"""What commands print on standard output."""

from __future__ import annotations

import pytest

from pingdata_async.cli.console import Table, mapped_lines, show


def test_what_belongs_together_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns stand below their heading, also where a line break came with a value."""
    show(
        *mapped_lines(('city <- "Town": Boston\n | Bath',)), Table(("source", "left"), [("PG", 3)])
    )
    assert capsys.readouterr().out == (
        'Columns sent:\n  city <- "Town": Boston | Bath\nsource\tleft\nPG\t3\n'
    )
