"""Which locations a data source surely cannot answer (pure).

The API describes its sources (`/datasources`) without saying exactly what the fields mean. So a
location is kept from a source only if it would fail by every sensible reading:

- `required_attrs`: only attributes of the building or the policy (`const__`, `limits__`, ...). The
API finds an address, its parts, coordinates and Lightbox references from each other.
- `supported_countries`: only if the location names another country, and both are known.
- `supported_us_states`, `excluded_us_states`: only for a location in the United States: its country
says so, or it has a US state, and neither a country nor a one-line address, a postal code or
coordinates that may be elsewhere.
- `non_supported_input_values`: only if they name the fields that they are about.
- What a source requires of a geocode (`geocode_confidence_required`, ...) is left to the API.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pingdata_async.exceptions import InputError
from pingdata_async.locations.fields import PLACE_FIELDS, READERS
from pingdata_async.locations.words import US, country_of, us_state_of
from pingdata_async.models import DataSource

_NOT_OF_THE_LOCATION = frozenset({"sources", "datasource_config"})
_ZIP = re.compile(r"\d{5}(-?\d{4})?", re.ASCII)
_US_LATITUDES = (-15.0, 72.0)
_US_LONGITUDES = ((-180.0, -64.0), (143.0, 180.0))

ValueTest = Callable[[Any], object]
"""Returns something true for a value for which the source may fail."""


class Coverage:
    """Which locations the sources are not asked about.

    Args:
        sources: The API's description of each source, by code.
    """

    def __init__(self, sources: Mapping[str, DataSource]) -> None:
        rules = {code.casefold(): _Rule(source) for code, source in sources.items()}
        self._rules = {code: rule for code, rule in rules.items() if rule.has_conditions}

    def exclusions(self, fields: Mapping[str, Any], sources: Iterable[str]) -> dict[str, str]:
        """Why sources would surely fail for a location as it is sent, a few words for each."""
        found = {}
        for code in sources:
            rule = self._rules.get(code.casefold())
            why = rule.why_not(fields) if rule is not None else None
            if why is not None:
                found[code] = f"{code}: {why}"
        return found

    def candidates(
        self, columns: Mapping[str, Sequence[Any]], rows: int, sources: Iterable[str]
    ) -> list[int]:
        """The places of all locations that `exclusions()` may concern; usually none.

        Args:
            columns: What would be sent of each location, by field; None for no value.
            rows: The number of locations.
            sources: The sources that they would ask.
        """
        places: set[int] = set()
        for code in sources:
            rule = self._rules.get(code.casefold())
            if rule is not None:
                places.update(rule.candidates(columns, rows))
        return sorted(places)


class _Rule:
    """What one source cannot answer."""

    def __init__(self, source: DataSource) -> None:
        self.required = tuple(
            name
            for name in source.required_attrs
            if name in READERS.keys() - PLACE_FIELDS - _NOT_OF_THE_LOCATION
        )
        self.countries = _all_known(source.supported_countries, country_of)
        self.states = _all_known(source.supported_us_states, us_state_of)
        self.excluded = frozenset(filter(None, map(us_state_of, source.excluded_us_states or ())))
        self.values = _conditions(source.non_supported_input_values)
        self._watched = tuple(self._watch())
        self._said_countries = ", ".join(source.supported_countries or ())

    @property
    def has_conditions(self) -> bool:
        """Whether there is any location that the source cannot answer."""
        return bool(self.required or self._watched)

    def _watch(self) -> Iterator[tuple[str, ValueTest]]:
        """The fields that may be the reason, each with the test of one value."""
        if self.countries is not None:
            yield "country", self._is_elsewhere
        if self.states is not None or self.excluded:
            yield "state", self._state_not_covered
        for condition in self.values:
            # One field that does not match is enough, so the first is looked at.
            name, values = next(iter(condition.items()))
            yield name, functools.partial(_is_among, name, values)

    def candidates(self, columns: Mapping[str, Sequence[Any]], rows: int) -> Iterable[int]:
        """The places of locations that it may not answer."""
        places: list[int] = []
        for name in self.required:
            column = columns.get(name)
            if column is None:
                return range(rows)
            if None in column:
                places += [place for place, value in enumerate(column) if value is None]
        for name, matches in self._watched:
            column = columns.get(name, ())
            bad = {value for value in set(column) if value is not None and matches(value)}
            if bad:
                places += [place for place, value in enumerate(column) if value in bad]
        return places

    def why_not(self, fields: Mapping[str, Any]) -> str | None:
        """Why the source would fail; None if that is not sure."""
        missing = [name for name in self.required if fields.get(name) is None]
        if missing:
            return f"needs {', '.join(missing)}"
        country = _text(fields, "country")
        if self._is_elsewhere(country) and not _may_be_us_state(country, _text(fields, "state")):
            return f"only in {self._said_countries}, not in {country}"
        state = self._state_not_covered(_text(fields, "state"))
        if state is not None and _is_in_us(fields):
            return f"not in {state}"
        for condition in self.values:
            if all(_is_among(name, each, fields.get(name)) for name, each in condition.items()):
                said = ", ".join(f"{name} {fields[name]}" for name in condition)
                return f"does not take {said}"
        return None

    def _is_elsewhere(self, text: str) -> bool:
        """Whether a country is surely not supported."""
        code = country_of(text)
        return code is not None and self.countries is not None and code not in self.countries

    def _state_not_covered(self, text: str) -> str | None:
        """The US state if it is surely not covered."""
        code = us_state_of(text)
        if code is None:
            return None
        is_covered = code not in self.excluded and (self.states is None or code in self.states)
        return None if is_covered else code


def _is_among(name: str, values: frozenset[str], value: Any) -> bool:
    return _plain(name, value) in values


def _all_known(
    texts: Sequence[str] | None, read: Callable[[str], str | None]
) -> frozenset[str] | None:
    """Codes; None for all codes, and if it is not sure what is meant."""
    codes = [read(text) for text in texts or ()]
    known = frozenset(code for code in codes if code is not None)
    return known if known and None not in codes else None


def _conditions(values: Any) -> list[dict[str, frozenset[str]]]:
    """Conditions under which a source does not answer: all fields of one have to match.

    {"state": ["AK", "HI"]}, {"state": "AK"} and [{"state": "AK"}, {"country": "CU"}] are
    understood; what does not name fields of a location is ignored.
    """
    together: list[Mapping[Any, Any]]
    if isinstance(values, Mapping):
        together = [{name: value} for name, value in values.items()]
    elif isinstance(values, list):
        together = [each for each in values if isinstance(each, Mapping) and each]
    else:
        return []
    found = []
    for condition in together:
        if all(name in READERS and name not in _NOT_OF_THE_LOCATION for name in condition):
            read = {
                name: frozenset(
                    _plain(name, each)
                    for each in (value if isinstance(value, list) else [value])
                    if isinstance(each, str | int | float) and each != ""
                )
                for name, value in condition.items()
            }
            if all(read.values()):
                found.append(read)
    return found


def _plain(name: str, value: Any) -> str:
    """A value, the same however it is written; "" for none."""
    with contextlib.suppress(InputError, ValueError):
        value = READERS[name](name, value)
    text = "" if value is None else " ".join(str(value).casefold().split())
    return us_state_of(text) or text if name == "state" else text


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _may_be_us_state(country: str, state: str) -> bool:
    """Whether a state's code is where the country should be: "CA" beside "CA" is no Canada."""
    return us_state_of(country) is not None and us_state_of(state) is not None


def _is_in_us(fields: Mapping[str, Any]) -> bool:
    country = _text(fields, "country")
    if country:
        return country_of(country) == US
    if "address" in fields:
        return False
    postal_code = _text(fields, "postal_code")
    if postal_code and not _ZIP.fullmatch(postal_code):
        return False
    latitude, longitude = fields.get("latitude"), fields.get("longitude")
    is_there = latitude is None or _US_LATITUDES[0] <= latitude <= _US_LATITUDES[1]
    return is_there and (
        longitude is None or any(west <= longitude <= east for west, east in _US_LONGITUDES)
    )
