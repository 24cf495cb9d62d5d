"""Seeded input: as many different addresses as are wanted, written as they are made."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.throughput.contenders import CHUNK_SIZE, SOURCES

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
ONCE = (0, 1, 2, 3, 4, 5, 6)
"""Last digits of the rows at addresses of their own, where others repeat them."""
_NUMBERS = ("latitude", "longitude")
_LENGTH_BYTES = 4


class _Addresses:
    """Real streets, at which every number is another address."""

    def __init__(self) -> None:
        with ADDRESSES.open(encoding="utf-8", newline="") as file:
            known = list(csv.DictReader(file))
        self._streets = [
            (each["address_line_1"].lstrip("0123456789 -"), each["city"], each["state"])
            for each in known
        ]
        self._places = [
            (each["postal_code"], float(each["latitude"]), float(each["longitude"]))
            for each in known
        ]

    def at(self, number: int, chance: float) -> tuple[str, ...]:
        """All columns but the id."""
        street, city, state = self._streets[number % len(self._streets)]
        postal_code, latitude, longitude = self._places[number % len(self._places)]
        return (
            f"{int(chance * 1e9) % 19_999 + 1} {street}",
            f"Unit {number % 90 + 1}" if chance < 0.15 else "",
            city,
            state,
            postal_code,
            f"{latitude + chance / 20:.7f}",
            f"{longitude - chance / 20:.7f}",
        )


def rows(count: int, seed: int = SEED) -> Iterator[tuple[str, ...]]:
    """Addresses of real streets with house numbers and coordinates of their own."""
    addresses, rng = _Addresses(), random.Random(seed)
    for row in range(count):
        yield _id(row), *addresses.at(row, rng.random())


def repeating_rows(count: int, seed: int = SEED) -> Iterator[tuple[str, ...]]:
    """The like, but that three in ten are at the address of an earlier one, which may be any."""
    addresses, rng = _Addresses(), random.Random(seed)
    for row in range(count):
        first = row
        if _is_repeated(row):
            first = rng.randrange(row // 10) * 10 + rng.choice(ONCE)
        yield _id(row), *addresses.at(first, random.Random(seed + first).random())


def _id(row: int) -> str:
    return f"loc-{row:08d}"


def _is_repeated(row: int) -> bool:
    return row >= 10 and row % 10 not in ONCE


def locations_in(count: int) -> int:
    """How many different addresses so many rows are at that repeat."""
    return count - sum(map(_is_repeated, range(count)))


def write_csv(path: Path, count: int, seed: int = SEED, *, repeats: bool = False) -> None:
    """Write a CSV of that many rows, in flat memory."""
    made = repeating_rows if repeats else rows
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(made(count, seed))


def read_csv(path: Path) -> Iterator[dict[str, str]]:
    """Its rows, one by one."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def as_location(row: dict[str, str]) -> dict[str, Any]:
    """A CSV's row with numbers as numbers, and without what is empty."""
    return {
        name: float(value) if name in _NUMBERS else value for name, value in row.items() if value
    }


def chunks_of(source: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of a CSV as the API takes them, a job's at a time."""
    rows = map(as_location, read_csv(source))
    while chunk := list(itertools.islice(rows, CHUNK_SIZE)):
        yield chunk


def write_bodies(path: Path, source: Path) -> None:
    """The bodies of all submissions, gzipped, each behind its length."""
    with path.open("wb") as file:
        for chunk in chunks_of(source):
            body = json.dumps({"sources": SOURCES, "locations": chunk}).encode()
            packed = gzip.compress(body, 1)
            file.write(len(packed).to_bytes(_LENGTH_BYTES, "big") + packed)


def read_bodies(path: Path) -> Iterator[bytes]:
    """Them again, one by one."""
    with path.open("rb") as file:
        while length := file.read(_LENGTH_BYTES):
            yield file.read(int.from_bytes(length, "big"))


def input_path(kind: str, count: int, folder: Path) -> Path:
    """Where in a folder the input of this kind and size belongs."""
    endings = {"csv": ".csv", "repeating": "-repeating.csv", "bodies": ".bodies"}
    return folder / f"rows-{count}{endings[kind]}"


def make_input(kind: str, count: int, folder: Path) -> Path:
    """An input of that many rows in a folder; made if it is not there yet.

    Args:
        kind: "csv", "repeating" for one whose rows repeat others, or "bodies".
        count: How many rows.
        folder: Where it is kept.
    """
    path = input_path(kind, count, folder)
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        if kind == "bodies":
            write_bodies(unfinished, make_input("csv", count, folder))
        else:
            write_csv(unfinished, count, repeats=kind == "repeating")
        unfinished.rename(path)
    return path
