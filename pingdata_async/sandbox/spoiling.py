"""Outputs as they should not be: each fault of a download, made from the sound one."""

import zlib
from collections.abc import Callable, Collection, Iterator
from itertools import repeat
from typing import Any, Final, NamedTuple

from pingdata_async.sandbox.dice import OutputFault, SourceFault

DEPTH: Final = 100_000
BOMB_BYTES: Final = 2 * 1024**3
ENDLESS_BYTES: Final = 8 * 1024**3

_BLOCK_BYTES: Final = 1024 * 1024
_BLANKS: Final = b" " * (64 * 1024)
_GZIP_HEAD: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_PASSING: Final[dict[SourceFault, tuple[int, str]]] = {
    SourceFault.TIMED_OUT: (504, "Timed out after 30.0 seconds"),
    SourceFault.THROTTLED: (429, "Too Many Requests"),
    SourceFault.BROKEN: (500, "Internal Server Error"),
    SourceFault.UNAVAILABLE: (503, "Service Unavailable"),
}


class Entry(NamedTuple):
    """A location of an output: its id, and its answers as JSON."""

    location_id: str
    data: bytes


def trouble(answer: dict[str, Any], fault: SourceFault) -> dict[str, Any]:
    """A source's answer, turned into a failure that may pass."""
    status, message = _PASSING[fault]
    kept = {name: answer[name] for name in ("fetch_time", "persist_for", "worker_name")}
    return dict.fromkeys(answer) | kept | {
        "is_success": False,
        "is_cache_hit": False,
        "error_message": message,
        "status_code": status,
    }  # fmt: skip


def spoiled_entries(
    entries: Iterator[Entry],
    middle: int,
    fault: OutputFault | None,
    sent: Callable[[], Collection[str]],
    other_data: Callable[[], bytes],
) -> Iterator[Entry]:
    """The locations with what a fault makes of the middle one.

    Args:
        entries: The sound ones.
        middle: The index of the one that is spoiled.
        fault: Those of the body as a whole change nothing here.
        sent: Gives the ids of the job.
        other_data: Gives answers that are nobody's.
    """
    for index, entry in enumerate(entries):
        if index != middle:
            yield entry
        elif fault is OutputFault.RENAMED_ID:
            yield Entry(_unsent_id(entry.location_id, sent()), entry.data)
        elif fault is OutputFault.FOREIGN_ID:
            yield entry
            yield Entry(_unsent_id(entry.location_id, sent()), other_data())
        elif fault is OutputFault.REPEATED_ID:
            yield entry
            yield Entry(entry.location_id, other_data())
        elif fault is OutputFault.INVALID_UTF8:
            yield Entry(entry.location_id, _with(entry.data, b'"caf\xe9": {"note": "\xff\xc0"}'))
        elif fault is OutputFault.DEEP_NESTING:
            nested = b'"nested": ' + b"[" * DEPTH + b"]" * DEPTH
            yield Entry(entry.location_id, _with(entry.data, nested))
        else:
            yield entry


def _with(data: bytes, member: bytes) -> bytes:
    """A JSON object with one more member."""
    separator = b"" if data == b"{}" else b", "
    return data[:-1] + separator + member + b"}"


def _unsent_id(location_id: str, sent: Collection[str]) -> str:
    """An id that nobody sent, though as a number it would be the same."""
    while location_id in sent:
        location_id = "0" + location_id
    return location_id


def cut_body(pieces: Iterator[bytes], middle: int, fault: OutputFault) -> Iterator[bytes]:
    """The body with half of a middle piece; nothing after it unless a hole is asked for."""
    for index, piece in enumerate(pieces):
        if index != middle:
            yield piece
            continue
        yield piece[: len(piece) // 2]
        if fault is not OutputFault.HOLE:
            return


def endless_body(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The body, but before its last brace come more blanks than anybody waits for."""
    for piece in pieces:
        if piece == b"}":
            yield from repeat(_BLANKS, ENDLESS_BYTES // len(_BLANKS))
        yield piece


def bomb_body() -> Iterator[bytes]:
    """A gzip stream of a brace, 2 GiB of blanks and another brace, made as it is sent."""
    packer = zlib.compressobj(9, wbits=-15)
    opening = packer.compress(b"{") + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block refers to nothing before it: the same bytes serve every time.
    blanks = b" " * _BLOCK_BYTES
    packed = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(b"{")
    yield _GZIP_HEAD + opening
    for _ in range(BOMB_BYTES // _BLOCK_BYTES):
        checksum = zlib.crc32(blanks, checksum)
        yield packed
    checksum = zlib.crc32(b"}", checksum)
    size = (BOMB_BYTES + 2) % 2**32
    yield packer.compress(b"}") + packer.flush()
    yield checksum.to_bytes(4, "little") + size.to_bytes(4, "little")
