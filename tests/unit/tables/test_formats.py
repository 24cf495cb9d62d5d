"""Which form an output has, and whether it can be written."""

from __future__ import annotations

import gzip
import importlib.util
import io
import random
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.tables.formats import OutputFormat, check_format, output_format
from pingdata_async.util.compression import compressed_writer


@pytest.mark.parametrize(
    ("path", "given_", "expected"),
    [
        ("out.jsonl", None, ("jsonl", "")),
        ("a.b/out.NDJSON.GZ", None, ("jsonl", "gz")),
        ("out.csv", None, ("csv", "")),
        ("out.csv.zst", None, ("csv", "zst")),
        ("out.tsv", None, ("tsv", "")),
        ("out.parquet", None, ("parquet", "")),
        ("out.xlsx", None, ("xlsx", "")),
        ("out.geojson", None, ("geojson", "")),
        ("out.geojson.gz", None, ("geojson", "gz")),
        ("out.geojsonl", None, ("geojsonl", "")),
        ("out.geojsons", None, ("geojsonl", "")),
        ("out.ndgeojson", None, ("geojsonl", "")),
        ("out.geoparquet", None, ("geoparquet", "")),
        ("-", None, ("jsonl", "")),
        ("-", "csv", ("csv", "")),
        ("-", "CSV.gz", ("csv", "gz")),
        ("out.parquet", "geoparquet", ("geoparquet", "")),
        ("out.geojson", "geojsonl", ("geojsonl", "")),
        ("out.gz", "csv", ("csv", "gz")),
        ("out", "xlsx", ("xlsx", "")),
    ],
)
def test_format_of_an_output(path: str, given_: str | None, expected: tuple[str, str]) -> None:
    """Its name says it, unless the format was given."""
    assert output_format(path, given_) == expected


@pytest.mark.parametrize(
    ("path", "given_", "message"),
    [
        ("out", None, "use one of the endings .jsonl, "),
        ("out.xls", None, "or --output-format"),
        ("out.gz", None, "its name does not tell the format"),
        ("out.csv", "excel", 'there is no output format "excel"; there are jsonl, csv'),
        ("out.parquet.gz", None, "leave out the .gz"),
        ("-", "xlsx.zst", "leave out the .zst"),
    ],
)
def test_formats_that_there_are_not(path: str, given_: str | None, message: str) -> None:
    """The message says what to do instead."""
    with pytest.raises(ConfigurationError, match=message):
        output_format(path, given_)


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        (OutputFormat.PARQUET, "parquet"),
        (OutputFormat.GEOPARQUET, "parquet"),
    ],
)
def test_missing_packages(kind: OutputFormat, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says exactly what to install."""
    check_format(kind)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError) as caught:
        check_format(kind)
    assert str(caught.value).endswith(f'pip install "pingdata-async[{extra}]"')
    check_format(OutputFormat.CSV)


def test_what_is_too_large_for_xlsx() -> None:
    """Rows with their header, and columns; other formats have no limit."""
    check_format(OutputFormat.XLSX, rows=1_048_575, columns=16_384)
    with pytest.raises(ConfigurationError, match="1,048,576 rows are more"):
        check_format(OutputFormat.XLSX, rows=1_048_576)
    with pytest.raises(ConfigurationError, match="16,385 columns are more"):
        check_format(OutputFormat.XLSX, columns=16_385)
    check_format(OutputFormat.PARQUET, rows=10**9, columns=10**6)


def packed(compression: str, parts: list[bytes]) -> bytes:
    file = io.BytesIO()
    with compressed_writer(file, compression) as stream:
        for part in parts:
            assert stream.write(part) == len(part)
    assert not file.closed
    return file.getvalue()


def unpacked(compression: str, content: bytes) -> bytes:
    if compression == "zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return gzip.decompress(content) if compression else content


@pytest.mark.parametrize("compression", ["", "gz", "zst"])
@given(parts=st.lists(st.binary() | st.just(b"a,b\n" * 100_000), max_size=5))
def test_packing(compression: str, parts: list[bytes]) -> None:
    """Others can unpack it, and equal contents are packed alike."""
    content = packed(compression, parts)
    assert unpacked(compression, content) == b"".join(parts)
    assert content == packed(compression, parts)


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_packing_that_is_given_up(compression: str) -> None:
    """What is there cannot be taken for whole."""
    file = io.BytesIO()

    def give_up() -> Any:
        with compressed_writer(file, compression) as stream:
            stream.write(random.Random(1).randbytes(1_000_000))
            raise KeyError

    with pytest.raises(KeyError):
        give_up()
    if compression == "gz":
        with pytest.raises(EOFError):
            gzip.decompress(file.getvalue())
    else:
        unpacking = zstandard.ZstdDecompressor().decompressobj()
        unpacking.decompress(file.getvalue())
        assert not unpacking.eof
