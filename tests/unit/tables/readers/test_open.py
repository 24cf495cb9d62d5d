"""Input files, the well-formed and the others."""

from __future__ import annotations

import contextvars
import csv
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import InputError
from pingdata_async.tables.readers.base import InputReader
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import JSONRows, ReadOptions
from tests.support.plain_reading import Record


def records_of(reader: InputReader) -> list[Record]:
    return [
        Record(batch.locations[place], batch.errors.get(place))
        for batch in reader
        for place in range(len(batch.locations))
    ]


def read(tmp_path: Path, content: bytes | str, name: str = "in.csv") -> list[Record]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with open_input(path) as reader:
        return records_of(reader)


def test_csv_with_quoted_newlines_and_blank_lines(tmp_path: Path) -> None:
    """A quoted newline stays in its cell, blank lines are no rows, line numbers are the file's."""
    records = read(
        tmp_path,
        'id,address\r\na,"1 Main St\nSpringfield, IL"\r\n\r\n\r\nb,2 Oak Ave,x\r\n',
    )
    assert [record.location for record in records] == [
        {"id": "a", "address": "1 Main St\nSpringfield, IL"},
        {"id": "b", "address": "2 Oak Ave"},
    ]
    assert records[0].error is None
    assert "line 6 has 3 cells" in (records[1].error or "")


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("header", ["id,postal_code", " ID , Postal_Code "])
def test_zip_codes_stay_text(tmp_path: Path, bom: str, header: str) -> None:
    """Leading zeros survive; a byte order mark and the header's case do not matter."""
    assert read(tmp_path, f"{bom}{header}\nx,02134\n")[0].location == {
        "id": "x",
        "postal_code": "02134",
    }


def test_columns_that_mean_nothing_are_listed(tmp_path: Path) -> None:
    """What is not sent is named, not silently dropped."""
    path = tmp_path / "in.csv"
    path.write_text("address,TIV,Broker\n1 Main St,5,x\n")
    with open_input(path) as reader:
        assert [record.location for record in records_of(reader)] == [{"address": "1 Main St"}]
        assert reader.unused_columns == ("TIV", "Broker")


def test_a_row_with_too_many_cells_is_not_sent(tmp_path: Path) -> None:
    """An unquoted comma would send half an address: the row is refused, the others are not."""
    records = read(tmp_path, "address,city\n1 Main St, Apt 2,Boston\n2 Oak Ave,Boston,,\n")
    assert "line 2 has 3 cells" in (records[0].error or "")
    assert records[1].error is None


def test_jsonl_takes_objects_and_plain_addresses(tmp_path: Path) -> None:
    """Each line is an object or an address in quotes; blank lines are no rows."""
    records = read(
        tmp_path,
        '\ufeff{"address":"1 Main St","sources":["PG"],"x":1}\n\n"2 Oak Ave"\n',
        "in.jsonl",
    )
    assert [record.location for record in records] == [
        {"address": "1 Main St", "sources": ["PG"], "x": 1},
        "2 Oak Ave",
    ]


@pytest.mark.parametrize("name", ["in.data", "in", "in.json"])
def test_the_form_is_found_out_without_a_known_suffix(tmp_path: Path, name: str) -> None:
    """A file whose name says nothing is looked at."""
    assert read(tmp_path, '{"address":"1 Main St"}\n', name)[0].location == {"address": "1 Main St"}
    assert read(tmp_path, "address\n1 Main St\n", name)[0].location == {"address": "1 Main St"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("in.csv", b"", "is empty"),
        ("in.csv", b"\n\n  \n", "is empty"),
        ("in.jsonl", b"", "is empty"),
        ("in.jsonl", b"\n \n", "is empty"),
        ("in", b" \n", "is empty"),
        ("in.csv", b"foo,bar\n1,2\n", 'Found: "foo", "bar"'),
        ("in.csv", b"latitude\n1\n", "latitude and longitude"),
        ("in.csv", b"address,address\n1,2\n", '2 columns for address have the header "address"'),
        ("in.csv", b"PK\x03\x04aaaa", "workbook"),
        ("in.csv", b"\x1f\x8baaaa", "its gzip is damaged"),
        ("in.csv", b"\xff\xfea\0", 'Found: "a"'),
        ("in.csv", b"a\0\0\0b\0", "binary"),
        ("in.csv", "Адрес,Город\n".encode("utf-16-le"), "use --encoding utf-16-le"),
        ("in.csv", bytes(range(1, 256)), "binary"),
        ("in.csv", b"address\nok\nCaf\xe9\x81\n", "line 3: not cp1252 (byte 0x81)"),
        ("in.csv", b"\xef\xbb\xbfaddress\nok\nCaf\xe9\n", "line 3: not UTF-8 (byte 0xe9)"),
        ("in.csv", b'address\n"never closed\nx\n', "begins on line 2"),
        ("in.csv", b'address\n"12" Pipe Rd"\n', "begins on line 2"),
        ("in.jsonl", b'{"address":"x"}\n{"address":\n', "in.jsonl, line 2"),
        ("in.jsonl", b'{"address":"x"}\n17\n', "line 2: neither"),
        ("in.jsonl", b'\xef\xbb\xbf{"address":"x"}\r\n\n \n17\n{', "line 4: neither"),
        ("in.jsonl", b'{"address":"\xff"}\n', "line 1"),
        ("in.jsonl", b'{"foo":"x"}\n{"bar":"x"}\n', 'Found: "foo", "bar"'),
        ("in.json", b'[{"address":"x"}]\n', "JSON list"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    """Each kind of unusable file gives one line that says what and where."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, content, name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["in", "-"])
def test_a_csv_header_in_quotes_is_no_jsonl(tmp_path: Path, name: str) -> None:
    """A file whose name says nothing may begin with a quote, and be CSV all the same."""
    records = read(tmp_path, b'"id","address"\n"1","1 Main St"\n', name)
    assert [record.location for record in records] == [{"id": "1", "address": "1 Main St"}]


def test_a_huge_cell_is_read(tmp_path: Path) -> None:
    """A column that is not even used may hold more than Python's csv takes by itself."""
    records = read(tmp_path, b"address,notes\n1 Main St," + b"x" * 200_000 + b"\n")
    assert [record.location for record in records] == [{"address": "1 Main St"}]


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    """What cannot be opened is an InputError with the system's reason."""
    for path, says in ((tmp_path / "no.csv", "No such file"), (tmp_path, "directory")):
        with pytest.raises(InputError, match=says), open_input(path) as reader:
            list(reader)


def test_a_deeply_nested_line_is_an_error_not_a_crash(tmp_path: Path) -> None:
    """Hostile nesting ends in one line like any other broken line."""
    with pytest.raises(InputError, match="line 1"):
        read(tmp_path, b'{"address":' + b"[" * 100_000 + b"\n", "in.jsonl")


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(rows=st.lists(st.tuples(cells, cells), max_size=20), seed=st.integers(0, 9))
def test_every_csv_row_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], seed: int
) -> None:
    """Whatever Python's csv module writes is read back: cells, order, count."""
    text = io.StringIO(newline="")
    line_end = random.Random(seed).choice(["\n", "\r\n"])
    # Everything quoted: Python's own writer leaves a lone carriage return bare.
    writer = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(["id", "address"])
    writer.writerows(rows)
    records = read(tmp_path_factory.mktemp("csv"), text.getvalue().encode())
    expected = [
        {name: cell for name, cell in zip(("id", "address"), row, strict=True) if cell}
        for row in rows
    ]
    assert [record.location for record in records] == expected


@given(st.lists(st.dictionaries(cells, cells | st.integers() | st.none(), min_size=1)))
def test_every_jsonl_line_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]]
) -> None:
    """Whatever msgspec writes as lines is kept as it was."""
    for value in values:
        value["address"] = "x"
    content = msgspec.json.Encoder().encode_lines(values)
    path = tmp_path_factory.mktemp("jsonl")
    if not values:
        return
    (path / "in.jsonl").write_bytes(content)
    with open_input(
        path / "in.jsonl", options=ReadOptions(mapping={"address": "address"})
    ) as reader:
        input_rows = [batch.input_rows for batch in reader]
    assert input_rows == [JSONRows(content.splitlines())]


def test_a_generator_is_closed_where_it_was_read() -> None:
    """Not by whoever forgets it last, in another context; that hides no other error."""
    span = contextvars.ContextVar("span", default="none")
    closed: list[str] = []

    def rows() -> Iterator[Any]:
        token = span.set("open")
        try:
            yield "1 Main St"
            yield 5
            yield "3 Main St"
        finally:
            closed.append(span.get())
            span.reset(token)
            raise KeyError("cursor is gone")

    def read() -> None:
        with open_input(rows()) as reader:
            list(reader)

    with pytest.raises(InputError, match="row 2: a location is") as caught:
        contextvars.copy_context().run(read)
    assert closed == ["open"]
    assert caught.value.__notes__ == ["The input failed as well: KeyError: 'cursor is gone'"]
