"""Which rows of a run are asked about once more, by the user's wish."""

from __future__ import annotations

from collections.abc import Collection

import anyio.to_thread
import msgspec

from pingdata_async.bulk.chunks import Chunk, Earlier
from pingdata_async.bulk.later_chunks import Leftover, with_sources
from pingdata_async.bulk.tally import tally
from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.outcomes import unsuccessful
from pingdata_async.plurals import counted
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.journal_reader import reading_journal
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.records import Account
from pingdata_async.runs.run_directory import FINISHED, RunDirectory, journal_path

# They would be as invalid as before; and where a row is skipped, no other source has failed.
_AS_BEFORE = frozenset({Reason.INVALID_INPUT, Reason.SKIPPED})


class Reopened(msgspec.Struct, frozen=True):
    """What came of reopening a run.

    Attributes:
        rows: Rows that wait now and did not before.
        left: Rows that are not ok and have an answer, such as "no match", and do not wait.
    """

    rows: int
    left: int


def rows_to_reopen(results: list[EnhancedLocation], *, all_not_ok: bool) -> list[EnhancedLocation]:
    """The rows of a chunk that are worth asking about once more.

    Args:
        results: Their outcomes.
        all_not_ok: Take all that are not ok, instead of those without an answer.
    """
    return [
        result
        for result in results
        if result.reason not in _AS_BEFORE
        and (result.status is not RowStatus.OK if all_not_ok else not result.is_answered)
    ]


async def reopen_rows(
    directory: RunDirectory, plan: Plan, sources: tuple[str, ...], *, all_not_ok: bool
) -> Reopened:
    """Have rows of a run wait to be asked about once more.

    Args:
        directory: The run directory, entered.
        plan: Its plan, inside its `with` block.
        sources: The run's sources.
        all_not_ok: Take all that are not ok, instead of those without an answer.
    """
    # A complete job is paid for: its output is tried once more, before another one is sent.
    reopened = await directory.journal.fetch_again(Reason.UNREADABLE, no_longer=FINISHED)
    left = 0
    async with reading_journal(journal_path(directory.path)) as account:
        answers = Answers(directory.spool, account, sources)
        for index in range(plan.chunks):
            chunk = await anyio.to_thread.run_sync(plan.read, index)
            outcomes = await anyio.to_thread.run_sync(answers.outcomes, chunk)
            rows = rows_to_reopen(outcomes.settled, all_not_ok=all_not_ok)
            copies = chunk.copies_by_row()
            not_ok = rows_to_reopen(outcomes.settled, all_not_ok=True)
            left += tally(not_ok, copies).rows - tally(rows, copies).rows
            if rows and not reopened:  # first: cut off in between, there is work left
                await directory.journal.set_meta(FINISHED, None)
            if rows:
                charged = await anyio.to_thread.run_sync(charged_rows, account, chunk)
                leftovers = leftovers_of(chunk, rows, sources, charged)
                counts = tally(rows, copies)
                if await directory.journal.reopen(leftovers, counts):  # all of them, or none
                    reopened += counts.rows
    return Reopened(reopened, left)


def reopening_told(found: Reopened) -> str:
    """What came of it, for people."""
    told = f"{counted(found.rows, 'row')} to be asked about again"
    if not found.left:
        return f"{told}."
    are = "that is not ok has" if found.left == 1 else "that are not ok have"
    return f"{told}; {counted(found.left, 'row')} {are} an answer: --all asks about those too."


def charged_rows(account: Account, chunk: Chunk) -> set[int]:
    """The rows of a planned chunk that a job held, or may have held; blocks."""
    record = account.record(chunk.index)
    charged = set(chunk.rows) if record is not None and record.charged_before else set()
    for later in account.later_chunks_of(chunk.index):
        if later.chunk is not None:
            charged.update(
                row
                for row, earlier in zip(later.chunk.rows, later.chunk.earlier, strict=True)
                if earlier.origin == chunk.index and (later.charged_before or earlier.was_charged)
            )
    return charged


def leftovers_of(
    chunk: Chunk,
    results: list[EnhancedLocation],
    sources: tuple[str, ...],
    charged: Collection[int],
) -> list[Leftover]:
    """Rows of a planned chunk, to be asked about again for the sources that did not succeed."""
    places = {row: place for place, row in enumerate(chunk.rows)}
    leftovers = []
    for result in results:
        place = places[result.row]
        own = chunk.sources.get(place)
        asked = unsuccessful(result.data, sources if own is None else own)
        leftovers.append(
            Leftover(
                result.row,
                chunk.ids[place],
                with_sources(chunk.locations[place], asked),
                asked,
                Earlier(
                    chunk.index,
                    wanted=own,
                    data=bytes(result.data),
                    copies=chunk.copies.get(place, 0),
                    skipped=chunk.skipped.get(place, ()),
                    # A refused request is not charged, but one before it may have been.
                    was_charged=result.reason is not Reason.REJECTED or result.row in charged,
                ),
            )
        )
    return leftovers
