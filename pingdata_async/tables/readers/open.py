"""Opens an input: finds out its form, and chooses the reader.

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
from pingdata_async.tables.readers.arrow import ArrowObjectReader, is_arrow_object
from pingdata_async.tables.readers.base import (
    HashingStream,
    InputReader,
    PeekableStream,
    open_source,
    shown_name,
)
from pingdata_async.tables.readers.csv import DelimitedReader, DelimitedText
from pingdata_async.tables.readers.excel import WorkbookReader
from pingdata_async.tables.readers.jsonl import JSONLReader, ObjectsReader
from pingdata_async.tables.readers.look_alikes import OLE_MAGIC, ZIP_MAGIC, told_of_text
from pingdata_async.tables.readers.parquet import ENCRYPTED_MAGIC, MAGIC, ParquetReader
from pingdata_async.tables.readers.text_encoding import (
    FALLBACK,
    UTF_8,
    UTF_8_REPLACE,
    RecodedStream,
    ReplacedStream,
    TextStream,
    checked_encoding,
    encoding_by_head,
    is_binary,
    line_at,
    mixed_encodings,
    utf_8_count,
)
from pingdata_async.tables.rows import SKIP, ReadOptions
from pingdata_async.util.compression import DecompressedStream, compression_of

SAMPLE_BYTES = 64 * 1024

_TEXT_SUFFIXES = frozenset({".csv", ".txt", ".tsv", ".tab"})
_JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})
_WIDE = ("utf-16", "utf-32")
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
    if encoding == UTF_8_REPLACE:
        return _with_replacements(given, text, suffixes, options)
    return _reader_by_form(given, text, _Form(suffixes, head, encoding, compression), options)


class _Form(msgspec.Struct, frozen=True):
    """What is known of a text before it is read.

    Attributes:
        suffixes: Of its name, without that of a compression.
        head: Its first bytes.
        encoding: What it is in; None where it is not known yet.
        compression: How its file is compressed; None where it is not.
    """

    suffixes: list[str]
    head: bytes
    encoding: str | None
    compression: str | None


def _with_replacements(
    given: _Text, content: PeekableStream, suffixes: list[str], options: ReadOptions
) -> InputReader:
    """A reader of UTF-8 with U+FFFD in place of what is not."""
    replaced = ReplacedStream(content)
    text = PeekableStream(replaced)
    form = _Form(suffixes, text.peek(SAMPLE_BYTES), UTF_8, None)
    reader = _reader_by_form(given, text, form, options)
    reader.note_at_end(replaced.note)
    return reader


def _reader_by_form(
    given: _Text, text: PeekableStream, form: _Form, options: ReadOptions
) -> InputReader:
    name, encoding = given.name, form.encoding
    sample = form.head.decode(encoding or UTF_8, "ignore")
    told = told_of_text(sample)
    if told is not None:
        raise InputError(f"{name} {told}")
    suffix = form.suffixes[-1] if form.suffixes else ""
    if _is_jsonl(name, suffix, sample):
        if encoding not in {None, UTF_8}:
            text = PeekableStream(RecodedStream(text, str(encoding), name))
        return JSONLReader(name, given.source, PeekableStream(TextStream(text)), options)
    if encoding is None:
        encoding = _found_encoding(given, form.compression)
        sample = form.head.decode(encoding, "ignore")
    read_as = encoding
    if encoding.startswith(_WIDE):  # what is told by bytes needs one byte a character
        text, read_as = PeekableStream(RecodedStream(text, encoding, name)), UTF_8
    is_whole = len(form.head) < SAMPLE_BYTES
    delimited = DelimitedText(TextStream(text), read_as, sample, is_whole)
    reader = DelimitedReader(name, suffix, given.source, delimited, options)
    if options.encoding is None and encoding != UTF_8:
        reader.note_encoding(encoding)
    return reader


def _refuse_known(name: str, head: bytes) -> None:
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise InputError(f"{name} is {what}")


def _found_encoding(given: _Text, compression: str | None) -> str:
    """UTF-8 where all of the text is, if that can be known before it is read.

    Raises:
        InputError: When it is UTF-8 with errors: nothing may be read as what it is not.
    """
    text = _from_the_beginning(given, compression)
    if text is None:
        return UTF_8
    count = utf_8_count(text, given.keep_waiting)
    if count.is_mixed:
        text = _from_the_beginning(given, compression)
        line = 1 if text is None else line_at(text, count.first_at)
        raise mixed_encodings(given.name, count, line)
    return FALLBACK if count.bad else UTF_8


def _from_the_beginning(given: _Text, compression: str | None) -> io.RawIOBase | None:
    """The text once more; None where it can be read only once."""
    content = given.source.second_look()
    if content is None or compression is None:
        return content
    return DecompressedStream(content, compression, given.name)


def _is_jsonl(name: str, suffix: str, sample: str) -> bool:
    begin = sample.removeprefix("\ufeff").lstrip()
    if begin.startswith("[") and (suffix == ".json" or suffix in _JSONL_SUFFIXES):
        raise InputError(f"{name} is a JSON list; write one object a line, as jq -c '.[]' does")
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
