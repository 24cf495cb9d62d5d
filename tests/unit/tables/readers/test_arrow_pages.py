"""Pages of Parquet files, and files whose footers say less than their pages hold."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pingdata_async import InputError
from pingdata_async.tables.readers import arrow as parquet_pages
from pingdata_async.tables.readers.arrow import pages
from pingdata_async.tables.readers.open import open_input
from tests.unit.tables.readers.test_workbook_scan import refused


def varint(number: int, length: int = 0) -> bytes:
    """As Thrift writes integers that are not negative; so many bytes, if it is given."""
    number *= 2
    data = bytearray()
    while number > 127 or len(data) + 1 < length:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def say_less(path: Path) -> None:
    """Make the footer say that what is in the column chunks is small."""
    content = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[begin:]
    for number in (group.total_byte_size, group.column(0).total_uncompressed_size):
        footer = footer.replace(varint(number), varint(100, len(varint(number))))
    path.write_bytes(content[:begin] + footer)
    assert pq.read_metadata(path).row_group(0).total_byte_size == 100


@pytest.mark.parametrize("has_dictionary", [False, True])
def test_a_footer_that_lies_about_sizes(tmp_path: Path, *, has_dictionary: bool) -> None:
    """What its pages say counts: 100 MB are not decompressed."""
    path = tmp_path / "in.parquet"
    texts = [f"{n}{'x' * 1_000_000}" for n in range(100)]
    pq.write_table(
        pa.table({"address": texts}), path, compression="zstd", use_dictionary=has_dictionary,
        write_statistics=False, data_page_size=2**30, dictionary_pagesize_limit=2**30,
    )  # fmt: skip
    say_less(path)
    assert path.stat().st_size < 200_000
    assert "more than 100 times its size" in refused(path)


def test_a_footer_that_says_it_lists_much(tmp_path: Path) -> None:
    """No room is made for a million column chunks that are not there."""
    footer = b"\x15\x04\x19\x1c\x48\x01r\x00\x16\x02\x19\x1c\x19\xfc\xc0\x84\x3d"
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert "is damaged, or not a Parquet file" in refused(path)


VERSIONS: list[dict[str, Any]] = [
    {"data_page_version": version, "use_dictionary": has_dictionary, "write_page_checksum": True}
    for version in ("1.0", "2.0")
    for has_dictionary in (False, True)
]


@pytest.mark.parametrize("options", VERSIONS, ids=str)
@pytest.mark.parametrize("header_bytes", [256, 8])
def test_pages(options: dict[str, Any], header_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are found, with what they hold, in whatever pieces their headers are read."""
    monkeypatch.setattr(parquet_pages, "_HEADER_BYTES", header_bytes)
    file = io.BytesIO()
    rng = random.Random(1)
    table = pa.table({"a": [rng.choice(["x" * 300, None, "y"]) for _ in range(5_000)]})
    pq.write_table(table, file, data_page_size=1_000, write_batch_size=100, **options)
    [column] = [pq.read_metadata(file).row_group(0).column(0)]
    found = list(pages(file, column))
    assert sum(page.values for page in found if not page.is_dictionary) == 5_000
    assert sum(page.is_dictionary for page in found) == options["use_dictionary"]
    assert len(found) > 1
    headers = column.total_uncompressed_size - sum(page.size_bytes for page in found)
    assert 0 < headers < 2_000 * len(found)


def test_damage_of_headers(tmp_path: Path) -> None:
    """Whatever byte of a page's header is another: an InputError, or it makes no difference."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"address": ["1 Main St"] * 3}), path)
    content = path.read_bytes()
    rng = random.Random(2)
    for _ in range(200):
        place = rng.randrange(4, 60)
        path.write_bytes(content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :])
        with contextlib.suppress(InputError), open_input(path) as reader:
            for _batch in reader:
                pass
