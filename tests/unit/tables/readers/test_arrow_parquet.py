"""Parquet files, streamed, with columns of every type."""

from __future__ import annotations

import datetime as dt
import io
import os
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.normalize import BATCH_ROWS
from pingdata_async.tables.readers.base import fingerprint_of
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import ArrowRows
from tests.support.reading import check_damage_is_one_line, read_all

ROWS: list[dict[str, Any]] = [
    {
        "loc_id": 7 + n,
        "address_line_1": f"{n} Main St",
        "zip": Decimal(33139 + n),
        "latitude": 25.5,
        "state": "FL",
        "day": dt.date(2024, 1, 2),
        "at": dt.datetime.fromisoformat("2024-01-02T03:04:05.678"),
        "blob": b"\xff\x00",
        "nested": {"a": [1, None], "b": None},
        "nothing": None,
    }
    for n in range(700)
]


def table() -> pa.Table:
    found = pa.Table.from_pylist(ROWS)
    states = found.column("state").dictionary_encode()
    views = found.column("address_line_1").cast(pa.string_view())
    found = found.set_column(found.column_names.index("state"), "state", states)
    return found.set_column(found.column_names.index("address_line_1"), "address_line_1", views)


def parquet(folder: Path, content: pa.Table, **options: Any) -> Path:
    path = folder / "in.parquet"
    pq.write_table(content, path, **options)
    return path


def test_rows_of_every_type_come_back(tmp_path: Path) -> None:
    """With their types, in their order; what is looked up is as the API takes it."""
    path = parquet(tmp_path, table(), row_group_size=500)
    schema = pq.read_schema(path)
    with open_input(path) as reader:
        batches = list(reader)
    streams = [batch.input_rows for batch in batches]
    read = [pa.ipc.open_stream(rows.stream) for rows in streams if isinstance(rows, ArrowRows)]
    tables = [each.read_all() for each in read]
    assert {str(each.schema) for each in tables} == {str(schema)}
    assert [row for each in tables for row in each.to_pylist()] == ROWS
    assert max(len(batch.locations) for batch in batches) <= BATCH_ROWS
    assert reader.headers == tuple(ROWS[0])
    assert {*reader.unused_columns} >= {"day", "at", "blob", "nested", "nothing"}
    assert batches[0].locations[0] == {
        "id": 7,
        "address_line_1": "0 Main St",
        "postal_code": "33139",
        "latitude": 25.5,
        "state": "FL",
    }
    assert reader.fingerprint() == fingerprint_of(path)


@pytest.mark.parametrize(
    ("array", "given"),
    [
        (pa.array([dt.date(2024, 1, 2), None]), "2024-01-02"),
        (
            pa.array([dt.datetime.fromisoformat("2024-01-02T03:00")], pa.timestamp("us")),
            "2024-01-02 03:00:00.000000",
        ),
        (pa.array([b"1 Main St"]), "1 Main St"),
        (pa.array(["1 Main St"], pa.large_string()), "1 Main St"),
        (pa.array(["1 Main St"]).dictionary_encode(), "1 Main St"),
        (pa.array([Decimal("12.50")]), "12.50"),
        (pa.array([Decimal("1200.00")]), 1200),
        (pa.array([17]), 17),
    ],
)
def test_an_address_of_any_type(tmp_path: Path, array: Any, given: object) -> None:
    """What is no text becomes one, or a number that does."""
    path = parquet(tmp_path, pa.table({"address": array}))
    assert read_all(path).locations[0] == {"address": given}


def test_texts_that_are_none(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are an error that names the rows."""
    path = parquet(tmp_path, pa.table({"address": [b"x"] * 400 + [b"\xff"]}))
    with pytest.raises(InputError, match="rows 301 to 401: a text is not UTF-8"):
        read_all(path)


def test_no_rows(tmp_path: Path) -> None:
    """A schema alone is an input; without something to look up it is refused."""
    found = read_all(parquet(tmp_path, table().slice(0, 0)))
    assert (found.rows, len(found.reader.headers)) == ([], 10)
    with pytest.raises(InputError, match="no column to look up"):
        read_all(parquet(tmp_path, pa.table({"x": [1]})))


def test_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept aside meanwhile, under no name."""
    content = parquet(tmp_path, table()).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    assert read_all(pipe).rows == ROWS
    writer.join()
    with (tmp_path / "in.parquet").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        found = read_all("-")
    assert found.rows == ROWS
    assert found.reader.fingerprint().size_bytes == len(content)


def test_damage_is_one_line(tmp_path: Path) -> None:
    """Cut anywhere and flipped anywhere, it is read or refused in one line."""
    others = [b"PAR1", b"PAR1" * 3, b"PAREabcdPARE"]
    check_damage_is_one_line(parquet(tmp_path, table()), others, least=20)


def test_large_rows_do_not_pile_up(tmp_path: Path) -> None:
    """A batch has fewer of them."""
    rows = pa.table(
        {"address": ["x"] * 50, "notes": [os.urandom(500_000).hex() for _ in range(50)]}
    )
    with open_input(parquet(tmp_path, rows)) as reader:
        sizes = [len(batch.locations) for batch in reader]
    assert sum(sizes) == 50
    assert max(sizes) <= 5


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    """What was hashed is not what was read."""
    path = parquet(tmp_path, table())
    with open_input(path) as reader:
        batches = iter(reader)
        next(batches)
        os.utime(path, ns=(0, 0))
        with pytest.raises(InputError, match="changed while it was read"):
            list(batches)


def test_options_and_packages(tmp_path: Path) -> None:
    """Options of other inputs are refused; without the package the message says what to install."""
    path = parquet(tmp_path, table())
    for options in ({"sheet": "One"}, {"encoding": "utf-8"}):
        with pytest.raises(ConfigurationError, match="a Parquet file"):
            read_all(path, **options)
    with (
        mock.patch.dict("sys.modules", {"pyarrow": None}),
        pytest.raises(ConfigurationError, match=r'pip install "pingdata-async\[parquet\]"'),
    ):
        read_all(path)
