"""What of a run is still to be sent, by source: read from its plan and its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from pingdata_async.bulk.budget import Amount, asked_of
from pingdata_async.bulk.chunks import Chunk
from pingdata_async.runs.journal_reader import JournalReader, JournalTotals


def work_left(
    journal: JournalReader,
    planned: Amount,
    read_chunk: Callable[[int], Chunk],
    sources: tuple[str, ...],
) -> Amount:
    """What is to be sent, if all goes well from here on; blocks.

    What the plan has is taken as a whole, and what became of it is taken off: of a chunk that
    was sent, its first submission says what is in it, so that hardly any chunk is read.

    Args:
        journal: Opened.
        planned: What the plan as a whole is.
        read_chunk: Reads a chunk of the plan.
        sources: The run's.
    """
    locations = planned.locations
    asked = Counter(planned.by_source)
    first = journal.first_submissions()
    for index in journal.planned_chunks_begun():
        sent = first.get(index)
        if sent is None or not sent.by_source:  # split or failed before it was accepted
            chunk = read_chunk(index)
            sent = Amount(locations=len(chunk.rows), by_source=asked_of(chunk, sources))
        locations -= sent.locations
        asked.subtract(sent.by_source)
    for chunk in journal.later_chunks_waiting():
        locations += len(chunk.rows)
        asked.update(asked_of(chunk, sources))
    for codes in journal.leftovers_waiting():
        locations += 1
        asked.update(codes)
    return Amount(locations=locations, by_source=dict(+asked))


def spent_so_far(totals: JournalTotals, sources: tuple[str, ...]) -> Amount:
    """What was charged, or possibly so.

    Submissions of which it is not known what they asked count for each source of the run.
    """
    by_source = Counter(totals.charged_by_source)
    by_source.update(totals.possibly_charged_by_source)
    by_source.update(dict.fromkeys(sources, totals.source_unknown))
    return Amount(
        locations=totals.locations_charged + totals.possibly_charged, by_source=dict(+by_source)
    )


def planned_amount(
    locations: int, asked: Mapping[str, int] | None, sources: tuple[str, ...]
) -> Amount:
    """What a plan is; one of an earlier version does not say what each source is asked."""
    return Amount(
        locations=locations,
        by_source=dict.fromkeys(sources, locations) if asked is None else dict(asked),
    )
