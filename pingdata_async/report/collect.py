"""One pass over a run: what its report tells.

Memory does not grow with the rows: columns are counted in bins, points in a grid, and of rows a
sample and the most remarkable are kept.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.words import us_state_of
from pingdata_async.models import EnhancedLocation, Reason
from pingdata_async.report.statistics import ColumnStats, PointGrid, Reservoir, batched
from pingdata_async.runs.directory.directory import (
    PLAN_NAME,
    SPOOL_NAME,
    TIMELINE,
    journal_path,
)
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.results import DuplicateAnswers, ResultReader, all_outcomes
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.timeline import Moment, moments_of
from pingdata_async.tables.schema.inference import AnswerColumns, AnswerScan, SchemaGrewError
from pingdata_async.tables.schema.output_table import FOR_MACHINES
from pingdata_async.tables.schema.types import UNREADABLE, ColumnType, Values
from pingdata_async.tables.writers.base import Point
from pingdata_async.tables.writers.json import points

MAX_COLUMNS = 300
MAX_POINTS = 3000  # in the sample on the map
MAX_LISTED = 25  # rows, of each kind
BATCH_ROWS = 512
LOW_CONFIDENCE = 60
FAR_KM = 1.0
COARSE_DEGREES = 0.125  # of the grid where no row may be told from others: about 14 km
MAX_TEXT = 160
EARTH_KM = 6371.0

Path_ = tuple[str, ...]


class ListedRow(msgspec.Struct, frozen=True):
    """A row that wants attention: its number from 0, its id, what was asked, and what is odd."""

    row: int
    id: str | None
    asked: str
    said: str


class Attention:
    """Rows that want attention for one reason.

    Attributes:
        title: What they have in common.
        advice: What may be done.
        total: How many there are.
    """

    def __init__(self, title: str, advice: str) -> None:
        self.title, self.advice = title, advice
        self.total = 0
        self._worst: list[tuple[float, int, ListedRow]] = []

    def add(self, weight: float, listed: ListedRow) -> None:
        """Add a row; the heaviest are kept, and of equals the first."""
        self.total += 1
        entry = (weight, -listed.row, listed)
        if len(self._worst) < MAX_LISTED:
            heapq.heappush(self._worst, entry)
        elif entry > self._worst[0]:
            heapq.heapreplace(self._worst, entry)

    def rows(self) -> list[ListedRow]:
        """Those that were kept, the heaviest first."""
        return [listed for _, _, listed in sorted(self._worst, reverse=True)]


class RunReport:
    """What a run's answers amount to; filled by `collect()`.

    Args:
        settings: The run's settings.
        with_rows: Whether single rows may be told from others: their points, addresses and ids.
    """

    def __init__(self, settings: RunSettings, *, with_rows: bool) -> None:
        self.sources = settings.sources
        self.with_rows = with_rows
        self.rows = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()  # status and reason
        self.grid = PointGrid() if with_rows else PointGrid(COARSE_DEGREES)
        self.sample: Reservoir[tuple[Point, EnhancedLocation]] = Reservoir(MAX_POINTS)
        self.moments: list[Moment] = []
        self.sample_values: list[tuple[ColumnStats, Values]] = []
        self.attention = {
            "no_answer": Attention(
                "No answer", "The API did not answer these rows. `retry` sends them again."
            ),
            "no_match": Attention(
                "No match", "A source knows no such location. Look at the address."
            ),
            "low": Attention(
                f"Confidence below {LOW_CONFIDENCE}", "The geocoder is not sure of these places."
            ),
            "far": Attention(
                f"More than {FAR_KM:g} km from the given coordinates",
                "Either the address or the coordinates are of another place.",
            ),
            "state": Attention(
                "In another state than the address says", "The geocoder found another place."
            ),
        }
        self._geocode_sources = settings.writing.geocode_sources
        self._columns = _Columns(settings.sources)

    @property
    def columns(self) -> list[ColumnStats]:
        """The columns of the answers, requested sources first."""
        return self._columns.in_order()

    def add(self, chunk: Chunk, results: list[EnhancedLocation]) -> None:
        """Add the rows of a planned chunk that have an outcome."""
        locations = dict(zip(chunk.rows, chunk.locations, strict=True))
        for batch in batched(results, BATCH_ROWS):
            self._add(batch, locations)

    def _add(self, results: list[EnhancedLocation], locations: Mapping[int, bytes]) -> None:
        self.rows += len(results)
        self.outcomes.update((each.status.value, each.reason or "") for each in results)
        values = self._columns.add(results)
        where = points(results, self._geocode_sources, self.sources)
        self.grid.add(point for point in where if point is not None)
        if not self.with_rows:
            self._look_at(results, locations, values, where)
            return
        for result, point in zip(results, where, strict=True):
            if point is not None:
                self.sample.offer(lambda r=result, p=point: (p, _copied(r)))  # type: ignore[misc]
        self._look_at(results, locations, values, where)

    def _look_at(
        self,
        results: Sequence[EnhancedLocation],
        locations: Mapping[int, bytes],
        values: Mapping[Path_, Values],
        where: Sequence[Point | None],
    ) -> None:
        """Find the rows that want attention; those that repeat another are not listed again."""
        geocoder = self._geocoder(values)
        nothing: Values = [None] * len(results)
        confidences = values.get((geocoder, "confidence"), nothing)
        states = values.get((geocoder, "state"), nothing)
        for result, confidence, state, point in zip(
            results, confidences, states, where, strict=True
        ):
            location = locations.get(result.row)
            if location is None and result.reason is not Reason.INVALID_INPUT:
                continue
            given = _given(location)
            said: dict[str, tuple[float, str]] = {}
            if not result.is_answered:
                said["no_answer"] = 0.0, f"{result.reason}: {result.error}"
            elif result.reason is Reason.NO_MATCH:
                said["no_match"] = 0.0, result.error or ""
            if isinstance(confidence, int | float) and confidence < LOW_CONFIDENCE:
                said["low"] = -confidence, f"{geocoder}: confidence {confidence:g}"
            if point is not None and location is not None and b'"latitude"' in location:
                away_km = given.km_to(point)
                if away_km is not None and away_km > FAR_KM:
                    said["far"] = away_km, f"{away_km:,.1f} km away"
            if isinstance(state, str) and state:
                found, wanted = us_state_of(state), given.us_state
                if found and wanted and found != wanted:
                    said["state"] = 0.0, f"found in {found}, the address says {wanted}"
            for kind, (weight, words) in said.items():
                listed = ListedRow(result.row, result.id, given.shown, words[:MAX_TEXT])
                self.attention[kind].add(weight, listed)

    def _geocoder(self, values: Mapping[Path_, Values]) -> str:
        """The source whose words on a place count: the first that says how it found it."""
        order = self._geocode_sources or self.sources
        return next((code for code in order if (code, "location_type") in values), "")

    def end(self) -> None:
        """After the last row: find what is known of the sample."""
        results = [result for _, result in self.sample.items]
        found = self._columns.values(results) if results else {}
        self.sample_values = [(self._columns.stats[path], found[path]) for path in found]


class _Columns:
    """Counts the columns of answers, whose schema grows as rows come."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._scan = AnswerScan(sources)
        self.stats: dict[Path_, ColumnStats] = {}
        self._renew()

    def _renew(self) -> None:
        self._columns = AnswerColumns(self._scan, {}, ())
        wanted = [
            place
            for place, column in enumerate(self._columns.all)
            if FOR_MACHINES.isdisjoint(column.origin.path)
        ][:MAX_COLUMNS]
        self._columns.choose(wanted)
        self._chosen = [self._columns.all[place] for place in wanted]

    def values(self, results: Sequence[EnhancedLocation]) -> dict[Path_, Values]:
        """The values of each column in these rows, by its path."""
        while True:
            try:
                found = self._columns.values(results)
            except SchemaGrewError:
                self._renew()
                continue
            paths = [column.origin.path for column in self._chosen]
            return dict(zip(paths, found, strict=True))

    def add(self, results: Sequence[EnhancedLocation]) -> dict[Path_, Values]:
        """Count them, and return them as `values()` does."""
        found = self.values(results)
        for column, values in zip(self._chosen, found.values(), strict=True):
            path = column.origin.path
            stats = self.stats.get(path)
            if stats is None:
                stats = self.stats[path] = ColumnStats(path, column.name)
            if column.type in {ColumnType.INTEGER, ColumnType.NUMBER}:
                stats.add_numbers(values)
            elif column.type is not ColumnType.NOTHING:
                stats.add_values(values)
        return found

    def in_order(self) -> list[ColumnStats]:
        """As a table has them."""
        paths = [column.origin.path for column in self._chosen]
        return [self.stats[path] for path in paths if path in self.stats]


def _copied(result: EnhancedLocation) -> EnhancedLocation:
    """The same row without the body that it came in."""
    data = msgspec.Raw(bytes(result.data))
    return EnhancedLocation(result.id, result.row, result.status, None, None, data)


class _Given(msgspec.Struct, omit_defaults=True):
    """What was asked about a row."""

    address: Any = None
    address_line_1: Any = None
    address_line_2: Any = None
    city: Any = None
    state: Any = None
    postal_code: Any = None
    latitude: Any = None
    longitude: Any = None

    @property
    def shown(self) -> str:
        """It in a line."""
        parts = [self.address, self.address_line_1, self.address_line_2, self.city]
        parts.append(" ".join(str(each) for each in (self.state, self.postal_code) if each))
        if self.latitude is not None and self.longitude is not None:
            parts.append(f"({self.latitude}, {self.longitude})")
        return ", ".join(str(part) for part in parts if part)[:MAX_TEXT]

    @property
    def us_state(self) -> str | None:
        """The state that it names; None if that is not sure."""
        if self.state:
            return us_state_of(str(self.state))
        found = _STATE_AND_ZIP.search(str(self.address or ""))
        return us_state_of(found[1]) if found else None

    def km_to(self, point: Point) -> float | None:
        """How far a point is from the given coordinates; None where there are none."""
        try:
            latitude, longitude = float(self.latitude), float(self.longitude)
        except (TypeError, ValueError):
            return None
        here, there = math.radians(latitude), math.radians(point[1])
        across = math.radians(point[0] - longitude)
        half = (
            math.sin((there - here) / 2) ** 2
            + math.cos(here) * math.cos(there) * math.sin(across / 2) ** 2
        )
        return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, half)))


_STATE_AND_ZIP = re.compile(r"\b([A-Z]{2}),?\s+\d{5}(?:-\d{4})?\b")
_NOTHING_GIVEN = _Given()
_decode_given = msgspec.json.Decoder(_Given).decode


def _given(location: bytes | None) -> _Given:
    try:
        return _NOTHING_GIVEN if location is None else _decode_given(location)
    except UNREADABLE:
        return _NOTHING_GIVEN


def collect(run_dir: Path, settings: RunSettings, *, with_rows: bool) -> RunReport:
    """Read a run's answers so far, once. Blocks.

    Args:
        run_dir: The run directory.
        settings: The run's settings.
        with_rows: Whether single rows may be told from others.

    Raises:
        RunError: When the run is damaged or cannot be read.
    """
    report = RunReport(settings, with_rows=with_rows)
    with (
        JournalReader(journal_path(run_dir), as_it_is_now=True) as journal,
        Plan(run_dir / PLAN_NAME) as plan,
        DuplicateAnswers(None) as duplicate_answers,
    ):
        report.moments = moments_of(journal.meta(TIMELINE))
        reader = ResultReader(
            Spool(run_dir / SPOOL_NAME), journal, settings.sources, keep_earlier=True
        )
        for index in range(plan.chunks):
            settled = reader.settled(plan.read(index))
            results = all_outcomes(settled, duplicate_answers, finished_only=True)
            report.add(settled.chunk, results)
    report.end()
    return report
