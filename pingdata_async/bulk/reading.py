"""Outputs as JSON: split by location, put on one line, joined, searched for repeated ids (pure).

This is the careful way, which takes whatever the API may send; what is usual, `layout.py` reads in
one pass.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from pingdata_async.exceptions import DecodeError
from pingdata_async.wire import excerpt, is_page

_split = msgspec.json.Decoder(dict[str, msgspec.Raw])
_split_or_null = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def split_body(body: bytes) -> dict[str, msgspec.Raw]:
    """Each location's object in an output, undecoded; the slices keep the body alive.

    Raises:
        DecodeError: When the body is not an output.
    """
    try:
        body.decode("utf-8")  # msgspec does not look into what it leaves undecoded
        answers = _split.decode(on_one_line(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _cannot_be_read(body, error) from error
    return answers


def on_one_line(body: bytes) -> bytes:
    """A pretty-printed body without its spacing, which would break a line of JSONL."""
    try:
        return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _cannot_be_read(body, error) from error


def sources_of(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Each source's object in that of a location; none where it is null.

    Raises:
        msgspec.ValidationError: When it is neither null nor an object.
    """
    return _split_or_null.decode(data) or {}


def merge_bodies(bodies: Sequence[bytes]) -> bytes:
    """One output from several: the union of their locations, and of each one's sources.

    Raises:
        DecodeError: When one of them is not an output.
    """
    if len(bodies) == 1:
        return bodies[0]
    merged: dict[str, dict[str, msgspec.Raw]] = {}
    try:
        for body in bodies:
            for wire_id, data in split_body(body).items():
                # null, as a source that did not answer: another output may have answered.
                merged.setdefault(wire_id, {}).update(sources_of(data))
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the outputs cannot be joined: {error}") from error
    return msgspec.json.encode(merged)


def repeated_ids(body: bytes, answers: dict[str, msgspec.Raw]) -> frozenset[str]:
    """Ids that an output holds more than once, with different answers.

    The fast decoder keeps the last one without a word. Where the body is what it found and nothing
    else, it found everything; only else is the body read the slow way.
    """
    if _holds_nothing_else(body.strip(), answers):
        return frozenset()
    seen: dict[str, Any] = {}
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs)
        return frozenset(
            wire_id for wire_id, data in pairs if seen.setdefault(wire_id, data) != data
        )
    except (ValueError, RecursionError) as error:
        raise _cannot_be_read(body, error) from error


def _holds_nothing_else(body: bytes, answers: dict[str, msgspec.Raw]) -> bool:
    """Whether a body is just these members one behind the other, in the spacing it begins with."""
    if not answers:
        return True
    begin = b'{"%b":' % next(iter(answers)).encode()
    blank = b" " if body.startswith(begin + b" ") else b""
    at, before = 0, b"{"
    for wire_id, data in answers.items():
        member = b'%b"%b":%b%b' % (before, wire_id.encode(), blank, bytes(data))
        if not body.startswith(member, at):
            return False
        at += len(member)
        before = b"," + blank
    return body[at:] == b"}"


def _cannot_be_read(body: bytes, error: Exception) -> DecodeError:
    return DecodeError(
        f"the output cannot be read ({error}): {excerpt(body)}", is_page=is_page(body)
    )


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object, repeated ones too."""
