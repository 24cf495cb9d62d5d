"""A run's charges beside the account's usage: whether what is in doubt was charged.

The journal knows what was accepted, and what may have been. The account knows what was charged, by
time and source, but not by job. Where both agree, nothing in doubt was charged; where the account
has just as much more, it was. All else that used the account in the run's time leaves it open.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread
import msgspec

from pingdata_async.api.account import Usage
from pingdata_async.api.client import PingDataClient
from pingdata_async.engine.flow_control.budget import folded
from pingdata_async.exceptions import PingDataError
from pingdata_async.runs.directory.directory import journal_path, read_settings, runs_beside
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.journal.reader import JournalReader, SubmissionSpan
from pingdata_async.util.files import absolute, is_locked
from pingdata_async.util.text import shown_path

CLOCKS_DIFFER_S = 60.0  # our clock and the API's, at most
PAUSE_S = 600.0  # what used the account in longer ones was not this run
MOST_SPANS = 20  # requests
FINEST_S = 300.0  # the finest granularity of usage
MOST_GRANULARITIES = 3
MOST_AMOUNTS = 100_000  # of sums of what is in doubt
_GRANULARITY = re.compile(r"(\d{1,4})([mhd])")
_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


class Verdict(enum.StrEnum):
    """What the account says of what is in doubt."""

    NOTHING_IN_DOUBT = "nothing_in_doubt"
    NOT_CHARGED = "not_charged"
    CHARGED = "charged"  # if nothing else used the account
    PARTLY_CHARGED = "partly_charged"  # likewise
    OPEN = "open"  # something else used the account
    SHORT = "short"  # it has less than was accepted


class SourceAccount(msgspec.Struct, frozen=True, kw_only=True):
    """What journals and account say of a source, in locations.

    Attributes:
        charged: In accepted jobs of the run.
        in_doubt: In its submissions that may have been accepted.
        other_runs: In jobs of other runs in the same folder, at the same time.
        other_runs_in_doubt: In their submissions that may have been accepted.
        account: What the account was charged in that time.
        unexplained: How much more that is than in all of the accepted jobs; below 0 where it is
            less.
        verdict: What follows for `in_doubt`.
    """

    charged: int
    in_doubt: int
    other_runs: int
    other_runs_in_doubt: int
    account: int
    unexplained: int
    verdict: Verdict


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """A run's charges beside the account's usage.

    Attributes:
        run_dir: The run directory.
        is_running: Whether a process is executing it: more is charged meanwhile.
        verdict: What follows for all that is in doubt.
        submissions_in_doubt: Submissions that may have been accepted.
        locations_in_doubt: Locations in them.
        spans: When the run sent something, from when to when in ISO 8601; in these times, rounded
            to `granularity`, the account was looked at.
        granularity: How exactly the API tells the time of usage: 5m, 1h or 1d; "" if it does not.
        other_runs: The runs in the same folder that sent something in these times.
        sources: By source.
    """

    run_dir: str
    is_running: bool
    verdict: Verdict
    submissions_in_doubt: int
    locations_in_doubt: int
    spans: tuple[tuple[str, str], ...]
    granularity: str
    other_runs: tuple[str, ...]
    sources: dict[str, SourceAccount]


# -- Decisions (pure) ------------------------------------------------------------------------


class Span(NamedTuple):
    """A time, in Unix seconds; the end is not in it."""

    begin: float
    end: float


def spans_of(submissions: Iterable[SubmissionSpan], pause_s: float = PAUSE_S) -> list[Span]:
    """When something was sent and answered, without the long pauses; at most `MOST_SPANS`."""
    times = sorted((each.sent_at, max(each.sent_at, each.until)) for each in submissions)
    spans: list[Span] = []
    for begin, end in times:
        if spans and begin <= spans[-1].end + pause_s:
            spans[-1] = Span(spans[-1].begin, max(end, spans[-1].end))
        else:
            spans.append(Span(begin, end))
    if len(spans) <= MOST_SPANS:
        return spans
    pauses = sorted(after.begin - before.end for before, after in pairwise(spans))
    return spans_of(submissions, pauses[-MOST_SPANS])


def aligned(span: Span, size_s: float) -> Span:
    """The time as whole buckets of usage."""
    begin, end = span.begin - CLOCKS_DIFFER_S, span.end + CLOCKS_DIFFER_S
    return Span(begin // size_s * size_s, -(-end // size_s) * size_s)


def verdict_of(extra: int, amounts: Sequence[int], other_doubts: int) -> Verdict:
    """What follows for a source of which something is in doubt.

    Args:
        extra: How much more the account was charged than was surely accepted.
        amounts: The locations of each submission that is in doubt.
        other_doubts: Locations in submissions of other runs that are in doubt.
    """
    in_doubt = sum(amounts)
    if extra < 0:
        return Verdict.SHORT
    if not in_doubt:
        return Verdict.NOTHING_IN_DOUBT
    if not extra:
        return Verdict.NOT_CHARGED
    if extra == in_doubt + other_doubts:
        return Verdict.CHARGED
    if extra < in_doubt and not other_doubts and extra in _sums(amounts):
        return Verdict.PARTLY_CHARGED
    return Verdict.OPEN


def _sums(amounts: Sequence[int]) -> set[int]:
    """What some of the amounts can come to; not all of it where that is too much."""
    sums = {0}
    for amount in amounts:
        if len(sums) > MOST_AMOUNTS:
            break
        sums |= {each + amount for each in sums}
    return sums


def _verdict_of_all(
    sources: Mapping[str, SourceAccount], doubts: Sequence[SubmissionSpan]
) -> Verdict:
    if not doubts:
        is_short = any(each.verdict is Verdict.SHORT for each in sources.values())
        return Verdict.SHORT if is_short else Verdict.NOTHING_IN_DOUBT
    asked = [set(folded(each.asked)) for each in doubts]
    verdicts = {code: each.verdict for code, each in sources.items() if each.in_doubt}
    # A job is charged for all of its sources, or for none.
    if any(
        verdict is Verdict.NOT_CHARGED and all(code.casefold() in each for each in asked)
        for code, verdict in verdicts.items()
    ):
        return Verdict.NOT_CHARGED
    found = set(verdicts.values())
    if len(found) == 1:
        return found.pop()
    partly = {Verdict.CHARGED, Verdict.PARTLY_CHARGED, Verdict.NOT_CHARGED}
    if found <= partly:
        return Verdict.PARTLY_CHARGED
    return Verdict.SHORT if Verdict.SHORT in found else Verdict.OPEN


# -- A run and the account -------------------------------------------------------------------


async def reconcile_run(client: PingDataClient, run_dir: str | Path) -> Reconciliation:
    """Ask the API what was charged in a run's time, and set it beside the run's journal.

    Raises:
        RunError: It is no run directory, or is damaged.
        PingDataError: The API does not tell.
    """
    path = absolute(run_dir)
    settings, own = await anyio.to_thread.run_sync(_read, path)
    is_running = await anyio.to_thread.run_sync(is_locked, path)
    spans = spans_of(own)
    used: dict[float, Mapping[str, int]] = {}
    times: list[Span] = []
    granularity = ""
    for span in spans:
        found, time_of_it = await _usage(client, span, settings.options.delegate_to)
        granularity = found.granularity
        times.append(time_of_it)
        used.update(_buckets(found, time_of_it))
    others = await anyio.to_thread.run_sync(_others, path, settings, times)
    doubts = [each for each in own if not each.is_accepted]
    account = folded(_sum(used.values()))
    sources = {
        code: _of_source(
            code, own, [each for of_run in others.values() for each in of_run], account
        )
        for code in sorted({code for each in own for code in each.asked})
    }
    return Reconciliation(
        run_dir=shown_path(path),
        is_running=is_running,
        verdict=_verdict_of_all(sources, doubts),
        submissions_in_doubt=len(doubts),
        locations_in_doubt=sum(each.locations for each in doubts),
        spans=tuple((_iso(span.begin), _iso(span.end)) for span in spans),
        granularity=granularity,
        other_runs=tuple(others),
        sources=sources,
    )


def _read(path: Path) -> tuple[RunSettings, list[SubmissionSpan]]:
    settings = read_settings(path)
    with JournalReader(journal_path(path)) as journal:
        return settings, journal.submission_spans()


def _others(
    path: Path, settings: RunSettings, times: Sequence[Span]
) -> dict[str, list[SubmissionSpan]]:
    """What other runs in the same folder sent to the same API and account in these times."""
    account = settings.api, settings.options.delegate_to
    found = {}
    for other in runs_beside(path):
        if other.samefile(path):
            continue
        try:
            theirs, spans = _read(other)
        except (PingDataError, OSError):  # not ours to complain about
            continue
        inside = [
            each for each in spans if any(begin <= each.sent_at < end for begin, end in times)
        ]
        if inside and (theirs.api, theirs.options.delegate_to) == account:
            found[shown_path(other)] = inside
    return found


async def _usage(client: PingDataClient, span: Span, delegate_to: str | None) -> tuple[Usage, Span]:
    """The usage in a time that is rounded to what the API tells, and this time."""
    asked = aligned(span, FINEST_S)
    for _ in range(MOST_GRANULARITIES):
        end = min(asked.end, time.time())
        found = await client.usage(start=_utc(asked.begin), end=_utc(end), delegate_to=delegate_to)
        size = _GRANULARITY.fullmatch(found.granularity)
        size_s = int(size[1]) * _UNITS_S[size[2]] if size else FINEST_S
        rounded = aligned(span, size_s or FINEST_S)
        if rounded.begin >= asked.begin and rounded.end <= asked.end:
            break
        asked = Span(min(rounded.begin, asked.begin), max(rounded.end, asked.end))
    return found, asked


def _buckets(found: Usage, times: Span) -> dict[float, Mapping[str, int]]:
    """What was used, by the time when a bucket begins; all of it where that cannot be told."""
    try:
        begins = [dt.datetime.fromisoformat(each.bucket) for each in found.buckets]
    except ValueError:
        return {times.begin: found.totals}
    if not begins:
        return {times.begin: found.totals}
    aware = [each if each.tzinfo else each.replace(tzinfo=dt.UTC) for each in begins]
    return {
        begin.timestamp(): bucket.counts
        for begin, bucket in zip(aware, found.buckets, strict=True)
        if times.begin <= begin.timestamp() < times.end
    }


def _of_source(
    code: str,
    own: Sequence[SubmissionSpan],
    others: Sequence[SubmissionSpan],
    account: Mapping[str, int],
) -> SourceAccount:
    charged, doubts = _amounts(code, own)
    theirs, their_doubts = _amounts(code, others)
    used = account.get(code.casefold(), 0)
    extra = used - charged - theirs
    verdict = verdict_of(extra, doubts, sum(their_doubts))
    return SourceAccount(
        charged=charged,
        in_doubt=sum(doubts),
        other_runs=theirs,
        other_runs_in_doubt=sum(their_doubts),
        account=used,
        unexplained=extra,
        verdict=verdict,
    )


def _amounts(code: str, submissions: Iterable[SubmissionSpan]) -> tuple[int, list[int]]:
    """How many locations a source was asked about surely, and by each submission in doubt."""
    charged, doubts = 0, []
    for each in submissions:
        asked = folded(each.asked).get(code.casefold(), 0)
        if each.is_accepted:
            charged += asked
        elif asked:
            doubts.append(asked)
    return charged, doubts


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    together: Counter[str] = Counter()
    for each in counts:
        together.update(each)
    return together


def _utc(moment: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment, dt.UTC)


def _iso(moment: float) -> str:
    return _utc(moment).isoformat(timespec="seconds").replace("+00:00", "Z")
