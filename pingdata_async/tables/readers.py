"""Input files to batches of records: CSV and JSONL, streaming.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.location_batches import BATCH_ROWS, Columns
from pingdata_async.locations import COORDINATES, FIELDS, LOOKUP_FIELDS, AnyLocation
from pingdata_async.tables.jsonl import FAILURE_NOTES
from pingdata_async.tables.sources import Fingerprint, HashingStream, open_source, shown_name

SNIFF_BYTES = 4096
BUFFER_BYTES = 64 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_BATCH_BYTES = 256 * 1024  # rows that are larger than most must not pile up in memory

_CSV_SUFFIXES = {".csv": ",", ".txt": ",", ".tsv": "\t", ".tab": "\t"}
_JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
_KNOWN_MAGIC = {
    b"PK\x03\x04": "a workbook or zip file; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV",
    b"PAR1": "a Parquet file; save it as CSV or JSONL",
    b"\x1f\x8b": "gzip; decompress it first",
    b"\x28\xb5\x2f\xfd": "zstd; decompress it first",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile("\r\n|\r|\n")

_decode_line = msgspec.json.Decoder().decode


class Batch(msgspec.Struct, frozen=True):
    """Some data records of an input that follow each other.

    Attributes:
        locations: Their fields, or plain addresses.
        errors: By place in them, why some cannot be sent.
    """

    locations: Columns | Sequence[AnyLocation]
    errors: dict[int, str] = {}


class InputReader:
    """Records of an input file, in order, as batches; iterate it once.

    Attributes:
        unused_columns: Columns seen so far that mean nothing to the API.

    Raises:
        InputError: While iterated, naming the line, when the file cannot be read on; nothing
            usable in it is an error too.
    """

    def __init__(self, name: str, raw: HashingStream) -> None:
        self._name = name
        self._raw = raw
        self._stream = io.BufferedReader(raw, BUFFER_BYTES)
        self._unused: dict[str, None] = {}
        self._known = {"id", *FIELDS}  # and those of `_unused`, in JSONL

    @property
    def unused_columns(self) -> tuple[str, ...]:
        """Columns seen so far that mean nothing to the API, in their order."""
        if self._unused.keys() >= FAILURE_NOTES:  # a file of failures, given as an input again
            return tuple(name for name in self._unused if name not in FAILURE_NOTES)
        return tuple(self._unused)

    def fingerprint(self) -> Fingerprint:
        """Of what has been read; that of the whole input once it was iterated to its end."""
        return self._raw.fingerprint()

    def __iter__(self) -> Iterator[Batch]:
        head = self._sniffed()
        suffix = Path(self._name).suffix.lower()
        begin = head.removeprefix(_BOM).lstrip()
        if begin.startswith(b"[") and suffix == ".json":
            raise InputError(f"{self._name} is a JSON list; write one object a line (JSONL)")
        is_jsonl = suffix in _JSONL_SUFFIXES or (
            suffix not in _CSV_SUFFIXES and _looks_like_jsonl(begin)
        )
        batches = self._jsonl() if is_jsonl else self._csv(_CSV_SUFFIXES.get(suffix, ","))
        try:
            yield from batches
        except OSError as error:
            raise InputError(
                f"{self._name} cannot be read on: {error.strerror or error}"
            ) from error

    def _sniffed(self) -> bytes:
        head = self._stream.peek(SNIFF_BYTES)[:SNIFF_BYTES]
        if not head:
            raise InputError(f"{self._name} is empty")
        for magic, what in _KNOWN_MAGIC.items():
            if head.startswith(magic):
                raise InputError(f"{self._name} is {what}")
        if b"\0" in head:
            raise InputError(f"{self._name} is a binary file, not CSV or JSONL")
        return head

    # -- CSV -----------------------------------------------------------------------------

    def _csv(self, delimiter: str) -> Iterator[Batch]:
        text = io.TextIOWrapper(self._stream, encoding="utf-8-sig", newline="")
        # The module's own limit of 128 KiB a cell is for the whole process; raised, never lowered.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        # strict: a stray quote must not swallow the rows behind it.
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        ended = 0  # the line on which the last batch did
        batch: list[list[str]] = []
        try:
            header = next((cells for cells in rows if any(map(str.strip, cells))), None)
            if header is None:
                raise InputError(f"{self._name} is empty")
            names = self._csv_names(header)
            ended = rows.line_num
            while self._read_rows(rows, batch):
                yield from _csv_batch(ended + 1, batch, names)
                ended = rows.line_num
                batch.clear()
        except csv.Error as error:
            begins = ended + 1 + sum(map(_lines_in, batch))
            raise InputError(
                f"{self._name}, in the row that begins on line {begins}: {error}"
            ) from error
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._name}, near line {rows.line_num + 1}: not UTF-8 "
                f"(byte {error.object[error.start]:#04x}); save it as UTF-8"
            ) from error
        finally:
            text.detach()

    def _read_rows(self, rows: Iterator[list[str]], batch: list[list[str]]) -> bool:
        """Fill a batch; says whether there was anything. After an error it is as far as that."""
        raw = self._raw
        largest = raw.size_bytes + MAX_BATCH_BYTES
        for cells in islice(rows, BATCH_ROWS):
            batch.append(cells)
            if raw.size_bytes > largest:
                break
        return bool(batch)

    def _csv_names(self, header: list[str]) -> list[str | None]:
        """The field each column holds, None for a column that is not used."""
        names: list[str | None] = []
        for title in header:
            name = title.strip().lower()
            if name == "id" or name in FIELDS:
                if name in names:
                    raise InputError(f'{self._name} has two columns "{name}"; rename one of them')
                names.append(name)
            else:
                names.append(None)
                self._unused[title.strip()] = None
        if not _can_look_up(name for name in names if name):
            raise InputError(_no_usable_column(self._name, header))
        return names

    # -- JSONL ---------------------------------------------------------------------------

    def _jsonl(self) -> Iterator[Batch]:
        any_record = False
        seen: dict[str, None] = {}
        any_usable = False
        for locations in self._jsonl_batches():
            any_record = True
            if not any_usable:
                any_usable = _find_usable(locations, seen)
            self._note_unused(locations)
            yield Batch(locations)
        if not any_record:
            raise InputError(f"{self._name} is empty")
        # What a run could not do was written down by itself: its rows are told one by one.
        is_own = seen.keys() >= FAILURE_NOTES
        if seen and not any_usable and not is_own:
            raise InputError(_no_usable_column(self._name, list(seen)))

    def _jsonl_batches(self) -> Iterator[list[dict[str, Any] | str]]:
        line_number = 0
        batch: list[dict[str, Any] | str] = []
        largest = self._raw.size_bytes + MAX_BATCH_BYTES
        while line := self._stream.readline(MAX_LINE_BYTES + 1):
            line_number += 1
            if line_number == 1:
                line = line.removeprefix(_BOM) or b"\n"
            if line.isspace():
                continue
            if len(line) > MAX_LINE_BYTES:
                raise InputError(
                    f"{self._name}, line {line_number}: longer than {MAX_LINE_BYTES} bytes"
                )
            try:
                value = _decode_line(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise InputError(f"{self._name}, line {line_number}: {error}") from error
            if type(value) is not dict and type(value) is not str:
                raise InputError(
                    f"{self._name}, line {line_number}: neither an object nor an address in quotes"
                )
            batch.append(value)
            if len(batch) == BATCH_ROWS or self._raw.size_bytes > largest:
                yield batch
                batch = []
                largest = self._raw.size_bytes + MAX_BATCH_BYTES
        if batch:
            yield batch

    def _note_unused(self, locations: list[dict[str, Any] | str]) -> None:
        # Letters of a plain address are looked up as well, for nothing: quicker than to ask.
        if self._known.issuperset(chain.from_iterable(locations)):
            return
        for name in chain.from_iterable(each for each in locations if isinstance(each, dict)):
            if name not in self._known:
                self._known.add(name)
                self._unused[name] = None


@contextlib.contextmanager
def open_input(
    source: str | Path, keep_waiting: Callable[[], None] = lambda: None
) -> Iterator[InputReader]:
    """Open an input file, or standard input for "-".

    Args:
        source: Its path.
        keep_waiting: Called now and then while a pipe gives nothing; may raise to end that.

    Raises:
        InputError: When it cannot be opened.
    """
    with open_source(source, keep_waiting) as stream:
        yield InputReader(shown_name(source), stream)


def _csv_batch(line: int, rows: list[list[str]], names: list[str | None]) -> Iterator[Batch]:
    """A batch of what was read from a line on, unless that was blank."""
    errors: dict[int, str] = {}
    if set(map(len, rows)) != {len(names)}:
        rows = _squared(line, rows, len(names), errors)
        if not rows:
            return
    columns = zip(names, zip(*rows, strict=True), strict=True)
    used = {name: column for name, column in columns if name}
    yield Batch(Columns(tuple(used), tuple(used.values())), errors)


def _squared(
    line: int, rows: list[list[str]], width: int, errors: dict[int, str]
) -> list[list[str]]:
    """The rows without blank lines, all of one width; notes those that cannot be sent."""
    squared: list[list[str]] = []
    for cells in rows:
        if any(map(str.strip, cells[width:])):
            errors[len(squared)] = (
                f"line {line} has {len(cells)} cells, but the header has {width}: "
                "is a comma in it not quoted?"
            )
        if cells:
            squared.append(cells[:width] + [""] * (width - len(cells)))
        line += _lines_in(cells)
    return squared


def _lines_in(cells: list[str]) -> int:
    """How many lines of the file a row is on: one, and one more for each end of a line in it."""
    return 1 + len(_LINE_END.findall(",".join(cells)))


def _find_usable(locations: list[dict[str, Any] | str], seen: dict[str, None]) -> bool:
    """Whether one can be looked up; notes the names of those up to it."""
    for location in locations:
        if isinstance(location, str):
            return True
        seen.update(dict.fromkeys(location))
        if _can_look_up(location):
            return True
    return False


def _looks_like_jsonl(begin: bytes) -> bool:
    """Whether a text without a telling name is JSONL: an object, or an address in quotes.

    A CSV header can begin with a quote as well, but its first line is no JSON.
    """
    if begin.startswith(b"{"):
        return True
    try:
        return isinstance(_decode_line(begin.splitlines()[0]), str)
    except (IndexError, msgspec.DecodeError, UnicodeDecodeError):
        return False


def _can_look_up(names: Any) -> bool:
    given = set(names)
    return bool(given.intersection(LOOKUP_FIELDS)) or given.issuperset(COORDINATES)


def _no_usable_column(name: str, found: list[str]) -> str:
    shown = ", ".join(repr(title) for title in found[:50])
    hint = ""
    if len(found) == 1 and (";" in found[0] or "\t" in found[0]):
        hint = ". Its columns must be separated by commas (by tabs in a .tsv)"
    return (
        f"{name} has no column to look up. Found: {shown}. Needed: one of "
        f"{', '.join(LOOKUP_FIELDS)}, or latitude and longitude{hint}"
    )
