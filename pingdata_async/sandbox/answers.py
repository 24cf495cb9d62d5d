"""Plausible answers (pure): where an address is, and what the data sources say of it.

The same location gets the same answer, whatever its id, the order and the server's seed: all
randomness comes from a hash of the fields, so two processes agree. Addresses are read simply, as
of the US, and placed into rough boxes of the states.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, NamedTuple

import msgspec

# -- Places ----------------------------------------------------------------------------------

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


# -- Data sources ----------------------------------------------------------------------------

SOURCES: Final[tuple[tuple[str, str], ...]] = (
    ("NOOP", "No Op Datasource"),
    ("AZG", "Azure Geocoding"),
    ("BV", "Betterview"),
    ("CA", "Cape Analytics"),
    ("CLS_CSRS", "CoreLogic Spatial Coastal Storm Risk Score"),
    ("CLS_CRS", "CoreLogic Spatial Crime Risk Score"),
    ("CLS_DTFST", "CoreLogic Spatial Distance to FireStation"),
    ("CLS_EQRS", "CoreLogic Spatial Earthquake Risk Score"),
    ("CLS_FFRS", "CoreLogic Spatial Flash Flood Risk Score"),
    ("CLS_FRS", "CoreLogic Spatial Flood Risk Score"),
    ("CLS_HI", "CoreLogic Spatial Hail Insight"),
    ("CLS_HR", "CoreLogic Spatial Hail Risk"),
    ("CLS_NWFRS", "CoreLogic Spatial Non-Weather FireRisk Score"),
    ("CLS_NWWRS", "CoreLogic Spatial Non-Weather WaterRisk Score"),
    ("CLS_WFRS", "CoreLogic Spatial Wildfire Risk Score"),
    ("CLS_WRS", "CoreLogic Spatial Wind Risk Score"),
    ("DTC", "Distance To Coast"),
    ("DTFH", "Ping Distance To Fire Hydrant"),
    ("DTFST", "Ping Distance To Fire Station"),
    ("E2V", "E2Value Commercial Lite"),
    ("E2VR", "E2Value Residential Lite"),
    ("EC", "Easi Crime"),
    ("EG", "Esri Geocoding"),
    ("EGR", "Esri Reverse Geocoding"),
    ("FNRI", "Fema National Risk Index"),
    ("GIO", "Geocodio"),
    ("GEV", "Google Elevation"),
    ("GG", "Google Geocoding"),
    ("GGR", "Google Reverse Geocoding"),
    ("HH", "Hazardhub"),
    ("HG", "Here Geocoding"),
    ("IMF", "Intermap Flood"),
    ("KR", "Katrisk"),
    ("LP", "LibPostal"),
    ("LB", "Lightbox"),
    ("LBFZ", "Lightbox Flood Zone"),
    ("LBG", "Lightbox Geocoding"),
    ("LBP", "Lightbox Parcel"),
    ("LBGR", "Lightbox Reverse Geocoding"),
    ("LBSS", "Lightbox SpatialStream"),
    ("LBS", "Lightbox Structures"),
    ("DTFS", "Ping Distance To Florida Sinkhole"),
    ("PFF", "Ping Fema Flood Zone"),
    ("PFPC", "Ping Fire Protection Classification"),
    ("PG", "Ping Geocoding"),
    ("PH", "Ping Hazard"),
    ("PO", "Ping Occupancy"),
    ("PSZ", "Ping Slosh Zone"),
    ("PUC", "Ping USA Construction"),
    ("PUSDAW", "Ping USDA Wildfire"),
    ("PLP", "Ping Parcel"),
    ("PLB", "Ping Building"),
    ("PLA", "Ping Assessment"),
    ("PSG", "Precisely Geocoding"),
    ("REASKM", "Reask Metryc"),
    ("RZR", "Redzone Risk"),
    ("RMSLCP", "RMS Loss Cost Pricing"),
    ("RMS_US_ESDB", "RMS US ExposureSource Database"),
    ("SM", "Smarty Street Address"),
    ("TF", "Tensorflight"),
    ("T4D", "Teren4d"),
    ("TG", "Tiger Geocoding"),
    ("VP", "Verisk Property"),
    ("VPD", "Vexcel Property Damage"),
    ("VPI", "Vexcel Property Information"),
)
"""Code and name of every source of the vendor's list."""

NAMES: Final[dict[str, str]] = dict(SOURCES)
"""The name of each known source code."""

REVERSE_GEOCODERS: Final[frozenset[str]] = frozenset({"EGR", "GGR", "LBGR"})
"""Geocoders that start from coordinates."""

GEOCODERS: Final[frozenset[str]] = REVERSE_GEOCODERS | frozenset(
    ("AZG", "EG", "GG", "GIO", "HG", "LBG", "LP", "PG", "PSG", "SM", "TG")
)
"""Sources that answer with an address and its coordinates."""

HAZARDS: Final[frozenset[str]] = frozenset({"HH", "PH"})
"""Sources that answer with tens of hazard and building attributes."""

NEED_CREDENTIALS: Final[frozenset[str]] = frozenset(
    code for code, name in SOURCES if name.startswith(("CoreLogic", "RMS ", "Verisk", "Vexcel"))
)
"""Sources for which a customer brings an account of their own."""

# -- Answers ---------------------------------------------------------------------------------

ADDRESS_FIELDS: Final = (
    "address",
    "address_line_1",
    "address_line_2",
    "city",
    "state",
    "postal_code",
    "county",
    "country",
    "latitude",
    "longitude",
    "bldg_name",
    "lightbox_assessment_id",
    "lightbox_building_id",
    "lightbox_parcel_id",
    "lightbox_parcel_wkt",
)
NO_MATCH: Final = "No match found"

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_PERSON: Final = b"sandbox"
_UNIT: Final = 2**32
_FLOOD_ZONES: Final = ("X", "X", "X", "X500", "A", "AE", "AE", "AH", "AO", "VE", "D")
_CONSTRUCTION: Final = (
    "Frame",
    "Joisted Masonry",
    "Non-Combustible",
    "Masonry Non-Combustible",
    "Modified Fire Resistive",
    "Fire Resistive",
)
_OCCUPANCY: Final = (
    "Single Family Dwelling",
    "Apartment",
    "Office",
    "Retail",
    "Warehouse",
    "Restaurant",
    "Hotel",
    "School",
    "Government",
    "Light Industrial",
)
_ROOFS: Final = ("Asphalt Shingle", "Metal", "Tile", "Built-Up", "Single-Ply Membrane", "Slate")
_GRADES: Final = ("Very Low", "Low", "Moderate", "High", "Very High")
_LOCATION_TYPES: Final = ("ROOFTOP", "ROOFTOP", "ROOFTOP", "RANGE_INTERPOLATED")


class Options(NamedTuple):
    """What a request asks about all of its answers."""

    check_cache: bool = True
    include_raw_response: bool = False


class Subject(NamedTuple):
    """A location, ready to be asked about: its fields and what is derived from them."""

    fields: dict[str, Any]
    everything: bytes
    digest: bytes

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Subject:
        """The subject of a location's fields (those of the lookup, without id and sources)."""
        address = [
            value.strip().casefold() if isinstance(value, str) else value
            for value in map(fields.get, ADDRESS_FIELDS)
        ]
        digest = hashlib.blake2b(_ENCODER.encode(address), digest_size=16, person=_PERSON).digest()
        return cls(fields, _ENCODER.encode(fields), digest)


class Outcome(NamedTuple):
    """Whether a source has an answer, and the bytes from which that answer is made."""

    is_success: bool
    fetch_time: float
    digest: bytes


def outcome(subject: Subject, source: str, no_match_share: float) -> Outcome:
    """How a source will answer about a location.

    ``no_match_share`` of the addresses have no match anywhere. Of the others, half as many have
    none at the sources that are no geocoders, as happens with new and rural buildings.
    """
    digest = hashlib.blake2b(
        subject.everything, digest_size=64, key=source.encode(), person=_PERSON
    ).digest()
    found = int.from_bytes(subject.digest[:4], "big") >= no_match_share * _UNIT
    if found and source not in GEOCODERS:
        found = int.from_bytes(digest[60:], "big") >= no_match_share / 2 * _UNIT
    return Outcome(found, round(0.04 + (digest[58] << 8 | digest[59]) / 50_000, 3), digest)


def answer_location(
    fields: dict[str, Any],
    sources: tuple[str, ...],
    options: Options,
    no_match_share: float,
    edition: int = 0,
) -> dict[str, dict[str, Any]]:
    """The answers of some sources about one location, by source code."""
    subject = Subject.of(fields)
    place = read_place(fields, subject.digest)
    answers = {}
    for source in sources:
        result = outcome(subject, source, no_match_share)
        answer = _base(result, options)
        digest = _in_edition(edition, result.digest) if edition else result.digest
        if source in GEOCODERS:
            own = _geocoder(place, digest)
        elif source in HAZARDS:
            own = _hazard(place, digest, fields)
        else:
            own = _other(place, digest)
        answer.update(own if result.is_success else dict.fromkeys(own))
        answers[source] = answer
    return answers


def _in_edition(edition: int, digest: bytes) -> bytes:
    """Some bytes of a tenth of the digests are others in each edition."""
    other = hashlib.blake2b(b"%d" % edition + digest, person=_PERSON).digest()
    if other[0] % 10:
        return digest
    return bytes(was if new % 8 else new for was, new in zip(digest, other, strict=True))


def _base(result: Outcome, options: Options) -> dict[str, Any]:
    found = result.is_success
    return {
        "is_success": found,
        "error_message": None if found else NO_MATCH,
        "confidence": 60 + result.digest[57] % 41 if found else None,
        "status_code": 200 if found else 404,
        "fetch_time": result.fetch_time,
        "is_cache_hit": options.check_cache and result.digest[56] % 4 == 0,
        "raw_response": {"worker_name": "sandbox"} if options.include_raw_response else None,
        "persist_for": None,
        "worker_name": "sandbox",
    }


def _geocoder(place: Place, digest: bytes) -> dict[str, Any]:
    number, route = place.street()
    return {
        "street_number": number,
        "route": route,
        "location_type": _LOCATION_TYPES[digest[0] % 4],
        "precision": 10 - digest[0] % 4,
        "latitude": place.latitude,
        "longitude": place.longitude,
        "formatted_address": place.formatted,
        "place_id": digest[1:13].hex(),
        "address_line_1": place.line_1,
        "address_line_2": place.line_2 or "",
        "city": place.city,
        "postal_code": place.postal_code,
        "county": place.county,
        "state": place.state,
        "country": place.country,
    }


def _other(place: Place, digest: bytes) -> dict[str, Any]:
    return {
        "latitude": place.latitude,
        "longitude": place.longitude,
        "formatted_address": place.formatted,
        "reference_id": digest[:8].hex(),
        "score": digest[8] % 101,
        "rating": _GRADES[digest[9] % 5],
        "distance_miles": (digest[10] << 8 | digest[11]) / 1000,
        "as_of_year": 2018 + digest[12] % 7,
    }


def _hazard(place: Place, digest: bytes, fields: dict[str, Any]) -> dict[str, Any]:
    """Some 45 attributes, some of them nested; each byte of the digest decides about one."""
    zone = _FLOOD_ZONES[digest[6] % 11]
    return (
        _site(place, digest, zone)
        | _building(digest, fields)
        | _perils(place, digest)
        | _nested_perils(digest, zone)
    )


def _site(place: Place, d: bytes, zone: str) -> dict[str, Any]:
    coordinates = f"{place.latitude},{place.longitude}"
    return {
        "latitude": place.latitude,
        "longitude": place.longitude,
        "geocode_type": "ADDRESS" if place.line_1 else "LOCALITY",
        "formatted_address": place.formatted,
        "google_maps_link": f"https://www.google.com/maps/search/?api=1&query={coordinates}",
        "fema_flood_zone": zone,
        "fema_flood_zone_description": (
            "Area of minimal flood hazard" if zone[0] == "X" else "Special Flood Hazard Area"
        ),
        "fema_panel": f"{d[7]:03d}{d[8]:03d}C{d[9]:04d}E",
        "fema_panel_effective_date": f"20{d[10] % 24:02d}-{1 + d[11] % 12:02d}-15",
        "elevation": (d[13] << 8 | d[14]) / 20,
        "elevation_unit": "ft",
        "slope_degrees": d[15] / 10,
    }


def _building(d: bytes, fields: dict[str, Any]) -> dict[str, Any]:
    """What the caller knew of the building is kept."""
    stories = fields.get("const__num_stories") or 1 + d[0] % 3 + d[1] // 241 * (d[0] % 30)
    area = fields.get("const__bldg_area") or (1 + d[0] % 3) * (900 + (d[2] << 8 | d[3]) % 40_000)
    built = fields.get("const__bldg_year_built") or 1890 + (d[4] + d[5]) % 134
    return {
        "bldg_year_built": built,
        "bldg_num_stories": stories,
        "bldg_area": area,
        "bldg_area_unit": "sqft",
        "bldg_count": 1 + d[16] // 251,
        # A float, because an absurd area would make an integer too large for the encoder.
        "bldg_replacement_cost": float(area) * (110 + d[17]),
        "construction_description": _CONSTRUCTION[d[18] % 6],
        "construction_iso_class": 1 + d[18] % 6,
        "occupancy_description": _OCCUPANCY[d[19] % 10],
        "occupancy_code_air": 300 + d[19] % 60,
        "roof_covering": _ROOFS[d[20] % 6],
        "roof_age_years": d[21] % 35,
        "roof_condition": _GRADES[d[22] % 5],
    }


def _perils(place: Place, d: bytes) -> dict[str, Any]:
    return {
        "distance_to_coast_miles": (d[23] << 8 | d[24]) / 100,
        "nearest_coastline": "Atlantic Ocean" if place.longitude > -100 else "Pacific Ocean",  # noqa: PLR2004 - a map, not a setting
        "distance_to_fire_station_miles": d[25] / 25,
        "distance_to_fire_hydrant_feet": d[26] * 20,
        "fire_protection_class": 1 + d[27] % 10,
        "wildfire_risk_score": d[28] % 101,
        "wildfire_risk_grade": _GRADES[d[28] % 101 // 21],
        "hail_risk_score": d[29] % 101,
        "hail_events_last_10_years": d[30] % 25,
        "tornado_risk_score": d[31] % 101,
        "straight_line_wind_risk_score": d[32] % 101,
        "hurricane_risk_score": d[33] % 101,
        "hurricane_storm_surge_category": d[34] % 6,
        "lightning_strikes_per_sq_mile": d[35] / 4,
        "winter_storm_risk_score": d[36] % 101,
        "sinkhole_risk_grade": _GRADES[d[37] % 5],
        "crime_index": d[38] * 2,
        "crime_index_national_average": 100,
        "pool_present": d[39] % 6 == 0,
        "solar_panels_present": d[40] % 9 == 0,
    }


def _nested_perils(d: bytes, zone: str) -> dict[str, Any]:
    return {
        "earthquake": {
            "risk_score": d[41] % 101,
            "risk_grade": _GRADES[d[41] % 101 // 21],
            "peak_ground_acceleration_2pct_50yr": d[42] / 200,
            "soil_class": "ABCDE"[d[43] % 5],
            "liquefaction_susceptibility": _GRADES[d[44] % 5],
            "nearest_fault": {"distance_miles": d[45] * 3, "name": None},
        },
        "flood": {
            "risk_score": d[46] % 101,
            "risk_grade": _GRADES[d[46] % 101 // 21],
            "base_flood_elevation_feet": d[47] / 2 if zone[0] in "AV" else None,
            "depth_100yr_feet": d[48] / 20 if zone[0] in "AV" else 0.0,
            "return_period_depths_feet": [d[49] / 50, d[50] / 25, d[51] / 20, d[52] / 10],
            "in_slosh_zone": zone == "VE",
        },
        "nearest_flood_zones": [
            {"zone": _FLOOD_ZONES[d[53] % 11], "distance_feet": d[53] * 11},
            {"zone": _FLOOD_ZONES[d[54] % 11], "distance_feet": d[54] * 23},
        ],
    }
