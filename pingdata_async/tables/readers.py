"""Inputs of every kind to batches of records: which reader reads what.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.tables.arrow_objects import ArrowObjectReader, is_arrow_object
from pingdata_async.tables.decompression import DecompressedStream, compression_of
from pingdata_async.tables.delimited import DelimitedReader
from pingdata_async.tables.input_reader import InputReader
from pingdata_async.tables.inputs import SKIP, ReadOptions
from pingdata_async.tables.jsonl_reading import JSONLReader, ObjectsReader
from pingdata_async.tables.look_alikes import OLE_MAGIC, ZIP_MAGIC, told_of_text
from pingdata_async.tables.parquet_reading import ENCRYPTED_MAGIC, MAGIC, ParquetReader
from pingdata_async.tables.sources import HashingStream, PeekableStream, open_source, shown_name
from pingdata_async.tables.text_encoding import (
    FALLBACK,
    UTF_8,
    RecodedStream,
    checked_encoding,
    encoding_by_head,
    is_all_utf_8,
    is_binary,
    is_utf_8_so_far,
)
from pingdata_async.tables.workbooks import WorkbookReader

SAMPLE_BYTES = 64 * 1024

_TEXT_SUFFIXES = frozenset({".csv", ".txt", ".tsv", ".tab"})
_JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
_COMPRESSION_SUFFIXES = frozenset({".gz", ".gzip", ".zst", ".zstd"})
_REFUSED = {
    ENCRYPTED_MAGIC: "an encrypted Parquet file; save it without encryption",
    b"ARROW1": "an Arrow file; save it as Parquet",
    b"%PDF-": "a PDF; a table is needed, such as CSV or a workbook",
    b"BZh": "bzip2; decompress it first, or use gzip or zstd",
    b"\xfd7zXZ": "xz; decompress it first, or use gzip or zstd",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
}

AnyInput = str | Path | Iterable[Any]
"""A path, "-", an iterable of locations, or an object with the Arrow PyCapsule interface."""


@contextlib.contextmanager
def open_input(
    source: AnyInput | Any,
    keep_waiting: Callable[[], None] = lambda: None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    on_wait: Callable[[], None] = lambda: None,
) -> Iterator[InputReader]:
    """Open an input: a file, standard input, or objects in memory.

    Args:
        source: A file's path, or "-" for standard input: delimited text, JSONL (both perhaps
            compressed by gzip or zstd), Parquet, or a workbook. Or an iterable of `Location`s,
            mappings and plain addresses. Or a pandas, polars or Arrow object, or any other with
            the Arrow PyCapsule interface.
        keep_waiting: Called now and then while a pipe gives nothing; may raise to end that.
        options: How it is to be understood, where that is not left to be found out.
        on_wait: Called once where nobody writes into a named pipe yet.

    Raises:
        InputError: When it cannot be opened, or is nothing that can be read.
        ConfigurationError: When an option is not for such an input, or a package is missing.
    """
    if not isinstance(source, str | Path):
        reader = _reader_of_objects(source, options)
        with _closing(reader) if isinstance(reader, ObjectsReader) else contextlib.nullcontext():
            yield reader
        return
    with open_source(source, keep_waiting, on_wait) as stream:
        yield reader_of(shown_name(source), stream, keep_waiting, options)


@contextlib.contextmanager
def _closing(reader: ObjectsReader) -> Iterator[None]:
    """Let go of what was read, in the thread that read it; that hides no other error."""
    try:
        yield
    except BaseException as error:
        try:
            reader.close()
        except Exception as failure:  # noqa: BLE001 - whatever somebody's generator raises
            error.add_note(f"The input failed as well: {type(failure).__name__}: {failure}")
        raise
    reader.close()


def reader_of(
    name: str,
    source: HashingStream,
    keep_waiting: Callable[[], None] = lambda: None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> InputReader:
    """The reader for what a stream's first bytes show; raises as `open_input()`.

    Args:
        name: The input, for messages.
        source: Its bytes.
        keep_waiting: Called now and then; may raise to end the reading.
        options: How it is to be understood.
    """
    content = PeekableStream(source)
    head = content.peek(SAMPLE_BYTES)
    if not head:
        raise InputError(f"{name} is empty")
    if head.startswith(MAGIC):
        _refuse_options(name, "a Parquet file", options, sheet=True, encoding=True)
        return ParquetReader(name, source, content, options, keep_waiting)
    if head.startswith((ZIP_MAGIC, OLE_MAGIC)):
        _refuse_options(name, "a workbook", options, encoding=True)
        return WorkbookReader(name, source, content, options, keep_waiting)
    _refuse_options(name, "no workbook", options, sheet=True)
    return _reader_of_text(_Text(name, source, content, head, keep_waiting), options)


def _reader_of_objects(source: Any, options: ReadOptions) -> InputReader:
    _refuse_options("an object in memory", "no file", options, sheet=True, encoding=True)
    if is_arrow_object(source):
        return ArrowObjectReader(source, options)
    kind = type(source).__name__
    if hasattr(source, "__dataframe__"):  # its iterator would give the names of its columns
        raise InputError(
            f"this {kind} has no Arrow interface (__arrow_c_stream__); update its package"
        )
    if isinstance(source, io.IOBase):  # its lines would be taken for addresses
        raise InputError("an open file is no input: give its path")
    if isinstance(source, Mapping | msgspec.Struct | bytes) or not isinstance(source, Iterable):
        raise InputError(
            f"a {kind} is no input: give a path, an iterable of locations or a data frame"
        )
    return ObjectsReader(source, options)


def _refuse_options(
    name: str, what: str, options: ReadOptions, *, sheet: bool = False, encoding: bool = False
) -> None:
    for option, value, is_refused in (
        ("--sheet", options.sheet, sheet),
        ("--encoding", options.encoding, encoding),
    ):
        if is_refused and value is not None:
            raise ConfigurationError(f"{option} is not for {name}, which is {what}")
    if sheet and options.hidden_rows == SKIP:
        raise ConfigurationError(f"--hidden-rows is not for {name}, which is {what}")


# -- Text ------------------------------------------------------------------------------------


class _Text(msgspec.Struct, frozen=True):
    """A text that is to be read.

    Attributes:
        name: The input, for messages.
        source: Its bytes as they are.
        content: The same, to be read.
        head: Its first bytes.
        keep_waiting: Called now and then; may raise to end the reading.
    """

    name: str
    source: HashingStream
    content: PeekableStream
    head: bytes
    keep_waiting: Callable[[], None]


def _reader_of_text(given: _Text, options: ReadOptions) -> InputReader:
    name = given.name
    text, head = given.content, given.head
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = compression_of(head)
    if compression is not None:
        text = PeekableStream(DecompressedStream(text, compression, name))
        head = text.peek(SAMPLE_BYTES)
        if not head:
            raise InputError(f"{name} is empty")
        if suffixes and suffixes[-1] in _COMPRESSION_SUFFIXES:
            suffixes.pop()
        if compression_of(head) or head.startswith((MAGIC, ZIP_MAGIC, OLE_MAGIC)):
            raise InputError(f"{name} is no text inside its {compression}; decompress it first")
    _refuse_known(name, head)
    encoding = (
        encoding_by_head(head)
        if options.encoding is None
        else checked_encoding(options.encoding, head)
    )
    if encoding is None and is_binary(head):
        hint = "; if it is a text in UTF-16, say --encoding utf-16-le" if b"\0" in head else ""
        raise InputError(f"{name} is a binary file, not CSV or JSONL{hint}")
    sample = head.decode(encoding or UTF_8, "ignore")
    told = told_of_text(sample)
    if told is not None:
        raise InputError(f"{name} {told}")
    if "\0" in sample:
        raise InputError(f"{name} is a binary file, or not in {encoding or 'UTF-8'}")
    suffix = suffixes[-1] if suffixes else ""
    if _is_jsonl(name, suffix, sample):
        if encoding not in {None, UTF_8}:
            text = PeekableStream(RecodedStream(text, str(encoding), name))
        return JSONLReader(name, given.source, text, options)
    if encoding is None:
        encoding = _found_encoding(given, head, compression)
        sample = head.decode(encoding, "ignore")
    reader = DelimitedReader(
        name,
        suffix,
        given.source,
        text,
        sample=sample,
        is_whole=len(head) < SAMPLE_BYTES,
        encoding=encoding,
        options=options,
    )
    if options.encoding is None and encoding != UTF_8:
        reader.note_encoding(encoding)
    return reader


def _refuse_known(name: str, head: bytes) -> None:
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise InputError(f"{name} is {what}")


def _found_encoding(given: _Text, head: bytes, compression: str | None) -> str:
    """UTF-8 where all of the text is, if that can be known before it is read."""
    again = given.source.second_look()
    if again is None:
        return UTF_8
    if not is_utf_8_so_far(head):
        return FALLBACK
    if compression is not None:
        again = DecompressedStream(again, compression, given.name)
    return UTF_8 if is_all_utf_8(again, given.keep_waiting) else FALLBACK


def _is_jsonl(name: str, suffix: str, sample: str) -> bool:
    begin = sample.removeprefix("\ufeff").lstrip()
    if begin.startswith("[") and (suffix == ".json" or suffix in _JSONL_SUFFIXES):
        raise InputError(f"{name} is a JSON list; write one object a line (JSONL)")
    if suffix in _JSONL_SUFFIXES:
        return True
    return suffix not in _TEXT_SUFFIXES and _looks_like_jsonl(begin)


def _looks_like_jsonl(begin: str) -> bool:
    """Whether a text without a telling name is JSONL: an object, or an address in quotes.

    A CSV header can begin with a quote as well, but its first line is no JSON.
    """
    if begin.startswith("{"):
        return True
    try:
        return isinstance(msgspec.json.decode(begin.splitlines()[0]), str)
    except (IndexError, msgspec.DecodeError, UnicodeError, RecursionError):
        return False
