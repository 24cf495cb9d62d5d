"""What differs between two answers to the same location (pure)."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from pingdata_async.results.outcomes import passing_failures
from pingdata_async.tables.schema.inference import KEPT_WHOLE, MAX_LEVELS
from pingdata_async.tables.schema.output_table import FOR_MACHINES
from pingdata_async.tables.schema.types import UNREADABLE

LEARN_ROWS = 1000  # in which a field that is asked for is looked for
SAYS_NOTHING = FOR_MACHINES | {"is_cache_hit"}
"""Fields of every source that say nothing about a location; compared only if asked for."""

_decode = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_Path = tuple[str, ...]
"""Where a value is: the source, its field, a member of that, and so on."""


class ChangeKind(enum.StrEnum):
    """What became of a field, or of a location."""

    CHANGED = "changed"  # another value
    APPEARED = "appeared"  # a value where there was none
    DISAPPEARED = "disappeared"  # none where there was one
    MATCHED = "matched"  # the source had no match then, and has one now
    UNMATCHED = "unmatched"  # the other way round
    ONLY_IN_OLD = "only_in_old"  # the location is not in the newer run
    ONLY_IN_NEW = "only_in_new"  # nor in the older one


class FieldChange(msgspec.Struct, frozen=True):
    """A field whose value changed; attributes as in `Change`."""

    kind: ChangeKind
    source: str | None = None
    field: str | None = None
    old: Any = None
    new: Any = None


class FieldChoice:
    """Which fields are compared.

    Args:
        patterns: Their names or patterns; () for all but `SAYS_NOTHING`.

    Attributes:
        unmatched: The patterns that no field has matched so far.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [pattern.casefold() for pattern in patterns]
        self._known: dict[_Path, bool] = {}
        self.unmatched = dict.fromkeys(self._patterns)

    def __contains__(self, path: _Path) -> bool:
        """Whether the field at a path is compared."""
        found = self._known.get(path)
        if found is None:
            found = self._known[path] = self._is_chosen(path)
        return found

    def _is_chosen(self, path: _Path) -> bool:
        if not self._patterns:
            return path[1] not in SAYS_NOTHING
        code, *fields = (name.casefold() for name in path)
        # Also by an object that it is a member of, and as a column of a table is called.
        inside = [".".join(fields[:end]) for end in range(1, len(fields) + 1)]
        names = [*inside, *(f"{code}.{each}" for each in inside), "_".join((code, *fields))]
        matching = [
            pattern
            for pattern in self._patterns
            if any(fnmatchcase(name, pattern) for name in names)
        ]
        for pattern in matching:
            self.unmatched.pop(pattern, None)
        return bool(matching)


class AnswerComparison:
    """Compares answers, and counts what it finds.

    Args:
        fields: Which fields are compared.
        tolerance: Numbers that differ by no more are the same.

    Attributes:
        changes: By source and field, how often what happened to it.
        not_compared: By source, how often the older ("old") or the newer ("new") answer lacks it.
        looked_at: How many sources were looked through for fields; at most about `LEARN_ROWS`.
    """

    def __init__(self, fields: FieldChoice, tolerance: float) -> None:
        self._fields = fields
        self._tolerance = tolerance
        self.looked_at = 0
        self.changes: dict[str, dict[str, Counter[str]]] = {}
        self.not_compared: dict[str, Counter[str]] = {}

    def compare(self, old: bytes, new: bytes) -> Iterator[FieldChange]:
        """What differs between two answers: the API's objects, b"" for none."""
        was, now = _answers(old), _answers(new)
        for folded in {**now, **was}:
            code, before = was.get(folded, ("", None))
            code, after = now.get(folded, (code, None))
            if before is None or after is None:
                lacking = "old" if before is None else "new"
                self.not_compared.setdefault(code, Counter())[lacking] += 1
                continue
            matches = before.get("is_success") is True, after.get("is_success") is True
            for path, value, value_now in self._differing(code, before, after):
                kind = _KINDS[matches]
                if kind is ChangeKind.CHANGED and value is None:
                    kind = ChangeKind.APPEARED
                elif kind is ChangeKind.CHANGED and value_now is None:
                    kind = ChangeKind.DISAPPEARED
                field = ".".join(path[1:])
                of_field = self.changes.setdefault(code, {}).setdefault(field, Counter())
                of_field[kind.value] += 1
                yield FieldChange(kind, code, field, value, value_now)

    def _differing(
        self, code: str, before: dict[str, Any], after: dict[str, Any]
    ) -> Iterator[tuple[_Path, Any, Any]]:
        """Where the values of a source differ, and these."""
        is_looked_at = self.looked_at < LEARN_ROWS
        for name in SAYS_NOTHING:
            if (code, name) not in self._fields:
                before.pop(name, None)
                after.pop(name, None)
        if self._are_same(before, after) and not is_looked_at:
            return
        self.looked_at += is_looked_at
        was, now = dict(_leaves((code,), before)), dict(_leaves((code,), after))
        for path in {**now, **was}:
            if path in self._fields and not self._are_same(was.get(path), now.get(path)):
                yield path, was.get(path), now.get(path)

    def _are_same(self, one: Any, other: Any) -> bool:
        try:
            return bool(one == other) or (self._tolerance > 0 and self._are_alike(one, other))
        except RecursionError:  # lists in lists without end
            return False

    def _are_alike(self, one: Any, other: Any) -> bool:
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self._are_same, one, other))
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(
                self._are_same(value, other[name]) for name, value in one.items()
            )
        return {type(one), type(other)} <= {int, float} and self._are_near(one, other)

    def _are_near(self, one: float, other: float) -> bool:
        try:
            # 0.3 - 0.2 is a little less than 0.1, and 0.4 - 0.3 a little more.
            error = math.ulp(max(abs(one), abs(other)))
            return abs(one - other) <= self._tolerance + error
        except OverflowError:  # an integer beyond all doubles
            return False


_KINDS = {
    (True, True): ChangeKind.CHANGED,
    (False, False): ChangeKind.CHANGED,
    (False, True): ChangeKind.MATCHED,
    (True, False): ChangeKind.UNMATCHED,
}
"""By whether the source had a match then, and has one now."""


def _answers(data: bytes) -> dict[str, tuple[str, dict[str, Any]]]:
    """By folded code of each source that answered, "no match" included: its code and fields."""
    answers = _readable(data) if data else {}
    if not isinstance(answers, dict):  # nor is it taken for an answer elsewhere
        return {}
    return {
        code.casefold(): (code, fields)
        for code, fields in answers.items()
        if isinstance(fields, dict)
        and (fields.get("is_success") is True or not passing_failures(data, (code,)))
    }


def _readable(raw: bytes | msgspec.Raw) -> Any:
    """A value; what Python cannot represent (1e400) as its text."""
    try:
        return _decode(raw)
    except UNREADABLE:
        pass
    try:
        return {name: _readable(value) for name, value in _decode_raw(raw).items()}
    except UNREADABLE:
        return bytes(raw).decode("utf-8", "backslashreplace")


def _leaves(path: _Path, value: Any) -> Iterator[tuple[_Path, Any]]:
    """What is in an object, members of objects in it by their path; null is nothing."""
    if isinstance(value, dict) and len(path) <= MAX_LEVELS and path[-1] not in KEPT_WHOLE:
        for name, member in value.items():
            yield from _leaves((*path, name), member)
    elif value is not None:
        yield path, value
