"""Texts with something in them that does not belong there: read as meant, or refused."""

from __future__ import annotations

import gzip
import io
import os
import random
import threading
from pathlib import Path

import pytest

from pingdata_async.exceptions import InputError
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
