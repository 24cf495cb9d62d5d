"""What contenders are given: addresses, and answers about them."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.throughput.data import (
    locations_in,
    make_input,
    read_bodies,
    read_csv,
    repeating_rows,
    rows,
    write_csv,
)
from benchmarks.throughput.server import SPACINGS, make_templates


def test_the_same_seed_makes_the_same_rows(tmp_path: Path) -> None:
    """Byte by byte; another seed makes others."""
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    write_csv(first, 1000)
    write_csv(second, 1000)
    write_csv(other, 1000, seed=6)
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()


def test_rows_differ_and_are_made_as_they_are_read(tmp_path: Path) -> None:
    """No address comes twice, and ten million rows would not be made for the first."""
    some = list(itertools.islice(rows(10_000_000), 5000))
    assert len({row[1:] for row in some}) == len(some)
    assert [row["id"] for row in read_csv(make_input("csv", 5000, tmp_path))] == [
        row[0] for row in some
    ]


def test_three_in_ten_rows_repeat_where_they_should(tmp_path: Path) -> None:
    """So many addresses as are said, each first at a row of its own; the ids are all different."""
    some = list(repeating_rows(5000))
    assert len({row[1:] for row in some}) == locations_in(5000) == 3503
    assert len({row[0] for row in some}) == 5000
    write_csv(tmp_path / "again", 5000, repeats=True)
    assert [tuple(row.values()) for row in read_csv(tmp_path / "again")] == some


@pytest.mark.parametrize("spacing", SPACINGS)
def test_answers_are_as_large_and_as_mixed_as_promised(spacing: str) -> None:
    """About 3.7 KB; 1 % with a source without a match, 2 % not ASCII."""
    templates, are_ok = make_templates(spacing)
    assert 3600 < fmean(map(len, templates)) < 4100
    assert are_ok.count(False) * 100 == len(templates)
    answers = [json.loads(each) for each in templates]
    foreign = [each for each in answers if not json.dumps(each, ensure_ascii=False).isascii()]
    assert len(foreign) * 50 == len(templates)
    for answer, is_ok in zip(answers, are_ok, strict=True):
        sources = answer.values()
        assert is_ok is all(source["is_success"] for source in sources)
        assert all(source["is_success"] or source["status_code"] == 404 for source in sources)


def test_bodies_are_the_submissions_of_all_rows(tmp_path: Path) -> None:
    """A thousand locations each, and what is left in the last."""
    bodies = list(read_bodies(make_input("bodies", 2500, tmp_path)))
    sent = [json.loads(gzip.decompress(body))["locations"] for body in bodies]
    assert list(map(len, sent)) == [1000, 1000, 500]
    ids = [row[0] for row in rows(2500)]
    assert [location["id"] for chunk in sent for location in chunk] == ids
