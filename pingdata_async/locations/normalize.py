"""One location to the fields that are sent (pure).

From whatever a user calls a location to what the API takes (pure).

A value that is empty is left out. An optional number that cannot be read is left out and
counted, and so are both coordinates where either is not known: half a pair is another place.
What cannot be sent at all is refused with one sentence, and costs nothing.

What somebody gives for locations, and what cannot be meant by it (pure).

Much can be iterated that is no iterable of locations: a text gives its letters and a data frame
the names of its columns, and the API would take them for addresses, and charge them.
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
from pingdata_async.locations.coordinates import (
    COORDINATES,
    LATITUDE,
    LONGITUDE,
    degrees_of,
    is_nowhere,
    is_on_the_globe,
)
from pingdata_async.locations.keys import key_of
from pingdata_async.locations.missing_values import is_a_name, says_nothing
from pingdata_async.locations.numbers import (
    ANY_QUANTITY,
    CODES_FOR_UNKNOWN,
    QUANTITIES,
    YEAR,
    number_of,
)
from pingdata_async.models import Location
from pingdata_async.value_notes import NotedValue, ValueKind

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
"""What says by itself where a location is, as far as texts can."""

DESCRIPTIONS = (
    *("occupancy__type_desc", "occupancy__desc_ping"),
    *("const__desc_ping", "const__roof_covering", "const__wall_type"),
)
"""Fields that are in words: the 4 of an ISO class says nothing in them."""

T = TypeVar("T")
AnyLocation = Location | Mapping[str, Any] | str

MOST_NAMES_SHOWN = 3
LONGEST_SHOWN = 40

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
_CUTOFF = 0.5  # of likeness, from 0 to 1, for a name that may have been meant

_BOOLEANS = {"true": True, "t": True, "yes": True, "y": True, "1": True} | {
    "false": False, "f": False, "no": False, "n": False, "0": False,
}  # fmt: skip

_NO_ROW: Mapping[str, Any] = MappingProxyType({})

_encoder = msgspec.json.Encoder()


class UnreadableError(ValueError):
    """Raised for an optional value that is not sent: left out, counted.

    Args:
        kind: What is the matter with it.
    """

    def __init__(self, kind: ValueKind = ValueKind.UNREADABLE) -> None:
        super().__init__(kind)
        self.kind = kind


class NormalizedLocation(msgspec.Struct, frozen=True):
    """A location as it will be sent, but for its id.

    Attributes:
        id: The user's own id; None where there is none.
        fields: What is sent, as `in_order()` has it; holds something to look up.
        sources: The location's own sources; None for those of the run.
    """

    id: str | None
    fields: dict[str, Any]
    sources: tuple[str, ...] | None

    def encoded(self) -> bytes:
        """The fields as a JSON object.

        Raises:
            InputError: When a text holds characters that are not Unicode.
        """
        try:
            return _encoder.encode(self.fields)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"cannot be sent as JSON: {error}") from error

    def key(self) -> bytes:
        """What tells it from others, of a location that can be encoded."""
        return key_of(self.fields)


def user_id(location: object) -> str | None:
    """The user's own id in a location of any form; None where there is none."""
    if isinstance(location, Location):
        return location.id
    if isinstance(location, Mapping):
        return id_text(location.get("id"))
    return None


def nearest_fields(name: str, meant: str | None = None) -> str:
    """The fields that a name may have been meant for, as the end of a sentence.

    Args:
        name: What somebody wrote.
        meant: The field that it is a word for; None to look among the usual words.
    """
    word = name.strip().lower()
    meant = meant or _WORDS_FOR_FIELDS.get(word.replace(" ", "_"))
    fields = ["id", *sorted(FIELDS)]
    near = [meant] if meant in fields else []
    near = near or difflib.get_close_matches(word, fields, cutoff=_CUTOFF)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(fields)}"


def check_names(location: Mapping[str, Any]) -> None:
    """Refuse a mapping with a name that is no field: what it holds would not be sent.

    Raises:
        InputError: With the fields that may have been meant.
    """
    if NAMES.issuperset(location):
        return
    unknown = [name for name in location if name not in NAMES]
    said = [f"{name!r} is no field of a location; {nearest_fields(str(name))}" for name in unknown]
    raise InputError(" ".join(said[:MOST_NAMES_SHOWN]))


def normalize(location: AnyLocation, noted: list[NotedValue] | None = None) -> NormalizedLocation:
    """Make a location ready to be sent.

    Args:
        location: A `Location`, a mapping with its fields (others are ignored), or a plain
            address.
        noted: Takes the values that are not sent as they stand, by field; also those of a
            location that is refused.

    Raises:
        InputError: With a sentence saying why it cannot be sent.
    """
    if isinstance(location, str):
        location = {"address": location}
    elif isinstance(location, Location):
        location = msgspec.structs.asdict(location)
    elif not isinstance(location, Mapping):
        raise InputError(
            f"a location is a Location, a mapping or an address, not {type(location).__name__}"
        )
    noted = [] if noted is None else noted
    fields: dict[str, Any] = {}
    for name, value in location.items():
        if name not in READERS:
            continue
        try:
            read = read_field(name, value, location)
        except UnreadableError as error:
            noted.append(NotedValue(name, error.kind, value))
        else:
            if read is not None:
                fields[name] = read
    left_out, kind = leave_out_half_pair(fields)
    noted += [NotedValue(name, kind, location[name]) for name in left_out]
    _check_lookup(fields, location)
    sources = fields.get("sources")
    return NormalizedLocation(
        id=id_text(location.get("id")),
        fields=in_order(fields),
        sources=None if sources is None else tuple(sources),
    )


def in_order(fields: Mapping[str, T]) -> dict[str, T]:
    """Fields in the order in which they are sent, however a row has them.

    What is the same is the same bytes then.
    """
    return {name: fields[name] for name in sorted(fields, key=_PLACES.__getitem__)}


def read_field(name: str, value: Any, row: Mapping[str, Any] = _NO_ROW) -> Any:
    """What is sent of a field's value; None where it is empty.

    Args:
        name: The field.
        value: Its value.
        row: The location that it is of, by field.

    Raises:
        UnreadableError: When it is to be left out.
        InputError: When the location cannot be sent because of it.
    """
    if value is None or _is_nan(value):  # NaN: a data frame's "empty"
        return None
    if isinstance(value, str):
        text = value.strip()
        if text and says_nothing(text) and not is_a_name(name, text, row):
            raise UnreadableError(ValueKind.SAYS_NOTHING)
    return READERS[name](name, value)


def clean_sources(sources: object) -> tuple[str, ...]:
    """Source codes from a list or a text such as "PG,PH"; each once, in their order.

    Codes that differ only in case are the same for the API: the first spelling stays.

    Raises:
        InputError: When they are neither.
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


def leave_out_half_pair(fields: dict[str, Any]) -> tuple[tuple[str, ...], ValueKind]:
    """Drop the coordinates of a place that is not known; says which, and why."""
    given = tuple(name for name in COORDINATES if name in fields)
    kind = ValueKind.HALF_OF_A_PAIR
    if len(given) == len(COORDINATES):
        has_address = any(name in fields for name in ADDRESS_FIELDS)
        if not is_nowhere(fields[LATITUDE], fields[LONGITUDE], has_address=has_address):
            return (), kind
        kind = ValueKind.NO_COORDINATES
    for name in given:
        del fields[name]
    return given, kind


def _check_lookup(fields: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    if any(name in fields for name in LOOKUP_FIELDS):
        return
    if LATITUDE in fields:
        return
    pair = [_shown(given.get(name)) for name in COORDINATES]
    coordinates = "no pair of coordinates"
    if any(pair):
        is_alone = degrees_of(LATITUDE, pair[0] or pair[1]) is not None
        shown = [degrees or ("missing" if is_alone else "") for degrees in pair]
        coordinates = f"its coordinates ({', '.join(filter(None, shown))}) are no place"
    raise InputError(
        "nothing to look up: no address, street line, city, postal code or Lightbox reference, "
        f"and {coordinates}"
    )


def _shown(value: Any) -> str:
    """A value for a message; "" where there is none."""
    text = "" if value is None or _is_nan(value) else str(value).strip()
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def id_text(value: object) -> str | None:
    """A user's id of any type as text; None where it is empty."""
    if value is None or value == "" or _is_nan(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool | list | dict):
        return _encoder.encode(value).decode()  # as it stood in the JSON
    return str(value)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def read_text(name: str, value: Any) -> str | None:
    """What is sent of a text, or of a number that should be one; raises as `read_field()`."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} is of type {type(value).__name__}, not a text")
    return id_text(value)


def read_description(name: str, value: Any) -> str | None:
    """What is sent of a text in words; a number is a code of some list, and not sent."""
    text = read_text(name, value)
    if text is not None and not is_in_words(text):
        raise UnreadableError
    return text


def is_in_words(text: str) -> bool:
    """Whether a text has a letter, so that it is more than a number."""
    return any(map(str.isalpha, text))


def read_number(name: str, value: Any) -> float | None:
    """What is sent of a number, or of its text; raises as `read_field()`."""
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


def read_coordinate(name: str, value: Any) -> float | None:
    """What is sent of a latitude or longitude, however it is written; raises as `read_field()`."""
    if isinstance(value, str) and not value.strip():
        return None
    degrees = degrees_of(name, value)
    if degrees is None:
        raise UnreadableError
    if not is_on_the_globe(name, degrees):
        raise UnreadableError(ValueKind.NO_COORDINATES)
    return degrees


def read_integer(name: str, value: Any) -> int | None:
    """What is sent of an integer, in whatever form it came; raises as `read_field()`."""
    number = read_number(name, value)
    if number is None:
        return None
    if QUANTITIES[name].is_rounded:
        return round(number)
    if not number.is_integer():
        raise UnreadableError
    return int(number)


def _boolean(_name: str, value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if not text:
        return None
    if text not in _BOOLEANS:
        raise UnreadableError
    return _BOOLEANS[text]


def _sources(_name: str, value: Any) -> list[str] | None:
    return list(clean_sources(value)) or None


def _config(name: str, value: Any) -> Mapping[str, Any] | None:
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


def _reader_for(kind: object) -> Callable[[str, Any], Any]:
    text = str(kind)
    for word, reader in (
        ("str", read_text),
        ("float", read_number),
        ("int", read_integer),
        ("bool", _boolean),
    ):
        if text.startswith(word):
            return reader
    raise TypeError(f"no reader for a field of type {text}")


READERS: Mapping[str, Callable[[str, Any], Any]] = {
    name: _reader_for(kind)
    for name, kind in Location.__annotations__.items()
    if name not in {"id", "sources", "datasource_config"}
} | {
    "sources": _sources,
    "datasource_config": _config,
    **dict.fromkeys(DESCRIPTIONS, read_description),
    LATITUDE: read_coordinate,
    LONGITUDE: read_coordinate,
}
"""What reads the value of each field that is sent; see `read_field()`."""

_PLACES = {name: place for place, name in enumerate(READERS)}

FIELDS = frozenset(READERS)
"""The fields of a location that are sent, but for the id."""

NAMES = FIELDS | {"id"}
"""What a mapping may hold."""


def check_iterable(locations: object) -> None:
    """Refuse what is surely no iterable of locations.

    Raises:
        InputError: With what to do instead.
    """
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
    """Refuse locations none of which names a source, where the run names none.

    Raises:
        InputError: When there are any, and no source.
    """
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
    """Whether it is a data frame or an Arrow object of whatever library.

    A Series of pandas or polars is none: it gives what is in it. What has a `dtype` is one column,
    and what has `columns` with `dtypes` has many. Looked up in the class, as an attribute of a data
    frame can be a column of that name.
    """
    kind = type(given)
    if hasattr(kind, "columns") and hasattr(kind, "dtypes"):
        return True
    return not hasattr(kind, "dtype") and any(
        hasattr(given, name)
        for name in ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
    )
