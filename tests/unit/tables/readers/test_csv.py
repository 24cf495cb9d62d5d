"""Delimited text of every kind: delimiters, encodings, headers below titles."""

from __future__ import annotations

import codecs
import csv
import io
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.normalize import normalize
from pingdata_async.tables.readers.csv import are_addresses, detect_dialect
from pingdata_async.tables.rows import ReadOptions
from pingdata_async.util.encoding import gzipped
from pingdata_async.value_notes import ValueKind
from tests.support.hostile_text import CELLS, PLAIN_TEXTS
from tests.support.reading import read_all, written
from tests.support.sweeps import sampled

ENCODINGS = {
    "utf-8": "",
    "utf-8-sig": "",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "utf-32": "utf-32",
    "cp1252": "cp1252",
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzipped,
    ".zst": zstandard.ZstdCompressor().compress,
}
HEADER = ["Loc #", "Address", "", "Note", "Note", "Zip"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


def as_text(rows: list[list[str]], delimiter: str, line_end: str = "\n") -> str:
    text = io.StringIO(newline="")
    # Everything quoted: Python's own writer leaves a lone carriage return bare.
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows(rows)
    return text.getvalue()


def is_encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return "\0" not in text


cells = st.sampled_from(PLAIN_TEXTS) | CELLS


@given(
    rows=st.lists(st.lists(cells, min_size=6, max_size=6), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(tuple(ENCODINGS)),
    compression=st.sampled_from(tuple(COMPRESSIONS)),
    line_end=st.sampled_from(("\n", "\r\n")),
)
def test_every_cell_comes_back(
    folder: Path,
    rows: list[list[str]],
    delimiter: str,
    encoding: str,
    compression: str,
    line_end: str,
) -> None:
    """Whatever the delimiter, the encoding and the compression, without any option."""
    rows = [[cell if is_encodable(cell, encoding) else "x" for cell in row] for row in rows]
    text = as_text([HEADER, *rows], delimiter, line_end)
    if encoding == "cp1252":
        text += as_text([["", "Caf\xe9", "", "", "", ""]], delimiter, line_end)
        rows = [*rows, ["", "Caf\xe9", "", "", "", ""]]
    content = COMPRESSIONS[compression](text.encode(encoding))
    found = read_all(written(folder, f"in.csv{compression}", content))
    assert found.reader.headers == tuple(HEADER)
    assert found.rows == rows
    assert not found.errors
    (field,) = (each.field for each in found.reader.mapping.columns if each.places == (1,))
    assert [location.get(field, "") for location in found.locations] == [row[1] for row in rows]
    notes = " ".join(found.reader.notes)
    assert ENCODINGS[encoding] in notes
    assert ("separated by" in notes) == (delimiter != ",")


@pytest.mark.parametrize("encoding", ["cp437", "mac-roman", "UTF-8", "utf-16-le", "Windows-1252"])
def test_an_encoding_that_is_named_is_taken(tmp_path: Path, encoding: str) -> None:
    """Also where the bytes look like another one; a byte order mark is no part of the text."""
    text = "address\nCaf\xe9\n"
    mark = {"UTF-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE}.get(encoding, b"")
    path = written(tmp_path, "in.csv", mark + text.encode(encoding))
    found = read_all(path, encoding=encoding)
    assert found.locations == [{"address": "Caf\xe9"}]
    assert found.reader.headers == ("address",)
    assert not found.reader.notes


def test_an_encoding_that_there_is_not(tmp_path: Path) -> None:
    """It is a slip in an option, and the message has names that exist."""
    path = written(tmp_path, "in.csv", b"address\nx\n")
    for encoding in ("utf9", "base64", "", "a\0b"):
        with pytest.raises(ConfigurationError, match="cp1252"):
            read_all(path, encoding=encoding)


def test_what_a_pipe_gives_is_utf_8_unless_it_says_otherwise(tmp_path: Path) -> None:
    """It cannot be looked through first; the error says what to do, and on which line it is."""
    content = b"address\n" + b"1 Main St\n" * 20_000 + b"Caf\xe9\n"

    def piped(**options: str) -> list[object]:
        pipe = tmp_path / "pipe.csv"
        os.mkfifo(pipe)
        writer = threading.Thread(target=written, args=(tmp_path, pipe.name, content))
        writer.start()
        try:
            return read_all(pipe, **options).locations
        finally:
            writer.join()
            pipe.unlink()

    with pytest.raises(InputError, match=r"line 20002: not UTF-8 .*0xe9.*--encoding cp1252"):
        piped()
    assert piped(encoding="cp1252")[-1] == {"address": "Caf\xe9"}


def test_cp1252_is_found_however_late_it_shows(tmp_path: Path) -> None:
    """The whole of a file is looked through, also of a compressed one; the user is told."""
    content = b"address\n" + b"1 Main St\n" * 20_000 + b"Caf\xe9 \x80\n"
    for name, packed in (("in.csv", content), ("in.csv.gz", gzipped(content))):
        found = read_all(written(tmp_path, name, packed))
        assert found.locations[-1] == {"address": "Caf\xe9 \u20ac"}
        assert found.reader.notes == ("read as cp1252; --encoding NAME says otherwise",)


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("id;address;latitude\n1;1 Main St, Boston;1,5\n2;x, y, z;2,5\n", 3),
        ("id|address|notes\n1|1 Main St, Boston; MA|x\n", 3),
        ("address\tcity\n1 Main St, Apt 2\tBoston\n", 2),
        ("foo;bar;baz\n1,2;3,4;5\n6,7;8,9;0\n", 3),
        ("address\n1 Main St\n2 Oak Ave\n", 1),
        ("address,\n1 Main St,\n", 2),
    ],
)
def test_the_delimiter_is_found(tmp_path: Path, text: str, headers: int) -> None:
    """Also where other delimiters are in the cells, or in none of them."""
    path = written(tmp_path, "in.csv", text.encode())
    mapping = {"address": "baz"} if text.startswith("foo") else {}
    assert len(read_all(path, mapping=mapping).reader.headers) == headers


def test_a_suffix_says_tabs(tmp_path: Path) -> None:
    """Whatever else there is more of."""
    path = written(tmp_path, "in.tsv", b"address\tcity,state\n1 Main St\tBoston, MA\n")
    assert read_all(path).reader.headers == ("address", "city,state")


def test_commas_in_a_single_column_are_text(tmp_path: Path) -> None:
    """A list of addresses, which nobody quotes."""
    path = written(tmp_path, "in.txt", b'Address\n1 Main St, Boston, MA\n"2 Oak Ave, Reno"\n')
    found = read_all(path)
    assert found.locations == [
        {"address": "1 Main St, Boston, MA"},
        {"address": "2 Oak Ave, Reno"},
    ]
    assert found.reader.notes == ("one column: commas in a line are part of its text",)


def test_headers_below_titles(tmp_path: Path) -> None:
    """As a workbook that was saved as CSV has them; lines are counted from the file's first."""
    path = written(
        tmp_path,
        "in.csv",
        b"ACME Holdings,,,\nStatement of Values,,,\n\n"
        b"Loc #,Street Address,City,Zip\n1,1 Main St,Boston,02134\n\n2,2 Oak Ave,Reno,89501,x,y\n",
    )
    found = read_all(path)
    assert found.reader.headers == ("Loc #", "Street Address", "City", "Zip")
    assert [row[0] for row in found.rows] == ["1", "2"]
    assert found.errors == {
        1: (
            "line 7 has 6 cells, but the header has 4: is a comma in it not quoted? "
            "Too many: 'x', 'y'"
        )
    }
    assert found.reader.notes == (
        "headers are in row 4; 3 rows above left out",
        "1 blank line left out",
    )


def test_rows_that_are_too_short_are_counted(tmp_path: Path) -> None:
    """They are sent, and it is said: a line break without quotes makes two of a row."""
    path = written(
        tmp_path,
        "in.csv",
        b"address,city,state\n1 Main St\nSuite 5,Boston,MA\n2 Oak Ave,Reno\n3 Elm St,Reno,NV\n",
    )
    found = read_all(path)
    assert [len(row) for row in found.rows] == [3] * 4
    assert found.reader.notes == (
        "fewer cells than headers in 2 rows; the others are taken for empty",
    )


def test_surplus_cells_are_shown_shortened(tmp_path: Path) -> None:
    """Nothing else tells what they were; but a megabyte of them would help nobody."""
    path = written(tmp_path, "in.csv", b"address,city\n1 Main St,Boston," + b"x" * 1_000_000)
    (error,) = read_all(path).errors.values()
    assert "Too many: 'xxx" in error
    assert len(error) < 1_200


def test_a_header_longer_than_the_sample(tmp_path: Path) -> None:
    """Thousands of columns are a table as well."""
    names = [f"column {n}" for n in range(20_000)]
    path = written(
        tmp_path, "in.csv", f"{','.join(names)},address\n{',' * 20_000}1 Main St\n".encode()
    )
    found = read_all(path)
    assert len(found.reader.headers) == 20_001
    assert found.locations == [{"address": "1 Main St"}]


def test_codes_are_given_back_their_zeros(tmp_path: Path) -> None:
    """They are sent with them, and the user is told; the table's own cells stay as they are."""
    path = written(tmp_path, "in.csv", b"address,state,zip\n1 Main St,MA,2134\nx,FL,33139.0\n")
    found = read_all(path)
    assert [location["postal_code"] for location in found.locations] == ["02134", "33139"]
    assert [row[2] for row in found.rows] == ["2134", "33139.0"]
    (note,) = found.reader.values.notes()
    assert (note.column, note.kind, note.examples) == ("zip", ValueKind.ZEROS_GIVEN_BACK, ("2134",))


def test_options_that_are_for_other_inputs(tmp_path: Path) -> None:
    """Refused, not ignored."""
    path = written(tmp_path, "in.csv", b"address\nx\n")
    with pytest.raises(ConfigurationError, match="--sheet"):
        read_all(path, sheet="One")


def test_jsonl_in_other_encodings(tmp_path: Path) -> None:
    """What PowerShell writes is read as well; what is kept is UTF-8."""
    text = '{"address":"Caf\xe9"}\r\n\r\n"2 Oak Ave"\r\n'
    for encoding, options in (("utf-16", {}), ("cp1252", {"encoding": "cp1252"})):
        path = written(tmp_path, "in.jsonl", text.encode(encoding))
        found = read_all(path, **options)
        assert found.locations == [{"address": "Caf\xe9"}, "2 Oak Ave"]
        assert found.rows == ['{"address":"Caf\xe9"}'.encode(), b'"2 Oak Ave"']
        assert found.reader.fingerprint().size_bytes == path.stat().st_size


def test_semicolons_stand_beside_decimal_commas(tmp_path: Path) -> None:
    """There "1.200" is 1,200; what may be either is left out, as it stands in the table."""
    path = tmp_path / "in.csv"
    path.write_text(
        "zip;building limit;year built;stories\n"
        "02134;1.200;1.987;2,0\n02135;1,200;1987;2,000\n02136;1200,5;1987;2\n"
    )
    found = read_all(path)
    fields = [normalize(location).fields for location in found.locations]
    assert [each.get("limits__building_limit") for each in fields] == [1200.0, None, 1200.5]
    assert [each.get("const__bldg_year_built") for each in fields] == [1987] * 3
    assert [each.get("const__num_stories") for each in fields] == [2] * 3
    (note,) = found.reader.values.notes()
    assert (note.column, note.values, note.examples, note.row) == (
        "building limit", 1, ("1,200",), 1,
    )  # fmt: skip


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("seed", sampled(range(4), 1))
def test_quotes_change_nothing(tmp_path: Path, seed: int, line_end: str) -> None:
    """Lines without quotes are read another way: rows, errors and notes are those of quoted ones.

    Some lines are too wide, too narrow, blank, a total, or quoted in one file alone, and they are
    more than fit into a block.
    """
    rng = random.Random(seed)
    street = "x" * 60 if seed % 2 else "Main St"
    rows = [[f"r{n}", f"{n} {street}", rng.choice(["a", "", " b "])] for n in range(3_000)]
    for _ in range(seed * 4):
        rows[rng.randrange(3_000)] = rng.choice(
            [[], ["1"], ["2", "Oak St", "", ""], ["3", "4 Oak St", "", "x"], ["Total", "", "9"]]
        )
    header = ["Loc #", "Address", "Note"]
    quoted = as_text([header, *rows], ",", line_end)
    plain = line_end.join([",".join(row) for row in [header, *rows]])
    mixed = plain.splitlines(keepends=True)
    for place in rng.sample(range(1_500), 3):
        mixed[place] = quoted.splitlines(keepends=True)[place]
    found = [
        read_all(written(tmp_path, f"{name}.csv", text.encode()))
        for name, text in (("quoted", quoted), ("plain", plain), ("mixed", "".join(mixed)))
    ]
    told = [
        [each.rows, each.locations, list(each.errors.values()), each.reader.notes] for each in found
    ]
    assert len(told[0][0]) >= 2_900
    assert told[1] == told[0]
    assert told[2] == told[0]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, line_end: bytes) -> None:
    """However far into the text it is, and whether there are quotes before it or not."""
    for quoted in (b"1 Main St", b'"1 Main St"'):
        for bad, told in (
            (b"\0", "a NUL"),
            (b"\xff", "0xff"),
            (b'"x"y', "expected after"),
            (b"\xc3", "0xc3"),
        ):
            lines = [
                b"address",
                *[b"%d Oak St" % n for n in range(2_000)],
                quoted,
                bad,
                b"2 Elm St",
            ]
            path = written(tmp_path, "in.csv", line_end.join(lines))
            with pytest.raises(InputError, match=f"line 2003.*{told}"):
                read_all(path, encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "600 Dexter Avenue\n1 Main St; Boston\n",  # a delimiter of tables
        "1,600 Dexter Avenue,Montgomery\n2,1 Main St,Boston\n",  # numbers of rows
        "1 Main St,Boston,MA,02108,250000\n",  # more numbers than a postal code
        "Risk Locations 2024\n1 Main St, Boston\n",  # a header that is not understood
        "Dear all\nnothing here\n",
    ],
)
def test_what_may_be_a_table_is_no_list_of_addresses(text: str) -> None:
    """Nothing is guessed that would be paid for."""
    assert not are_addresses(
        text, detect_dialect(text, is_whole=True, delimiter=None, options=ReadOptions()),
        is_whole=True,
    )  # fmt: skip


@pytest.mark.parametrize("rows", [1, 200])
def test_an_address_a_line_is_a_list(rows: int) -> None:
    """Of any country; commas belong to the address, however many there are."""
    some = (
        "600 Dexter Avenue, Montgomery, AL, 36130",
        "Hauptstr. 5, 10115 Berlin",
        "",
        "1 Main St",
    )
    text = "\n".join(some * rows)
    dialect = detect_dialect(text, is_whole=True, delimiter=None, options=ReadOptions())
    assert are_addresses(text[:4000], dialect, is_whole=len(text) < 4000)
