"""Plausible answers: a pure function of a location's fields and a source.

The same location gets the same answer, whatever its id, the order and the server's seed.
All randomness comes from a hash of the fields, so that two processes agree, too.
"""

import hashlib
from typing import Any, Final, NamedTuple

import msgspec

from pingdata_async.sandbox.places import Place, read_place
from pingdata_async.sandbox.sources import GEOCODERS, HAZARDS

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
    def of(cls, fields: dict[str, Any]) -> "Subject":
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
) -> dict[str, dict[str, Any]]:
    """The answers of some sources about one location, by source code."""
    subject = Subject.of(fields)
    place = read_place(fields, subject.digest)
    answers = {}
    for source in sources:
        result = outcome(subject, source, no_match_share)
        answer = _base(result, options)
        digest = result.digest
        if source in GEOCODERS:
            own = _geocoder(place, digest)
        elif source in HAZARDS:
            own = _hazard(place, digest, fields)
        else:
            own = _other(place, digest)
        answer.update(own if result.is_success else dict.fromkeys(own))
        answers[source] = answer
    return answers


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
