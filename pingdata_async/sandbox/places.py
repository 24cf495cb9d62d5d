"""Where an address is: simple reading of US addresses, and rough boxes of the states."""

import re
from typing import Any, Final, NamedTuple

# Name and rough bounding box (south, north, west, east) of each state.
_STATES: Final[dict[str, tuple[str, float, float, float, float]]] = {
    "AK": ("Alaska", 59.0, 66.5, -160.0, -142.0),
    "AL": ("Alabama", 31.0, 35.0, -88.4, -85.0),
    "AR": ("Arkansas", 33.0, 36.5, -94.4, -90.0),
    "AZ": ("Arizona", 31.4, 37.0, -114.6, -109.1),
    "CA": ("California", 33.0, 41.5, -121.5, -116.0),
    "CO": ("Colorado", 37.0, 41.0, -109.0, -102.1),
    "CT": ("Connecticut", 41.1, 42.0, -73.4, -71.9),
    "DC": ("District of Columbia", 38.82, 38.98, -77.1, -76.92),
    "DE": ("Delaware", 38.5, 39.8, -75.7, -75.2),
    "FL": ("Florida", 26.0, 30.8, -82.5, -80.3),
    "GA": ("Georgia", 30.6, 34.9, -85.0, -81.3),
    "HI": ("Hawaii", 19.0, 20.2, -155.9, -155.0),
    "IA": ("Iowa", 40.6, 43.5, -96.2, -90.4),
    "ID": ("Idaho", 42.0, 48.5, -116.9, -111.5),
    "IL": ("Illinois", 37.2, 42.4, -90.8, -87.8),
    "IN": ("Indiana", 38.0, 41.7, -87.8, -84.9),
    "KS": ("Kansas", 37.0, 40.0, -102.0, -94.7),
    "KY": ("Kentucky", 36.6, 38.9, -88.5, -82.6),
    "LA": ("Louisiana", 29.8, 33.0, -94.0, -90.0),
    "MA": ("Massachusetts", 41.7, 42.8, -73.3, -70.8),
    "MD": ("Maryland", 38.3, 39.7, -79.0, -75.5),
    "ME": ("Maine", 44.0, 46.8, -70.9, -67.8),
    "MI": ("Michigan", 41.8, 45.5, -86.3, -83.0),
    "MN": ("Minnesota", 43.5, 48.5, -96.7, -90.5),
    "MO": ("Missouri", 36.6, 40.5, -95.5, -89.7),
    "MS": ("Mississippi", 30.5, 35.0, -91.2, -88.3),
    "MT": ("Montana", 45.2, 48.9, -115.5, -104.2),
    "NC": ("North Carolina", 34.6, 36.5, -83.5, -76.5),
    "ND": ("North Dakota", 46.0, 48.9, -103.9, -97.0),
    "NE": ("Nebraska", 40.1, 42.9, -103.9, -96.2),
    "NH": ("New Hampshire", 42.8, 45.0, -72.4, -70.9),
    "NJ": ("New Jersey", 39.4, 41.2, -75.3, -74.1),
    "NM": ("New Mexico", 31.9, 36.9, -109.0, -103.1),
    "NV": ("Nevada", 36.5, 41.9, -119.8, -114.2),
    "NY": ("New York", 41.2, 44.8, -79.0, -73.6),
    "OH": ("Ohio", 38.8, 41.6, -84.7, -80.7),
    "OK": ("Oklahoma", 34.2, 36.9, -99.8, -94.6),
    "OR": ("Oregon", 42.1, 45.8, -123.8, -117.1),
    "PA": ("Pennsylvania", 39.8, 41.9, -80.4, -75.2),
    "PR": ("Puerto Rico", 18.0, 18.45, -67.1, -65.8),
    "RI": ("Rhode Island", 41.4, 42.0, -71.8, -71.3),
    "SC": ("South Carolina", 32.8, 35.0, -82.5, -79.2),
    "SD": ("South Dakota", 43.0, 45.9, -103.9, -96.6),
    "TN": ("Tennessee", 35.1, 36.6, -89.8, -82.0),
    "TX": ("Texas", 28.0, 35.5, -102.5, -94.5),
    "UT": ("Utah", 37.1, 41.9, -113.9, -109.2),
    "VA": ("Virginia", 36.6, 39.0, -81.5, -76.5),
    "VT": ("Vermont", 42.8, 45.0, -73.3, -71.7),
    "WA": ("Washington", 45.8, 48.9, -123.5, -117.2),
    "WI": ("Wisconsin", 42.6, 46.5, -92.0, -87.9),
    "WV": ("West Virginia", 37.6, 40.4, -82.3, -78.2),
    "WY": ("Wyoming", 41.1, 44.9, -110.9, -104.2),
}
_CODES: Final = {name.upper(): code for code, (name, *_) in _STATES.items()} | {
    code: code for code in _STATES
}
_NO_BOX: Final = ("", 26.0, 48.5, -122.0, -76.0)
_UNITED_STATES: Final = frozenset({"US", "USA", "U.S.A.", "UNITED STATES"})
_POSTAL_CODE: Final = re.compile(r"\s*\b(\d{5}(?:-\d{4})?)$")
_STREET: Final = re.compile(r"(\d[\w/-]*)\s+(\S.*)")


class Place(NamedTuple):
    """An address, read; what it does not name is None."""

    line_1: str | None
    line_2: str | None
    city: str | None
    state: str | None
    postal_code: str | None
    county: str | None
    country: str
    formatted: str
    latitude: float
    longitude: float

    def street(self) -> tuple[str | None, str | None]:
        """House number and street name of the first line."""
        found = _STREET.fullmatch(self.line_1 or "")
        return (found[1], found[2]) if found else (None, self.line_1)


class _Parts(NamedTuple):
    line_1: str | None
    line_2: str | None
    city: str | None
    state: str | None
    postal_code: str | None


def _text(location: dict[str, Any], name: str) -> str | None:
    return (location.get(name) or "").strip() or None


def _split_one_line(address: str) -> _Parts:
    """Street, unit, city, state and postal code of ``street[, unit], city, state zip[, USA]``."""
    parts = [part for piece in address.split(",") if (part := piece.strip())]
    if len(parts) > 1 and parts[-1].upper() in _UNITED_STATES:
        parts.pop()
    tail = parts.pop() if len(parts) > 1 else ""
    postal_code = None
    if found := _POSTAL_CODE.search(tail):
        postal_code = found[1]
        tail = tail[: found.start()]
        if not tail and len(parts) > 1:
            tail = parts.pop()
    city = None
    state = _CODES.get(tail.upper())
    if state is None:
        # "Springfield IL", without the comma
        before, _, word = tail.rpartition(" ")
        state = _CODES.get(word.upper())
        city = (before if state else tail) or None
    elif len(parts) > 1:
        city = parts.pop()
    line_1 = parts[0] if parts else None
    return _Parts(line_1, ", ".join(parts[1:]) or None, city, state, postal_code)


def _from_parts(location: dict[str, Any]) -> tuple[_Parts, str]:
    parts = _Parts(
        _text(location, "address_line_1"),
        _text(location, "address_line_2"),
        _text(location, "city"),
        _text(location, "state"),
        _text(location, "postal_code"),
    )
    last = " ".join(filter(None, (parts.state, parts.postal_code)))
    written = ", ".join(filter(None, (parts.line_1, parts.line_2, parts.city, last)))
    state = parts.state
    return parts._replace(state=_CODES.get(state.upper(), state) if state else None), written


def read_place(location: dict[str, Any], digest: bytes) -> Place:
    """Where a location is.

    Args:
        location: The fields of a location that passed the checks.
        digest: At least 16 bytes derived from the address; they choose the spot within the state
            when there are no coordinates.
    """
    address = _text(location, "address")
    if address:
        parts, written = _split_one_line(address), address
    else:
        parts, written = _from_parts(location)
    latitude, longitude = location.get("latitude"), location.get("longitude")
    if latitude is None or longitude is None:
        _, south, north, west, east = _STATES.get(parts.state or "", _NO_BOX)
        up = int.from_bytes(digest[8:12], "big") / 2**32
        right = int.from_bytes(digest[12:16], "big") / 2**32
        latitude = round(south + (north - south) * up, 6)
        longitude = round(west + (east - west) * right, 6)
    country = (_text(location, "country") or "US").upper()
    if country in _UNITED_STATES:
        country = "US"
    if not written:
        written = _text(location, "bldg_name") or f"{latitude}, {longitude}"
    if written.rpartition(",")[2].strip().upper() not in _UNITED_STATES:
        written = f"{written}, {'USA' if country == 'US' else country}"
    county = _text(location, "county") or (f"{parts.city} County" if parts.city else None)
    return Place(*parts, county, country, written, float(latitude), float(longitude))
