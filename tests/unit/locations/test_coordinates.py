"""Coordinates are read however they are written, or not at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pingdata_async.locations.coordinates import (
    COORDINATES,
    LATITUDE,
    LONGITUDE,
    degrees_of,
    is_nowhere,
    is_on_the_globe,
    joined_angle,
    split_pair,
)

DMS = 40 + 26 / 60 + 46 / 3600


WRITTEN = {
    (LATITUDE, 40.446): (
        *(
            "40.446",
            "  +40.446 ",
            "4.0446e1",
            "40.446\u00b0",
            "40.446\u00ba N",
            "40.446\u00c2\u00b0N",
        ),
        *("40.446 deg N", "N 40.446", "40.446 North", "Lat: 40.446", "Latitude 40.446 N", "40,446"),
        *("40,446\u00b0 N", "40.446,"),
    ),
    (LATITUDE, -40.446): (
        *("\u221240.446", "\u201340.446", "S40.446", "40.446S", "-40.446 S", "south 40.446\u00b0"),
        "40.446 Sud",
    ),
    (LATITUDE, DMS): (
        *("40\u00b026'46\"N", "40\u00b0 26\u2032 46\u2033 N", "40\u00b026\u201946\u201dN"),
        *("40\u00b026'46''", "40\u00b026\u203246,0\u2033N", "40\u00b0-26'-46\"N", "40d26'46\"N"),
        *("40 deg 26 min 46 sec N", "40 26 46 N", "40\u00a026\u00a046", "40:26:46", "N40-26-46"),
        *("40-26-46.0N", "40.0 26.0 46.0 N"),
    ),
    (LATITUDE, -DMS): ("40\u00ba 26\u00b4 46\u00b4\u00b4 S", "-40 26 46", "40:26:46 S"),
    (LATITUDE, 40 + 26.767 / 60): ("N 40 26.767", "40\u00b0 26.767'", "40 26,767 N"),
    (LATITUDE, -0.045): ("-0,045",),
    (LATITUDE, 1.234): ("1,234",),
    (LATITUDE, -0.125): ("-0 7 30",),
    (LATITUDE, 41.0): ("40 59 60.00",),
    (LATITUDE, 90.0): ("90",),
    (LATITUDE, 0.0): ("0",),
    (LONGITUDE, -(79 + 58 / 60 + 56 / 3600)): ("079\u00b058'56\"W",),
    (LONGITUDE, 2.3522): ("E2.3522", "2,3522 Est"),
    (LONGITUDE, -79.98): ("79.98 Ouest", "Long. -79.98"),
    (LONGITUDE, 7.4): ("7,4 Ost",),
    (LONGITUDE, -(79 + 58.933 / 60)): ("W 79 58.933",),
    (LONGITUDE, 180.0): ("180",),
}


@pytest.mark.parametrize(
    ("field", "degrees", "text"),
    [(*said, text) for said, texts in WRITTEN.items() for text in texts],
)
def test_degrees(field: str, degrees: float, text: str) -> None:
    """Signs, hemispheres, degrees, minutes and seconds, decimal points and commas."""
    read = degrees_of(field, text)
    assert read is not None
    assert math.isclose(read, degrees)


@pytest.mark.parametrize(
    "value",
    [
        *("-40 N", "+40 S", "40.4 W", "W 40.4", "Long 40.4", "40.4 O", "N 40.4 N"),
        *("0, 0", "40, 26", "40. 26", "40 75", "40 26 75", "1234 N", "40.4 deg 3"),
        *("40.5 26", "40 26.5 46", "1.234,5", "1,234.5", "40.446.195", "40,446,195", "$40", "40%"),
        *("40-26-46", "402646N", "12:30 PM", "40.1, -75.2", "40 ? 46", "40\u00b0 ' 46\""),
        *("", "-", "N", "tbd", "nan", "inf", "1_0", "\u0664\u0660", "40 " * 99),
        *(True, 10**400, [40], {}),
    ],
)
def test_what_is_no_latitude(value: object) -> None:
    """What contradicts its column or itself, or can mean several things."""
    assert degrees_of(LATITUDE, value) is None


@pytest.mark.parametrize("degrees", [-999, 9999.0, 90.0001, 4475000.5, math.nan, math.inf])
def test_what_is_on_no_globe(degrees: float) -> None:
    """Codes for unknown, metres of a projection, and what only floats can be."""
    assert not is_on_the_globe(LATITUDE, degrees)


FORMS = [
    "{sign}{degrees:.6f}",
    "{degrees:.6f} {letter}",
    "{letter}{degrees:.6f}\u00b0",
    "{sign}{comma}",
    "{whole}\u00b0{minutes}'{seconds:.3f}\"{letter}",
    "{sign}{whole}\u00b0 {minutes}\u2032 {seconds:.3f}\u2033",
    "{letter} {whole} {minutes} {seconds:.3f}",
    "{whole:03}-{minutes:02}-{seconds:06.3f}{letter}",
    "{sign}{whole}:{minutes:02}:{seconds:06.3f}",
    "{whole}\u00b0 {decimal_minutes:.5f}' {letter}",
    "{sign}{whole} {decimal_minutes:.5f}",
]


def written(form: str, field: str, degrees: float) -> str:
    size = abs(degrees)
    minutes = (size - int(size)) * 60
    return form.format(
        sign="-" if degrees < 0 else "",
        letter=("NS" if field == LATITUDE else "EW")[degrees < 0],
        degrees=size,
        comma=f"{size:.6f}".replace(".", ","),
        whole=int(size),
        minutes=int(minutes),
        decimal_minutes=minutes,
        seconds=(minutes - int(minutes)) * 60,
    )


LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)


@given(LATITUDES, LONGITUDES, st.sampled_from(FORMS))
def test_what_is_written_is_read(latitude: float, longitude: float, form: str) -> None:
    """Every form gives back the place to a metre, in cells of their own and in one."""
    assume(not is_nowhere(round(latitude, 3), round(longitude, 3)))
    texts = written(form, LATITUDE, latitude), written(form, LONGITUDE, longitude)
    places = {texts}
    for separator in ("; ", " / ", ", "):
        pair = split_pair(separator.join(texts), longitude_first=False)
        assert pair is not None
        places.add(pair)
        assert split_pair(separator.join(texts[::-1]), longitude_first=True) == pair
    for place in places:
        for text, field, degrees in zip(
            place, (LATITUDE, LONGITUDE), (latitude, longitude), strict=True
        ):
            read = degrees_of(field, text)
            assert read is not None
            assert math.isclose(read, degrees, abs_tol=1e-5)


@given(st.text(st.sampled_from("0123456789.,;:/°'\"NSEW -+()\u2032\u2212latonPOINT"), max_size=25))
def test_any_text_is_an_angle_or_none(text: str) -> None:
    """Whatever is in a cell; of a pair both halves or none."""
    for field in COORDINATES:
        read = degrees_of(field, text)
        assert read is None or abs(read) < 1000 or float(text) == read
    pair = split_pair(text, longitude_first=False)
    assert pair is None or len(pair) == 2


PAIRS = {
    (40.1, -75.2): (
        *("40.1, -75.2", "(40.1, -75.2)", "[40.1 -75.2]", "POINT (-75.2 40.1)", "40.1N75.2W"),
        *("SRID=4326;POINT(-75.2 40.1)", "Point Z (-75.2 40.1 12)", "40.1\u00b0 -75.2\u00b0"),
        *("Lat: 40.1, Long: -75.2", "lng -75.2 lat 40.1", "40.1\n-75.2"),
    ),
    (-40.1, -75.2): ("\u221240.1, \u221275.2",),
    (40.0, -74.0): ("40,-74",),
    (40.0, 74.0): ("40, 74",),
    (48.8566, 2.3522): (
        *("48,8566; 2,3522", "48,8566, 2,3522", "48,8566,2,3522", "48,8566 2,3522"),
        "48,8566 / 2,3522",
    ),
    (DMS, -(79 + 58 / 60 + 56 / 3600)): (
        *("40\u00b026'46\"N 79\u00b058'56\"W", "79\u00b058'56\"W, 40\u00b026'46\"N"),
        *("N40 26 46 W79 58 56", "40 26 46 -79 58 56", "40:26:46, -79:58:56"),
    ),
}


@pytest.mark.parametrize(
    ("place", "cell"), [(place, cell) for place, cells in PAIRS.items() for cell in cells]
)
def test_pairs(place: tuple[float, float], cell: str) -> None:
    """Both in a cell: in the order of the header, or in that which they say themselves."""
    pair = split_pair(cell, longitude_first=False)
    assert pair is not None
    read = degrees_of(LATITUDE, pair[0]), degrees_of(LONGITUDE, pair[1])
    assert read == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    "cell",
    [
        *("", "tbd", "40.1", "48,8566", "48,85", "48,8566,2", "40.1, -75.2, 12", "40.1;-75.2;12"),
        *("40.1 N, 41.1 N", "SRID=3857;POINT(-8371228 4881000)", "POLYGON((0 0, 1 1, 1 0, 0 0))"),
        *("0, 0", "POINT (0 0)", "40.1, 200", "583960, 4475000", "40.1, x", "40 N, 75 61 W"),
        *("40.1 N 75.2 W / 40.2 N 75.3 W", "40 26 46", "1 " * 200),
    ],
)
def test_what_is_no_pair(cell: str) -> None:
    """One number, three, two that may be one, or no place."""
    assert split_pair(cell, longitude_first=False) is None


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("40", "26", "46", "N"), "40 26 46 N"),
        (("40", "26.767", "N"), "40 26.767 N"),
        (("79.98", "W"), "79.98 W"),
        (("", "", ""), ""),
        (("", " ", "", "N"), ""),
        (("-79.98", ""), "-79.98"),
        (("-79", "58.9", "", "W"), "-79 58.9 W"),
    ],
)
def test_an_angle_of_several_columns(parts: tuple[str, ...], text: str) -> None:
    """What is there is put together; a hemisphere alone is nothing."""
    assert joined_angle(parts) == text


@pytest.mark.parametrize(
    "parts",
    [
        *(("40", "", "46", "N"), ("40", "26", ""), ("40", "", ""), ("", "26", "46")),
        *(("79.98", ""), ("-79", ""), ("-79", "58", "", "W"), ("40.446", "26", "46")),
    ],
)
def test_an_angle_that_lacks_a_part(parts: tuple[str, ...]) -> None:
    """Degrees without their minutes, or without their hemisphere, are another place."""
    text = joined_angle(parts)
    assert text
    assert degrees_of(LATITUDE, text) is None
    assert degrees_of(LONGITUDE, text) is None
