"""What the cells of real forms mean: headers and two rows in, the locations that are sent out.

A line a form. To add one: put it into the section of its kind, its cells separated by "|".
Whatever the order of its columns and rows, and the kind of its file, the same is sent.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pingdata_async.exceptions import InputError
from pingdata_async.location_batches import prepare_batch
from pingdata_async.locations import prepare
from tests.tables.reading import Given, read_all


class Form(NamedTuple):
    """A form, two rows of it, and what is sent of the first one, or else what is said of it."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], tuple[str, ...]]
    sent: dict[str, Any]
    said: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "|".join(self.headers)[:60]


def form(headers: str, first: str, second: str, **sent: Any) -> Form:
    """A form whose first row is sent as that; fields that are not named are not sent."""
    return Form(_cells(headers), (_cells(first), _cells(second)), sent)


def refused(headers: str, first: str, second: str, *said: str) -> Form:
    """A form that is not sent, with all that has to be said."""
    return Form(_cells(headers), (_cells(first), _cells(second)), {}, said)


def _cells(line: str) -> tuple[str, ...]:
    return tuple(line.split("|"))


# -- House numbers, units, directions and kinds of street in columns of their own ------------

STREETS = [
    form(
        "House #|Street|City|State|Zip",
        "12|Main St|Boston|MA|02134",
        "14|Elm St|Boston|MA|02134",
        address_line_1="12 Main St",
        city="Boston",
        state="MA",
        postal_code="02134",
    ),
]

# -- Combined tails; a one-line address and its parts ----------------------------------------

ONE_LINE = [
    form(
        "Full Address|TIV",
        "12 Main St, Boston, MA 02134|1000",
        "14 Main St, Boston, MA 02134|1000",
        address="12 Main St, Boston, MA 02134",
    ),
]

# -- Headings of postal codes, and zeros -----------------------------------------------------

MA_US = (("state", "MA"), ("country", "US"))

POSTAL_CODES = [
    form(
        "Street Address|Zip",
        "12 Main St|02134",
        "14 Main St|02134",
        address_line_1="12 Main St",
        postal_code="02134",
    ),
]

POSTAL_CODES += [
    form(f"Loc City|{headers}", f"x|{row}", "y|02134|MA|US", city="x", **dict(sent))
    for headers, row, sent in (
        ("Zip|State|Country", "2134|MA|US", (("postal_code", "02134"), *MA_US)),
        ("ZIP|ST|Country", "2134.0|MA|", (("postal_code", "02134"), ("state", "MA"))),
        ("Zip Code|State|Cntry", "501||USA", (("postal_code", "00501"), ("country", "USA"))),
        ("POSTALCODE|STATE|COUNTRY", "21345678|MA|US", (("postal_code", "02134-5678"), *MA_US)),
        ("Post Code|State|Country", "6000|WA|", (("postal_code", "6000"), ("state", "WA"))),
        ("postcode|state|country", "3182||", (("postal_code", "3182"),)),
        ("Postal|Province|Country", "8001||CH", (("postal_code", "8001"), ("country", "CH"))),
        ("zip|state|country", "7701|TX|", (("postal_code", "7701"), ("state", "TX"))),
    )
]

# -- Coordinates -----------------------------------------------------------------------------

COORDINATES = [
    refused(
        "Zip|Lat|Latitude|Long",
        "02134|25.77|25.77|-80.19",
        "02135|25.78|25.78|-80.20",
        '--map latitude="Lat"',
    ),
    form("Lat|Long", "25.77|-80.19", "25.78|-80.20", latitude=25.77, longitude=-80.19),
    # Not geocoded, in CEDE, RMS and OED; the other row is.
    *(
        form(f"Zip|{headers}", f"02134|{nowhere}", "02135|42.1|-71.1", postal_code="02134")
        for headers, nowhere in (
            ("Latitude|Longitude", "0|0"),
            ("LATITUDE|LONGITUDE", "0.000000|-0.0"),
            ("Lat|Lon", "-999|9999"),
            ("LAT|LONG", "|-71.1"),
            ("GPS Lat|GPS Long", "42.1|tbd"),
            ("Site Latitude|Site Longitude", "42.1 W|-71.1"),
            ("latitude|longitude", "-42.1 N|-71.1"),
            ("Geo Lat|Geo Lng", "4675512.3|583960"),
        )
    ),
    *(
        form(headers, first, second, latitude=latitude, longitude=longitude)
        for headers, first, second, latitude, longitude in (
            ("Lat|Long", "40|-74", "41|-74", 40.0, -74.0),
            ("Lat|Long", "51.478|0", "51.5|0.1", 51.478, 0.0),
            ("Latitude|Longitude", "48,8566|2,3522", "0,045|-0,001", 48.8566, 2.3522),
            ("Latitude|Longitude", "0,045|-0,001", "48,8566|2,3522", 0.045, -0.001),
            ("Lat|Long", "40\u00b030'N|79\u00b045'0\"W", "41|-80", 40.5, -79.75),
            ("Lat|Long", "N40-30-00|W079-45-00", "41|-80", 40.5, -79.75),
            ("Lat (DMS)|Long (DMS)", "40 30 0 N|79 45 0 W", "41|-80", 40.5, -79.75),
            ("Lat/Long|TIV", "(40.5, -79.75)|5", "41, -80|6", 40.5, -79.75),
            ("Lat, Long|TIV", "40,5; -79,75|5", "41, -80|6", 40.5, -79.75),
            ("Lat Long|TIV", "POINT (-79.75 40.5)|5", "41, -80|6", 40.5, -79.75),
            ("LatLng|TIV", "79.75\u00b0 W 40.5\u00b0 N|5", "41, -80|6", 40.5, -79.75),
        )
    ),
]

# -- Words for nothing, codes for unknown ----------------------------------------------------

NOTHING = [
    form("Zip|Yr Built", "02134|", "02135|1950", postal_code="02134"),
    form("Address|City|Zip|Stories", "n/a|NULL|02134|TBD", "-|x|02135|2", postal_code="02134"),
    form(
        "Street|City|Zip",
        "k.A.|Bonn|53111",
        "Am Markt 1|unbekannt|53111",
        city="Bonn",
        postal_code="53111",
    ),
    form(
        "Street|City|Zip|County",
        "néant|Lyon|69001|s/o",
        "1 rue X|Lyon|69002|Rhône",
        city="Lyon",
        postal_code="69001",
    ),
    form(
        "City|State|Country",
        "Napoli|NA|Italy",
        "Roma|RM|Italy",
        city="Napoli",
        state="NA",
        country="Italy",
    ),
    form("City|State|Country", "Windhoek|NA|NA", "Oslo||NO", city="Windhoek", country="NA"),
    form("City|State|County", "Boston|NA|#N/A", "Austin|TX|None", city="Boston"),
    form(
        "House #|Street|Zip",
        "N/A|Main St|02134",
        "12|Elm St|02134",
        address_line_1="Main St",
        postal_code="02134",
    ),
]

# -- Numbers, units in them, limits ----------------------------------------------------------

NUMBERS = [
    form(
        "Zip|Bldg Limit|# Stories",
        "02134|$1,200,000|3",
        "02135|5|2",
        postal_code="02134",
        limits__building_limit=1_200_000.0,
        const__num_stories=3,
    ),
]

FORMS = [*STREETS, *ONE_LINE, *POSTAL_CODES, *COORDINATES, *NOTHING, *NUMBERS]


# -- The tests -------------------------------------------------------------------------------


def sent(given: Given, rows: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """What is sent of each row; by the row, as it stands in the table."""
    fields = [prepare(location).fields for location in given.locations]
    batch = prepare_batch(given.locations)
    assert batch is None or [json.loads(line) for line in batch.encoded] == fields
    return dict(zip(rows, fields, strict=True))


def as_csv(path: Path, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([headers, *rows])
    return path


Table = tuple[tuple[str, ...], ...]


def orders(each: Form) -> Iterator[Table]:
    """The same table, headers first, with its columns in other orders; the rows as they are."""
    width = len(each.headers)
    for turn in {0, 1, width // 2}:
        places = [*range(turn, width), *range(turn)]
        for in_order in (places, places[::-1]):
            yield tuple(
                tuple(cells[place] for place in in_order) for cells in (each.headers, *each.rows)
            )


@pytest.mark.parametrize("each", [each for each in FORMS if not each.said], ids=str)
def test_what_is_sent_of_a_form(tmp_path: Path, each: Form) -> None:
    """Of a CSV, in any order of its columns and rows, and of the same rows as JSON."""
    path = tmp_path / "in.csv"
    for headers, first, second in orders(each):
        for rows in ((first, second), (second, first)):
            assert sent(read_all(as_csv(path, headers, rows)), rows)[first] == each.sent
    if len(set(each.headers)) == len(each.headers):
        objects = [dict(zip(each.headers, row, strict=True)) for row in each.rows]
        assert sent(read_all(objects), each.rows)[each.rows[0]] == each.sent


@pytest.mark.parametrize("each", [each for each in FORMS if each.said], ids=str)
def test_what_is_refused(tmp_path: Path, each: Form) -> None:
    """Before anything is sent, with what settles it; in any order of its columns and rows."""
    path = tmp_path / "in.csv"
    for headers, *rows in orders(each):
        with pytest.raises(InputError) as caught:
            read_all(as_csv(path, headers, rows))
        for text in each.said:
            assert text in str(caught.value)
