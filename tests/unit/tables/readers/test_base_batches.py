"""Reading by batches gives exactly what reading record by record does."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import BATCH_ROWS, Columns
from pingdata_async.tables.readers import csv as delimited
from pingdata_async.tables.readers import jsonl as jsonl_reading
from pingdata_async.tables.readers.base import HashingStream
from pingdata_async.tables.readers.open import open_input, reader_of
from pingdata_async.tables.rows import TextColumns
from tests.support.hostile_text import CELLS, PLAIN_TEXTS, VALUES
from tests.support.plain_reading import PlainReader, Record
from tests.unit.tables.readers.test_open import records_of

TITLES = ("id", "address", " City ", "LATITUDE", "longitude", "TIV", "", "postal_code")
LINE_ENDS = ("\n", "\r\n", "\r")


def is_read_alike(name: str, content: bytes, folder: Path, batch_rows: int) -> bool:
    """Fails where a reader differs from the definition; says whether it is read to its end."""
    path = folder / name
    path.write_bytes(content)
    plain = PlainReader(str(path), content)
    records: list[Record] = []
    told = ""
    try:
        records.extend(plain)
    except InputError as error:
        told = str(error)
    with (
        mock.patch.object(delimited, "BATCH_ROWS", batch_rows),
        mock.patch.object(jsonl_reading, "BATCH_ROWS", batch_rows),
    ):
        if told:
            with pytest.raises(InputError) as caught, open_input(path) as reader:
                records_of(reader)
            assert str(caught.value).startswith(told)
        else:
            with open_input(path) as reader:
                assert records_of(reader) == records
            assert reader.unused_columns == plain.unused_columns
    return not told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


def written(rows: list[list[str]], line_end: str, quoting: int) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting)  # type: ignore[arg-type]  # one of csv.QUOTE_*
    for row in rows:
        if row:
            writer.writerow(row)
        else:
            text.write(line_end)
    return text.getvalue()


cells = st.sampled_from(PLAIN_TEXTS) | CELLS


@given(
    header=st.lists(st.sampled_from(TITLES), min_size=1, max_size=5),
    rows=st.lists(st.lists(cells, max_size=6), max_size=12),
    is_square=st.booleans(),
    line_end=st.sampled_from(LINE_ENDS),
    quoting=st.sampled_from((csv.QUOTE_ALL, csv.QUOTE_MINIMAL)),
    bom=st.sampled_from(("", "\ufeff")),
    end=st.sampled_from((*("", "\n\n") * 4, '"', '"x', 'x"y,"', "\xff")),
    batch_rows=st.integers(1, 5),
)
def test_tables(
    folder: Path,
    header: list[str],
    rows: list[list[str]],
    is_square: bool,
    line_end: str,
    quoting: int,
    bom: str,
    end: str,
    batch_rows: int,
) -> None:
    """Ragged rows, blank lines, cells over several lines, and tables that end in the middle."""
    if is_square:
        rows = [(row + [""] * len(header))[: len(header)] for row in rows]
    text = bom + written([["address", *header], *rows], line_end, quoting)
    content = text.encode() + end.encode("latin-1")
    if b"\0" not in content:
        assert isinstance(is_read_alike("in.csv", content, folder, batch_rows), bool)


@given(
    text=st.text(st.sampled_from('a1 ,,"\n\n\r\x0b\x85é'), max_size=40),
    batch_rows=st.integers(1, 3),
)
def test_any_text_as_a_table(folder: Path, text: str, batch_rows: int) -> None:
    """Errors name the line that they are on."""
    content = f"address,x\n{text}".encode()
    assert isinstance(is_read_alike("in.csv", content, folder, batch_rows), bool)


lines = st.one_of(
    st.dictionaries(
        st.sampled_from(("id", "address", "city", "latitude", "TIV", "row", "reason", "error")),
        VALUES.filter(lambda value: value not in ({"PG"}, b"x")),
    ).map(msgspec.json.encode),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(msgspec.json.encode),
    st.sampled_from(
        (*(b"", b" \t", b"\x0b") * 4, b"17", b"[]", b"{", b'"\xff"', b'{"address":"\\ud800"}')
    ),
)


@given(
    st.lists(lines, max_size=10),
    st.sampled_from((b"\n", b"\r\n")),
    st.sampled_from((b"", b"\xef\xbb\xbf")),
    st.integers(1, 4),
)
def test_lines_of_json(
    folder: Path, lines: list[bytes], line_end: bytes, bom: bytes, batch_rows: int
) -> None:
    """Objects and addresses, blank lines, and whatever else there may be."""
    content = bom + line_end.join(lines)
    if content and b"\0" not in content:
        assert isinstance(is_read_alike("in.jsonl", content, folder, batch_rows), bool)


def test_large_rows_do_not_pile_up(tmp_path: Path) -> None:
    """A batch ends when much has been read, however few rows that is; of small ones it is full."""
    large = b"1 Main St," + b"x" * 500_000 + b"\n"
    files = {
        "in.csv": b"address,notes\n" + b"1 Main St,x\n" * 1_000 + large * 20,
        "in.jsonl": b'{"address":"1 Main St"}\n' * 1_000 + b'"' + large[:-1] + b'"\n',
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        with open_input(path) as reader:
            sizes = [len(batch.locations) for batch in reader]
        assert max(sizes) == BATCH_ROWS
        assert sum(sizes) == content.count(b"\n") - (name == "in.csv")
        if name == "in.csv":
            assert sizes[-10:] == [1] * 10


class Dribbling(io.RawIOBase):
    """A stream that gives a byte at a time."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.content.readinto(memoryview(buffer)[:1])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", b'\xef\xbb\xbf\r\n{"address":"1 Main St"}\r\n\r\n"2 Oak Ave"'),
        ("in.csv", b'\xef\xbb\xbfaddress\r\n1 Main St\r\n\r\n"2 Oak Ave"'),
    ],
)
def test_bytes_may_come_in_any_portion(name: str, content: bytes) -> None:
    """A byte order mark and the ends of lines are found all the same."""
    reader = reader_of(name, HashingStream(name, Dribbling(content), None))
    locations = [record.location for record in records_of(reader)]
    expected = [record.location for record in PlainReader(name, content)]
    assert locations == expected
    assert len(locations) == 2


def test_a_table_is_read_as_columns(tmp_path: Path) -> None:
    """Those that are used, whatever else is beside them."""
    path = tmp_path / "in.csv"
    path.write_text("id,TIV,address\na,5,1 Main St\nb\n\nc,,,\n")
    with open_input(path) as reader:
        (batch,) = reader
    assert isinstance(batch.locations, Columns)
    assert batch.locations.names == ("id", "address")
    assert list(batch.locations.columns) == [("a", "b", "c"), ("1 Main St", "", "")]
    assert batch.input_rows == TextColumns((("a", "b", "c"), ("5", "", ""), ("1 Main St", "", "")))
    assert not batch.errors
