"""Seeded input: as many different addresses as are wanted, written as they are made."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from pathlib import Path

ADDRESSES = Path(__file__).parents[2] / "tests" / "data" / "us-addresses.csv"
HEADER = (
    "id",
    "address_line_1",
    "address_line_2",
    "city",
    "state",
    "postal_code",
    "latitude",
    "longitude",
)
SEED = 5


def rows(count: int, seed: int = SEED) -> Iterator[tuple[str, ...]]:
    """Addresses of real streets with house numbers and coordinates of their own."""
    with ADDRESSES.open(encoding="utf-8", newline="") as file:
        known = list(csv.DictReader(file))
    streets = [
        (each["address_line_1"].lstrip("0123456789 -"), each["city"], each["state"])
        for each in known
    ]
    places = [
        (each["postal_code"], float(each["latitude"]), float(each["longitude"])) for each in known
    ]
    rng = random.Random(seed)
    for row in range(count):
        street, city, state = streets[row % len(streets)]
        postal_code, latitude, longitude = places[row % len(places)]
        chance = rng.random()
        unit = f"Unit {row % 90 + 1}" if chance < 0.15 else ""
        yield (
            f"loc-{row:08d}",
            f"{int(chance * 1e9) % 19_999 + 1} {street}",
            unit,
            city,
            state,
            postal_code,
            f"{latitude + chance / 20:.7f}",
            f"{longitude - chance / 20:.7f}",
        )


def write_csv(path: Path, count: int, seed: int = SEED) -> None:
    """A CSV of so many rows; in flat memory."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows(count, seed))


def csv_path(count: int, folder: Path) -> Path:
    """Where in that folder the CSV of so many rows belongs."""
    return folder / f"rows-{count}.csv"


def csv_of(count: int, folder: Path) -> Path:
    """A CSV of so many rows in that folder; made if it is not there yet."""
    path = csv_path(count, folder)
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        write_csv(unfinished, count)
        unfinished.rename(path)
    return path


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """Its rows, one by one."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
