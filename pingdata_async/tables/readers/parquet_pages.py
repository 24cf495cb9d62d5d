"""How large the pages of a Parquet file are, by their own headers.

A page is decompressed whole, to the size in its header; what the end of the file says may be less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa

_HEADER_BYTES: Final = 256  # mostly enough; statistics of texts may take more
_MAX_HEADER_BYTES: Final = 16 * 1024 * 1024  # as in Arrow
_DELTA_BYTE_ARRAY: Final = 7

# Fields of a header: sizes, and what is said of each kind of page.
_DECOMPRESSED, _COMPRESSED = 2, 3
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4


class Page(NamedTuple):
    """A page.

    Attributes:
        size_bytes: Decompressed.
        values: In it.
        is_dictionary: Whether it holds texts that the other pages refer to.
        shares_texts: Whether its texts share the beginnings of those before them.
    """

    size_bytes: int
    values: int
    is_dictionary: bool
    shares_texts: bool


def pages(file: IO[bytes], column: Any) -> Iterator[Page]:
    """The pages that Arrow reads of a column chunk.

    Raises:
        pa.ArrowInvalid: One has no readable header.
    """
    place, left = column.data_page_offset, column.num_values
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < place:
        place = column.dictionary_page_offset
    end = place + column.total_compressed_size
    while place < end and left > 0:
        try:
            header, length = _header(file, place)
            page = _page(header)
            place += length + _natural(header[_COMPRESSED])
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise pa.ArrowInvalid(f"a page of {column.path_in_schema} has no header") from error
        left -= 0 if page.is_dictionary else page.values
        yield page


def _page(header: dict[int, Any]) -> Page:
    [said] = [header[field] for field in (_DATA, _DICTIONARY, _DATA_V2) if field in header]
    encoding = said.get(_ENCODING_V2 if _DATA_V2 in header else _ENCODING)
    return Page(
        _natural(header[_DECOMPRESSED]),
        _natural(said[_VALUES]),
        is_dictionary=_DICTIONARY in header,
        shares_texts=encoding == _DELTA_BYTE_ARRAY,
    )


def _natural(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("not a size")
    return value


def _header(file: IO[bytes], place: int) -> tuple[dict[int, Any], int]:
    """The header of a page, and its length."""
    wanted = _HEADER_BYTES
    while True:
        file.seek(place)
        data = file.read(wanted)
        try:
            return _struct(data, 0)
        except IndexError:
            if len(data) < wanted or wanted >= _MAX_HEADER_BYTES:
                raise
            wanted *= 16


# -- Thrift's compact protocol, as far as headers of pages need it --------------------------------


_INTEGERS: Final = (4, 5, 6)
_BYTES: Final = 8
_STRUCT: Final = 12
_SIZES: Final = {1: 0, 2: 0, 3: 1, 7: 8}  # true, false, a byte, a float; there are no lists
_MORE: Final = 128  # the bit of a byte that others follow


def _struct(data: bytes, place: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by their numbers, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[place]:
        place += 1
        if head >> 4:
            number += head >> 4
        else:
            number, place = _integer(data, place)
        fields[number], place = _value(data, place, head & 15)
    return fields, place + 1


def _value(data: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _integer(data, place)
    if kind == _STRUCT:
        return _struct(data, place)
    if kind == _BYTES:
        length, place = _varint(data, place)
        return None, place + length
    return None, place + _SIZES[kind]


def _integer(data: bytes, place: int) -> tuple[int, int]:
    value, place = _varint(data, place)
    return (value >> 1) ^ -(value & 1), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte % _MORE) << shift
        if byte < _MORE:
            return value, place
    raise ValueError("too long a number")
