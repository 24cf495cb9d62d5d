"""The fields of a location, and the reader of each one's values (pure).

An empty value is left out. An optional value that cannot be read is left out and counted. A value
that makes the whole location unfit to be sent is refused with one sentence.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
import os
import re
from collections import UserString
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.locations.coordinates import LATITUDE, LONGITUDE, degrees_of, is_on_the_globe
from pingdata_async.locations.numbers import (
    ANY_QUANTITY,
    CODES_FOR_UNKNOWN,
    QUANTITIES,
    YEAR,
    number_of,
)
from pingdata_async.locations.words import is_a_name, says_nothing
from pingdata_async.models import Location
from pingdata_async.value_notes import ValueKind

LOOKUP_FIELDS = (
    "address",
    "address_line_1",
    "city",
    "postal_code",
    "lightbox_assessment_id",
    "lightbox_building_id",
    "lightbox_parcel_id",
    "lightbox_parcel_wkt",
)
"""A location needs one of these, or both coordinates."""

ADDRESS_FIELDS = ("address", "address_line_1")
"""Fields that say by themselves where a location is."""

PLACE_FIELDS = frozenset(
    {*LOOKUP_FIELDS, LATITUDE, LONGITUDE, "address_line_2", "state", "county", "country"}
)
"""Fields that say together where a location is; the API finds them from each other."""

DESCRIPTIONS = (
    *("occupancy__type_desc", "occupancy__desc_ping"),
    *("const__desc_ping", "const__roof_covering", "const__wall_type"),
)
"""Fields in words: the 4 of an ISO class says nothing in them."""

T = TypeVar("T")
AnyLocation = Location | Mapping[str, Any] | str

_BOOLEANS = {"true": True, "t": True, "yes": True, "y": True, "1": True} | {
    "false": False, "f": False, "no": False, "n": False, "0": False,
}  # fmt: skip

_NO_ROW: Mapping[str, Any] = MappingProxyType({})

_encoder = msgspec.json.Encoder()


class UnreadableError(ValueError):
    """Raised for an optional value that is left out and counted.

    Args:
        kind: Why.
    """

    def __init__(self, kind: ValueKind = ValueKind.UNREADABLE) -> None:
        super().__init__(kind)
        self.kind = kind


def read_field(name: str, value: Any, row: Mapping[str, Any] = _NO_ROW) -> Any:
    """What is sent for a field's value; None if it is empty.

    Args:
        name: The field.
        value: Its value.
        row: The location, by field.

    Raises:
        UnreadableError: The value has to be left out.
        InputError: The location cannot be sent because of it.
    """
    if value is None or _is_nan(value):  # NaN: a data frame's "empty"
        return None
    if isinstance(value, str):
        text = value.strip()
        if text and says_nothing(text) and not is_a_name(name, text, row):
            raise UnreadableError(ValueKind.SAYS_NOTHING)
    return READERS[name](name, value)


def in_order(fields: Mapping[str, T]) -> dict[str, T]:
    """Fields in the order in which they are sent, so that equal locations become equal bytes."""
    return {name: fields[name] for name in sorted(fields, key=_PLACES.__getitem__)}


def id_text(value: object) -> str | None:
    """A user's id of any type as text; None if it is empty."""
    if value is None or value == "" or _is_nan(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool | list | dict):
        return _encoder.encode(value).decode()  # as it stood in the JSON
    return str(value)


def clean_sources(sources: object) -> tuple[str, ...]:
    """Source codes from a list or a text such as "PG,PH"; each once, in their order.

    Codes that differ only in case are the same for the API: the first spelling stays. Raises an
    InputError for anything else.
    """
    if isinstance(sources, str):
        sources = re.split(r"[\s,;|]+", sources)
    if not isinstance(sources, list | tuple | set | frozenset) or not all(
        isinstance(code, str) for code in sources
    ):
        raise InputError(f"sources must be codes such as PG, not {sources!r}")
    codes: dict[str, str] = {}
    for code in map(str.strip, sources):
        if code:
            codes.setdefault(code.casefold(), code)
    return tuple(codes.values())


# -- One reader for each type of field; all raise as `read_field()` does ---------------------


def read_text(name: str, value: Any) -> str | None:
    """Read a text, or a number that should be one."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} is of type {type(value).__name__}, not a text")
    return id_text(value)


def read_description(name: str, value: Any) -> str | None:
    """Read a text in words; a number is a code of some list, and is left out."""
    text = read_text(name, value)
    if text is not None and not is_in_words(text):
        raise UnreadableError
    return text


def is_in_words(text: str) -> bool:
    """Whether a text has a letter, so that it is more than a number."""
    return any(map(str.isalpha, text))


def read_number(name: str, value: Any) -> float | None:
    """Read a number, or the text of one."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        value = number_of(name, text)
    elif name == YEAR and isinstance(value, dt.date):
        value = value.year
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise UnreadableError from None
    # JSON has neither infinity nor NaN, and "nan" in a file is no number either.
    if not math.isfinite(number):
        raise UnreadableError
    quantity = QUANTITIES.get(name, ANY_QUANTITY)
    if not quantity.least <= number <= quantity.most:
        is_code = number in CODES_FOR_UNKNOWN
        raise UnreadableError(ValueKind.CODE_FOR_UNKNOWN if is_code else ValueKind.UNREADABLE)
    return number


def read_integer(name: str, value: Any) -> int | None:
    """Read an integer in whatever form it came."""
    number = read_number(name, value)
    if number is None:
        return None
    if QUANTITIES[name].is_rounded:
        return round(number)
    if not number.is_integer():
        raise UnreadableError
    return int(number)


def read_coordinate(name: str, value: Any) -> float | None:
    """Read a latitude or longitude, however it is written."""
    if isinstance(value, str) and not value.strip():
        return None
    degrees = degrees_of(name, value)
    if degrees is None:
        raise UnreadableError
    if not is_on_the_globe(name, degrees):
        raise UnreadableError(ValueKind.NO_COORDINATES)
    return degrees


def _read_boolean(_name: str, value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if not text:
        return None
    if text not in _BOOLEANS:
        raise UnreadableError
    return _BOOLEANS[text]


def _read_sources(_name: str, value: Any) -> list[str] | None:
    return list(clean_sources(value)) or None


def _read_config(name: str, value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
            raise InputError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be an object, not {type(value).__name__}")
    return value or None


def _reader_for(annotation: object) -> Callable[[str, Any], Any]:
    text = str(annotation)
    for word, reader in (
        ("str", read_text),
        ("float", read_number),
        ("int", read_integer),
        ("bool", _read_boolean),
    ):
        if text.startswith(word):
            return reader
    raise TypeError(f"no reader for a field of type {text}")


READERS: Mapping[str, Callable[[str, Any], Any]] = {
    name: _reader_for(annotation)
    for name, annotation in Location.__annotations__.items()
    if name not in {"id", "sources", "datasource_config"}
} | {
    "sources": _read_sources,
    "datasource_config": _read_config,
    **dict.fromkeys(DESCRIPTIONS, read_description),
    LATITUDE: read_coordinate,
    LONGITUDE: read_coordinate,
}
"""The reader of each field that is sent; use `read_field()`."""

_PLACES = {name: place for place, name in enumerate(READERS)}

FIELDS = frozenset(READERS)
"""The fields of a location that are sent: all but the id."""

NAMES = FIELDS | {"id"}
"""The names that a mapping may hold."""


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


# -- What a program cannot mean by locations ---------------------------------------------------

# Many iterables are none of locations: a text yields its letters, and a data frame the names of its
# columns. The API would take them for addresses, and charge for them.

_MOST_NAMES_SHOWN = 3

_WORDS_FOR_FIELDS = {
    **dict.fromkeys(("zip", "zipcode", "zip_code", "postcode", "postalcode"), "postal_code"),
    **dict.fromkeys(("street", "street_address", "address1", "address_1"), "address_line_1"),
    **dict.fromkeys(("address2", "address_2", "unit"), "address_line_2"),
    **dict.fromkeys(("region", "province"), "state"),
    **dict.fromkeys(("lon", "lng", "long"), "longitude"),
    "lat": "latitude",
    "town": "city",
    "full_address": "address",
}
_CUTOFF = 0.5  # similarity, from 0 to 1, of a name that is suggested


def nearest_fields(name: str, meant: str | None = None) -> str:
    """The end of a sentence: the fields that may have been meant by a name.

    Args:
        name: What somebody wrote.
        meant: The field that it stands for; None to look among the usual words.
    """
    word = name.strip().lower()
    field = word.replace(" ", "_")
    meant = meant or _WORDS_FOR_FIELDS.get(field, field)
    fields = ["id", *sorted(FIELDS)]
    near = [meant] if meant in fields else []
    near = near or difflib.get_close_matches(word, fields, cutoff=_CUTOFF)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(fields)}"


def check_names(location: Mapping[str, Any]) -> None:
    """Refuse a mapping with a name that is no field, as its value would not be sent.

    The InputError names the fields that may have been meant.
    """
    if NAMES.issuperset(location):
        return
    unknown = [name for name in location if name not in NAMES]
    said = [f"{name!r} is no field of a location; {nearest_fields(str(name))}" for name in unknown]
    raise InputError(" ".join(said[:_MOST_NAMES_SHOWN]))


def check_iterable(locations: object) -> None:
    """Refuse what is surely no iterable of locations; the InputError says what to do instead."""
    kind = type(locations).__name__
    if isinstance(locations, str | UserString | os.PathLike):
        raise InputError("give a list of locations, not one text; a file is for run()")
    if isinstance(locations, Mapping | Location) and not _is_of_columns(locations):
        raise InputError("give a list of locations, not a single one")
    if _is_of_columns(locations):
        raise InputError(
            f"this {kind} is a table: make a data frame of it for enhance_table() or "
            "BulkEnhancer.run(), which find out what its columns are, or a list with a dict for "
            "each row"
        )
    if _is_of_a_table(locations):
        raise InputError(
            f"this {kind} is a table, or a part of one: give it to enhance_table() or "
            "BulkEnhancer.run(), which find out what its columns are; here a list of locations "
            "is needed"
        )
    if hasattr(locations, "readline"):
        raise InputError(
            "an open file may be a table: give its path to run(); if each line is an address, "
            "give a list of them"
        )
    is_iterable = isinstance(locations, Iterable | AsyncIterable) or hasattr(
        type(locations), "__getitem__"
    )
    if isinstance(locations, bytes | bytearray | memoryview) or not is_iterable:
        raise InputError(f"this {kind} is no iterable of locations; give a list or a generator")


def check_any_source(locations: Iterable[object]) -> None:
    """Refuse locations none of which names a source, if the run names none."""
    is_empty = True
    for location in locations:
        is_empty = False
        if isinstance(location, Location):
            sources: object = location.sources
        elif isinstance(location, Mapping):
            sources = location.get("sources")
        else:
            continue
        if sources:
            return
    if not is_empty:
        raise InputError('no sources: give the enhancer some, such as sources=["PG"]')


def _is_of_columns(given: object) -> bool:
    """Whether it is a dict of columns, or an array of several."""
    if isinstance(given, Mapping):
        columns = [value for name, value in given.items() if name != "sources"]
        return any(isinstance(each, list | tuple) or hasattr(each, "__array__") for each in columns)
    is_of_records = getattr(getattr(given, "dtype", None), "names", None) is not None
    return hasattr(type(given), "dtype") and (getattr(given, "ndim", 1) > 1 or is_of_records)


def _is_of_a_table(given: object) -> bool:
    """Whether it is a data frame or an Arrow object of any library.

    A Series of pandas or polars is none: it yields its values. What has a `dtype` is one column,
    and what has `columns` with `dtypes` has many. Looked up in the class, as an attribute of a data
    frame can be a column.
    """
    kind = type(given)
    if hasattr(kind, "columns") and hasattr(kind, "dtypes"):
        return True
    return not hasattr(kind, "dtype") and any(
        hasattr(given, name)
        for name in ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
    )
