"""Refuses what a program cannot mean by locations, and says what to do instead (pure).

Much can be iterated that is no iterable of locations: a text gives its letters and a data frame
the names of its columns. The API would take them for addresses, and charge them.
"""

from __future__ import annotations

import difflib
import os
from collections import UserString
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from pingdata_async.exceptions import InputError
from pingdata_async.locations.fields import FIELDS, NAMES
from pingdata_async.models import Location

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
_CUTOFF = 0.5  # of likeness, from 0 to 1, for a name that may have been meant


def nearest_fields(name: str, meant: str | None = None) -> str:
    """The fields that a name may have been meant for, as the end of a sentence.

    Args:
        name: What somebody wrote.
        meant: The field that it is a word for; None to look among the usual words.
    """
    word = name.strip().lower()
    field = word.replace(" ", "_")
    meant = meant or _WORDS_FOR_FIELDS.get(field, field)
    fields = ["id", *sorted(FIELDS)]
    near = [meant] if meant in fields else []
    near = near or difflib.get_close_matches(word, fields, cutoff=_CUTOFF)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(fields)}"


def check_names(location: Mapping[str, Any]) -> None:
    """Refuse a mapping with a name that is no field: its value would not be sent.

    Raises:
        InputError: With the fields that may have been meant.
    """
    if NAMES.issuperset(location):
        return
    unknown = [name for name in location if name not in NAMES]
    said = [f"{name!r} is no field of a location; {nearest_fields(str(name))}" for name in unknown]
    raise InputError(" ".join(said[:_MOST_NAMES_SHOWN]))


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
