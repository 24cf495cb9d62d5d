"""Texts with something in them that does not belong there: read as meant, or refused."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import re
import threading
from pathlib import Path

import pytest

from pingdata_async.exceptions import InputError
from pingdata_async.tables.readers.dialect import _joined
from pingdata_async.tables.readers.text_encoding import TextStream, line_at
from tests.support.reading import read_all, written

SPANISH = "id,address,city\n" + "".join(
    f"{number},Calle Pe\xf1\xf3n {number},Bogot\xe1\n" for number in range(400)
)


def spoilt(text: str, line: int) -> bytes:
    """A text in UTF-8, but for one line, which is in Latin-1."""
    lines = text.splitlines(keepends=True)
    return b"".join(
        each.encode("latin-1" if number == line else "utf-8")
        for number, each in enumerate(lines, 1)
    )


@pytest.mark.parametrize("line", [2, 77, 401])
@pytest.mark.parametrize("form", ["csv", "csv.gz", "csv from a pipe", "jsonl"])
def test_one_bad_line_is_no_other_encoding(tmp_path: Path, line: int, form: str) -> None:
    """It is refused with its line and two ways on, wherever it is, and both of them work."""
    content = spoilt(SPANISH, line)
    name = f"in.{form.split(maxsplit=1)[0]}"
    if form == "jsonl":
        text = "".join(f'{{"address":"Calle Pe\xf1\xf3n {number}"}}\n' for number in range(401))
        content = spoilt(text, line)
    path = written(tmp_path, name, gzip.compress(content) if form == "csv.gz" else content)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    if "pipe" in form:
        path.unlink()
        os.mkfifo(path)
        writer.start()
    with pytest.raises(InputError) as caught:
        read_all(path)
    if "pipe" in form:
        writer.join()
        path.unlink()
        path.write_bytes(content)
    said = str(caught.value)
    assert f"in.{form.split(maxsplit=1)[0]}, line {line}: not UTF-8 (byte 0xf1)" in said
    assert "--encoding cp1252" in said
    assert "--encoding utf-8-replace" in said
    found = read_all(path, encoding="utf-8-replace")
    place = line - (form != "jsonl") - 1
    assert "Calle Pe\ufffd\ufffdn" in found.locations[place]["address"]
    addresses = [each["address"] for each in found.locations]
    assert sum("Pe\xf1\xf3n" in address for address in addresses) == len(addresses) - 1
    bad = 2 if form == "jsonl" else 3
    assert found.reader.notes == (
        f"not UTF-8 in {bad} places, first in line {line}; read as U+FFFD there",
    )
    assert "Pe\xf1\xf3n" in read_all(path, encoding="cp1252").locations[place]["address"]


def test_another_encoding_is_still_found(tmp_path: Path) -> None:
    """Where nothing, or next to nothing, is UTF-8: by chance a pair of letters may be."""
    content = SPANISH.encode("cp1252")
    assert read_all(written(tmp_path, "in.csv", content)).locations[7]["city"] == "Bogot\xe1"
    content += b"401,CAF\xc9\x92S,x\n"  # an accent and an apostrophe, which are one letter in UTF-8
    found = read_all(written(tmp_path, "in.csv", content))
    assert found.locations[-1]["address"] == "CAF\xc9\u2019S"
    assert found.reader.notes == ("read as cp1252; --encoding NAME says otherwise",)


def test_what_is_replaced_is_counted_once(tmp_path: Path) -> None:
    """Also where blocks end, and where U+FFFD is in the text itself."""
    good = "address\nCaf\xe9 \ufffd\n".encode()
    for length in range(65_520, 65_540):
        filling = b"x" * (length - len(good)) + "\u20ac".encode() + b"\xe9\n"
        found = read_all(written(tmp_path, "in.csv", good + filling), encoding="UTF8_replace")
        assert "not UTF-8 in 1 place, first in line 3" in found.reader.notes[0]
        assert found.locations[-1]["address"].endswith("x\u20ac\ufffd")
        assert found.locations[0]["address"] == "Caf\xe9 \ufffd"


@pytest.mark.parametrize("line", [1, 2, 5_000, 20_002])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.csv in UTF-16"])
def test_a_nul_is_told_with_its_line(tmp_path: Path, line: int, name: str) -> None:
    """However late it comes: it is no character of an address."""
    each = '"1 Main St"' if "jsonl" in name else "1 Main St"
    lines = [each] * 20_003
    lines[0] = '"x"' if "jsonl" in name else "address"
    lines[line - 1] = lines[line - 1][:3] + "\0" + lines[line - 1][3:]
    encoding = "utf-16" if "UTF-16" in name else "utf-8"
    path = written(tmp_path, name.split(maxsplit=1)[0], "\n".join(lines).encode(encoding))
    with pytest.raises(InputError, match=rf", line {line}: a NUL .*Remove it"):
        read_all(path)


@pytest.mark.parametrize("end", [b"\x1a", b"\x1a\x1a\x1a", b"\r\n\x1a"])
def test_the_end_of_a_file_from_dos(tmp_path: Path, end: bytes) -> None:
    """Ctrl-Z there is no row; elsewhere it stays."""
    found = read_all(written(tmp_path, "in.csv", b"address\r\n1 Main\x1a St" + end))
    assert found.rows == [["1 Main\x1a St"]]
    found = read_all(written(tmp_path, "in.jsonl", b'"1 Main St"\r\n' + end))
    assert found.locations == ["1 Main St"]


def test_the_end_is_found_however_the_text_comes() -> None:
    """In pieces of any size; a quote behind a blank is seen where pieces meet as well."""
    rng = random.Random(5)
    for _ in range(2_000):
        content = bytes(rng.choices(b'a\x1a \n"', k=rng.randrange(12)))
        text = TextStream(io.BytesIO(content))  # type: ignore[arg-type]  # what it reads is alike
        read = b""
        size = rng.randrange(1, 6)
        while piece := text.read(size):
            read += piece
        assert read == content.rstrip(b"\x1a")
        assert text.has_blanks_before_quotes == (b' "' in read)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{\n  "address": "x"\n}\n', "JSON over several lines; write one object a line, as jq"),
        (b'[\n  {"address": "x"}\n]\n', "a JSON list"),
    ],
)
def test_json_over_several_lines(tmp_path: Path, content: bytes, says: str) -> None:
    """What is to be done with it is said."""
    with pytest.raises(InputError, match=says):
        read_all(written(tmp_path, "in.json", content))


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('1, "5 Main St, Unit 4", "Boston"', ["1", "5 Main St, Unit 4", "Boston"]),
        ('1,\t"5 Main St",  "a ""b"", c" , d', ["1", "5 Main St", 'a "b", c', " d"]),
        ('1, "", "a"', ["1", "", "a"]),
        ('1, ", Unit 4", x', ["1", ", Unit 4", " x"]),
        ('1,"x", "y,z"', ["1", "x", "y,z"]),
        # These are no quoted cells, and stay as they are.
        ('1, "The Loft" bldg, Boston', ["1", ' "The Loft" bldg', " Boston"]),
        ('1, "A" or "B", x', ["1", ' "A" or "B"', " x"]),
        ('1, "open, x', ["1", ' "open', " x"]),
        ('1, 5 Main St, 6" pipe', ["1", " 5 Main St", ' 6" pipe']),
    ],
)
def test_cells_quoted_behind_a_blank(line: str, cells: list[str]) -> None:
    """They are what stands between the quotes, with the delimiters in it."""
    (row,) = csv.reader([line], strict=True)
    assert _joined(row, ",").cells == cells


def test_many_cells_that_are_never_closed() -> None:
    """They take no time that grows with their square."""
    cells = [' "x'] * 100_000 + ['y"']
    assert _joined(cells[:-1], ",").cells == cells[:-1]


@pytest.mark.parametrize(
    "header", ['id, "address", "city"', "id, address, city", "id,address,city"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("late", [0, 3_000])
def test_a_file_with_blanks_before_quotes(
    tmp_path: Path, header: str, delimiter: str, late: int
) -> None:
    """Whatever its header looks like, and wherever they begin."""
    rows = [f"{number},{number} Elm St,Reno" for number in range(late)]
    rows += ['1, "5 Sample St, Unit 4", "Boston"', '2, "6 Sample St", "Boston"']
    swapped = str.maketrans({",": delimiter, delimiter: ","})
    content = "\n".join([header, *rows]).translate(swapped).encode()
    found = read_all(written(tmp_path, "in.csv", content))
    assert [each.strip() for each in found.reader.headers] == ["id", "address", "city"]
    assert found.rows[-2:] == [
        ["1", f"5 Sample St{delimiter} Unit 4", "Boston"],
        ["2", "6 Sample St", "Boston"],
    ]
    assert not found.errors


ADDRESS = "2 Main St\n Floor 2"


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('B, "2 Main St\n Floor 2", Reno', ["B", ADDRESS, " Reno"]),
        ('B, "2 Main St\n Floor 2", "Reno"', ["B", ADDRESS, "Reno"]),
        (
            'B, "2 Main St, 4\r\n\r\nFloor 2, 5" , Reno',
            ["B", "2 Main St, 4\n\nFloor 2, 5", " Reno"],
        ),
        (
            'B, "2 Main ""St""\n ""Floor"" 2","Reno, NV"',
            ["B", '2 Main "St"\n "Floor" 2', "Reno, NV"],
        ),
        ('B, 2 Main St, "Reno\nNV"', ["B", " 2 Main St", "Reno\nNV"]),
        (' "B\nC", "2 Main St\n Floor 2", Reno', ["B\nC", ADDRESS, " Reno"]),
    ],
)
@pytest.mark.parametrize("header", ["id, address, city", 'id, "street\naddress", city'])
@pytest.mark.parametrize("late", [0, 297, 298, 299, 300])
def test_a_cell_quoted_behind_a_blank_over_lines(
    tmp_path: Path, header: str, text: str, row: list[str], late: int
) -> None:
    """It is one cell of one row, wherever a batch ends; what comes behind keeps its line."""
    rows = [f"{number},{number} Elm St,Reno" for number in range(late)]
    content = "\n".join([header, *rows, text, "C,3 Elm St,Reno,x", text])
    found = read_all(written(tmp_path, "in.csv", content.encode()))
    assert found.rows[late:] == [row, ["C", "3 Elm St", "Reno"], row]
    assert len(found.reader.headers) == 3
    line = len(re.findall("\r\n|\n", "\n".join([header, *rows, text]))) + 2
    assert list(found.errors) == [late + 1]
    assert found.errors[late + 1].startswith(f"line {line} has 4 cells")


@pytest.mark.parametrize(
    "text",
    [
        'B, "2 Main St\n Floor 2, Reno',
        'B, "2 Main St\n Floor 2\n Rear, Reno',
        'B, "2 Main St\n the 6" pipe", Reno',
        'B, "2 Main St\n Floor 2" x, Reno',
        'B, "2 Main St\n Floor 1, 2, 3\n Rear", Reno',
        'B, "2 Main St, Reno',
    ],
)
@pytest.mark.parametrize("late", [0, 297, 298, 299])
def test_a_quote_behind_a_blank_that_is_not_closed(tmp_path: Path, text: str, late: int) -> None:
    """Its row is not sent, nor is what may go on with it; the rows around it are."""
    rows = [f'{number}, "{number} Elm St", Reno' for number in range(late)]
    content = "\n".join(
        ["id, address, city", *rows, text, 'C, "3 Elm St", Reno', "D,4 Elm St,Reno"]
    )
    found = read_all(written(tmp_path, "in.csv", content.encode()))
    lines = range(late + 2, late + 2 + len(text.splitlines()))
    assert list(found.errors) == [line - 2 for line in lines]
    first, *others = found.errors.values()
    assert first.startswith(f"line {late + 2}: a quote behind a blank is not closed")
    for line, error in zip(lines[1:], others, strict=True):
        assert error.startswith(f"line {line}: may go on from line {late + 2}")
    assert found.rows[-2:] == [["C", "3 Elm St", " Reno"], ["D", "4 Elm St", "Reno"]]
    assert len(found.rows) == late + len(lines) + 2


def test_many_quotes_behind_blanks_that_are_never_closed(tmp_path: Path) -> None:
    """Each row fails by itself, whatever is read ahead for it, in time that grows with them."""
    content = "id, address, city\n" + 'B, "2 Main St, Reno\n' * 5_000
    found = read_all(written(tmp_path, "in.csv", content.encode()))
    assert len(found.errors) == len(found.rows) == 5_000


ROWS = ["1,1 Main St,Boston,5", "2,2 Oak Ave,Reno,6", "3,3 Elm St,Austin,7"]


@pytest.mark.parametrize("blank", ["", "\n,,,", "\n\n"])
def test_rows_of_a_text_that_are_no_locations(tmp_path: Path, blank: str) -> None:
    """The header again, totals, footnotes and another table below are left out, and counted."""
    text = "\n".join(
        [
            "Loc #,Address,City,TIV",
            ROWS[0],
            "LOC #,address , City,TIV",
            ROWS[1] + "\nSubtotal West,,,11",
            ROWS[2] + "\nGrand Total,,,18",
            "* Values are replacement cost, without land" + blank,
            "Prepared by us",
            "State,TIV",
            "MA,5",
            "NV,6",
        ]
    )
    found = read_all(written(tmp_path, "in.csv", text.encode()))
    assert [row[0] for row in found.rows] == ["1", "2", "3"]
    assert "2 total rows" in found.reader.notes[0]
    assert "1 repeated header" in found.reader.notes[0]
    assert "2 footnotes left out" in found.reader.notes[0]
    assert "and is left out (3 rows)" in found.reader.notes[1]


def test_rows_that_look_like_others_are_data(tmp_path: Path) -> None:
    """A street called Summer, a shop called Total, and what is below a subtotal."""
    rows = [
        *("1,1 Summit St,Boston,5", "Total Wine,2 Oak Ave,Reno,6", "Total,,Reno,6"),
        *("Subtotal,,,17", "4 Main St,,,", "5,5 Total Rd,,7", ",,,", "Address,City,TIV,Loc"),
        *("6,Address,City,TIV", ",6 Elm St,,"),
    ]
    text = "\n".join(["Loc #,Address,City,TIV", *rows])
    found = read_all(written(tmp_path, "in.csv", text.encode()))
    assert [",".join(row) for row in found.rows] == [
        row for row in rows if row not in {"Subtotal,,,17", "4 Main St,,,"}
    ]
    assert found.reader.notes == ("1 total row and 1 footnote left out",)


def test_addresses_below_a_total_are_data(tmp_path: Path) -> None:
    """What begins like a note or holds a header's word is a location, where it has an address."""
    rows = [
        *("*Star Cafe,4 Elm St,Reno", "Source: Bar,Main St,Austin", "(1) Foo,5 Main St,"),
        *("Abbey Mill,Mill Lane,Street", "9,6 Elm St,Waco"),
    ]
    lines = [f"Total,,\n{row}" for row in rows]
    text = "\n".join(["Name,Address,City", *lines, "Total,,", "* Values, without land,"])
    found = read_all(written(tmp_path, "in.csv", text.encode()))
    assert [",".join(row) for row in found.rows] == rows
    assert found.reader.notes == ("6 total rows and 1 footnote left out",)


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    """Headers and totals among the rows, wherever they are, leave the same locations."""
    rows = [f"{number},{number} Main St,Boston,5" for number in range(700)]
    rows += ["Loc #,Address,City,TIV"] * 3 + ["Total,,,5"] * 3
    sent = []
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        text = "\n".join(["Loc #,Address,City,TIV", *rows])
        found = read_all(written(tmp_path, "in.csv", text.encode()))
        sent.append(sorted(map(str, found.locations)))
        assert found.reader.notes[0].endswith("left out")
    assert len(sent[0]) == 700
    assert all(each == sent[0] for each in sent)


class _Dribble(io.BytesIO):
    """Bytes that come two at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(2 if size is None or size < 0 else min(2, size))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_the_line_of_a_byte_is_found_wherever_reads_cut_its_line_ends(end: str) -> None:
    """Each kind of line end counts once, also where a read ends between its two bytes."""
    text = end.join(["", "a", "bc", "", "def", "g"]).encode()
    for offset in range(len(text)):
        before = text[:offset].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        assert line_at(_Dribble(text), offset) == before.count(b"\n") + 1  # type: ignore[arg-type]
