"""Chunks: rows that are sent as one job, and what is known of them (pure)."""

from __future__ import annotations

import msgspec

from pingdata_async.models import Reason

_encoder = msgspec.json.Encoder()

BLANK_ID = ""
"""In place of an id: this row has none, although others of the input have one."""


def shown_id(row: int, own_id: str | None) -> str | None:
    """The id that a row comes out under, by its number and what a chunk has as its id.

    Where no row has an id of its own that is its number. Among ids it would be taken for another
    row's, so that a blank one stays blank: None.
    """
    return str(row) if own_id is None else own_id or None


class InvalidRow(msgspec.Struct, frozen=True, array_like=True):
    """A row that is not sent, and why.

    Attributes:
        row: Its number.
        id: As in `Chunk.ids`.
        error: A sentence.
        given: The row as it was given, as a JSON object; "{}" where that is not possible.
        reason: Whether there is nothing to look up, or no source that could answer.
    """

    row: int
    id: str | None
    error: str
    given: bytes = b"{}"
    reason: Reason = Reason.INVALID_INPUT


class Twin(msgspec.Struct, frozen=True, array_like=True):
    """A row that repeats an earlier one: it is not sent, and ends as that one does.

    Attributes:
        row: Its number.
        id: As in `Chunk.ids`.
        first: The number of the row that is sent, in this chunk or an earlier one.
        location: The location as it would have been sent.
    """

    row: int
    id: str | None
    first: int
    location: bytes

    @property
    def shown_id(self) -> str | None:
        """The id that it comes out under."""
        return shown_id(self.row, self.id)


class Earlier(msgspec.Struct, frozen=True, array_like=True):
    """What was found out about a row before it came into a later chunk.

    Attributes:
        origin: The planned chunk that the row is from.
        times_asked: Jobs that ended without all of its answers.
        wanted: The sources that it is judged by; None for those of the run.
        data: The answers so far, as the API's object.
        was_charged: Whether a job that held it was, or may have been, accepted.
        copies: How many rows repeat it.
        skipped: Why sources that it was meant for are not asked, a few words each.
    """

    origin: int
    times_asked: int = 0
    wanted: tuple[str, ...] | None = None
    data: bytes = b"{}"
    was_charged: bool = False
    copies: int = 0
    skipped: tuple[str, ...] = ()


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Rows that are sent as one job.

    Planned chunks come from the input. Later ones are made of their rows: parts of a chunk
    that was split, and rows that are asked about again, together with others of their kind.

    Attributes:
        index: The chunk's number, from 0; later chunks come after the planned ones.
        rows: The numbers of the rows sent, in any order; not always contiguous.
        ids: The user's own id of each; None where the input has none at all, as far as that was
            known, and `BLANK_ID` where only this row has none.
        locations: Each row's location as a JSON object without its id.
        sources: By place in `rows`, the sources asked of locations that have their own.
        invalid: Rows that are not sent; they come out with the others.
        earlier: Of a later chunk, one for each row; empty for a planned one.
        twins: Of a planned chunk, rows that repeat others; they come out with these.
        copies: Of a planned chunk, by place in `rows`, how many rows repeat that one, wherever
            they are; only where any do.
        skipped: By place in `rows`, why sources that a row was meant for are not asked, a few
            words each; of a later chunk, `earlier` says so.
    """

    index: int
    rows: list[int]
    ids: list[str | None]
    locations: list[bytes]
    sources: dict[int, tuple[str, ...]] = {}
    invalid: list[InvalidRow] = []
    earlier: list[Earlier] = []
    twins: list[Twin] = []
    copies: dict[int, int] = {}
    skipped: dict[int, tuple[str, ...]] = {}

    @property
    def is_planned(self) -> bool:
        """Whether it is from the input itself."""
        return not self.earlier

    @property
    def total_rows(self) -> int:
        """Rows sent and rows that are not."""
        return len(self.rows) + len(self.invalid) + len(self.twins)

    def with_blank_ids(self) -> Chunk:
        """The same as part of an input some of whose rows have ids of their own."""
        return msgspec.structs.replace(
            self,
            ids=[own_id or BLANK_ID for own_id in self.ids],
            invalid=[
                msgspec.structs.replace(each, id=each.id or BLANK_ID) for each in self.invalid
            ],
            twins=[msgspec.structs.replace(each, id=each.id or BLANK_ID) for each in self.twins],
        )

    def copies_by_row(self) -> dict[int, int]:
        """By number of a row that is sent, how many rows repeat it; only where any do."""
        if self.is_planned:
            return {self.rows[place]: copies for place, copies in self.copies.items()}
        return {
            row: earlier.copies
            for row, earlier in zip(self.rows, self.earlier, strict=True)
            if earlier.copies
        }


def encode_body(chunk: Chunk, options: bytes) -> bytes:
    """The JSON body that submits a chunk; the ids in it are row numbers.

    Args:
        chunk: With at least one row to be sent.
        options: The rest of the body as a JSON object with at least one member.
    """
    # Four pieces a row, put in place all at once: b'%d' for each alone takes as long as this.
    pieces = [b',{"id":"'] * (4 * len(chunk.rows))
    pieces[0] = b'{"locations":[{"id":"'
    pieces[1::4] = _encoder.encode(chunk.rows)[1:-1].split(b",")
    pieces[2::4] = [b'",'] * len(chunk.rows)
    pieces[3::4] = [location[1:] for location in chunk.locations]
    pieces += [b"],", options[1:]]
    return b"".join(pieces)
