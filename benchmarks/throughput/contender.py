"""What every contender is: something that enhances a CSV, and shows that it did."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.throughput.data import read_csv
from benchmarks.throughput.serving import Served

SOURCES = ("PG", "PH")
CHUNK_SIZE = 1000
MAX_JOBS = 32
_NUMBERS = ("latitude", "longitude")


@dataclass(frozen=True)
class Part:
    """What is to be enhanced.

    Attributes:
        source: A CSV.
        rows: In it.
        folder: For everything that is written; empty.
    """

    source: Path
    rows: int
    folder: Path

    @property
    def output(self) -> Path:
        """Where the answers belong."""
        return self.folder / "out.jsonl"


class Contender(abc.ABC):
    """A way to enhance a CSV; used with `async with`.

    Attributes:
        uses_loop: Whether it works in the event loop, so that its lateness says something.
    """

    uses_loop = True

    def __init__(self, url: str) -> None:
        self.url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def prepare(self, part: Part) -> None:  # noqa: B027 - most have nothing to prepare
        """What does not count, such as encoding bodies; before each `run()`."""

    @abc.abstractmethod
    async def run(self, part: Part) -> None:
        """What is measured."""

    @abc.abstractmethod
    def check(self, part: Part, served: Served) -> None:
        """Raise ValueError where not every row came out as the server answered it."""


def need(is_so: bool, what: str) -> None:
    """Raise ValueError with these words, unless it is so."""
    if not is_so:
        raise ValueError(what)


def chunks_of(source: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of a CSV as the API takes them, a job's at a time."""
    rows = map(as_location, read_csv(source))
    while chunk := list(itertools.islice(rows, CHUNK_SIZE)):
        yield chunk


def as_location(row: dict[str, str]) -> dict[str, Any]:
    """A CSV's row with numbers as numbers, and without what is empty."""
    return {
        name: float(value) if name in _NUMBERS else value for name, value in row.items() if value
    }
