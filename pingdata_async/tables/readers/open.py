"""Opens an input: detects its form, and chooses the reader.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.tables.readers.base import (
    OLE_MAGIC,
    ZIP_MAGIC,
    FileInput,
    HashingStream,
    InputReader,
    PeekableStream,
    open_source,
    shown_name,
)
from pingdata_async.tables.readers.csv import DelimitedReader, DelimitedText
from pingdata_async.tables.readers.jsonl import JSONLReader, ObjectsReader
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
_PARQUET_MAGIC = b"PAR1"
_REFUSED = {
    b"PARE": "an encrypted Parquet file; save it without encryption",
    b"ARROW1": "an Arrow file; save it as Parquet",
    b"%PDF-": "a PDF; a table is needed, such as CSV or a workbook",
    b"BZh": "bzip2; decompress it first, or use gzip or zstd",
    b"\xfd7zXZ": "xz; decompress it first, or use gzip or zstd",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
}
_SAVE_AS = "open it in Excel and save it as .xlsx or CSV"
_HTML = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|table|meta|div|style)\b",
    re.IGNORECASE | re.DOTALL,
)
_WEB_ARCHIVE = re.compile(r"\s*(?:mime-version|from: <saved by)", re.IGNORECASE)
_GEOJSON = re.compile(r'\{\s*"type"\s*:\s*"FeatureCollection"')
_XML = re.compile(r"\s*<(?:\?xml\b|\w+:?\w*\s+xmlns)")

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
        source: The path of a file, or "-" for standard input: delimited text or JSONL, also
            compressed by gzip or zstd, Parquet, or a workbook. Or an iterable of `Location`s,
            mappings and addresses. Or any object with the Arrow PyCapsule interface, such as
            pandas, polars and Arrow tables.
        keep_waiting: Called now and then while a pipe is silent; may raise to stop reading.
        options: How to read it.
        on_wait: Called once if no process has opened a named pipe for writing yet.

    Raises:
        InputError: It cannot be opened, or is not an input.
        ConfigurationError: An option does not apply to such an input, or a package is missing.
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
    """Close the reader in the thread that read it; hides no other error."""
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
    """Choose the reader by the first bytes of a stream; the rest is as in `open_input()`."""
    file = FileInput(name, source, PeekableStream(source), keep_waiting)
    head = file.content.peek(SAMPLE_BYTES)
    if not head:
        raise InputError(f"{name} is empty")
    if head.startswith(_PARQUET_MAGIC):
        _refuse_options(name, "a Parquet file", options, sheet=True, encoding=True)
        require(f"{name} is a Parquet file, which", "pyarrow", "parquet")
        from pingdata_async.tables.readers.arrow import ParquetReader  # noqa: PLC0415 - optional

        return ParquetReader(file, options)
    if head.startswith((ZIP_MAGIC, OLE_MAGIC)):
        _refuse_options(name, "a workbook", options, encoding=True)
        require(f"{name} is a workbook, which", "python_calamine", "excel")
        from pingdata_async.tables.readers.excel import WorkbookReader  # noqa: PLC0415 - optional

        return WorkbookReader(file, options)
    _refuse_options(name, "not a workbook", options, sheet=True)
    return _TextOpener(file, head, options).reader()


def is_arrow_object(source: object) -> bool:
    """Whether an object has the Arrow PyCapsule interface."""
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__")


def _reader_of_objects(source: Any, options: ReadOptions) -> InputReader:
    _refuse_options("an object in memory", "not a file", options, sheet=True, encoding=True)
    kind = type(source).__name__
    if is_arrow_object(source):
        require(f"a {kind}", "pyarrow", "parquet")
        from pingdata_async.tables.readers.arrow import ArrowObjectReader  # noqa: PLC0415 - optional

        return ArrowObjectReader(source, options)
    if hasattr(source, "__dataframe__"):  # iterating it would yield the names of its columns
        raise InputError(
            f"this {kind} has no Arrow interface (__arrow_c_stream__); update its package"
        )
    if isinstance(source, io.IOBase):  # its lines would be taken for addresses
        raise InputError("an open file is not an input: give its path")
    if isinstance(source, Mapping | msgspec.Struct | bytes) or not isinstance(source, Iterable):
        raise InputError(
            f"a {kind} is not an input: give a path, an iterable of locations or a data frame"
        )
    return ObjectsReader(source, options)


def require(what: str, package: str, extra: str | None = None) -> None:
    """Make sure that an optional package can be loaded.

    Args:
        what: What needs it.
        package: Its name.
        extra: Of ours, with which it is installed; None for none.

    Raises:
        ConfigurationError: When it cannot; it says how to install it.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        package = package.replace("_", "-")
        wanted = f'"pingdata-async[{extra}]"' if extra else package
        raise ConfigurationError(f"{what} needs {package}: pip install {wanted}") from error


def _refuse_options(
    name: str, what: str, options: ReadOptions, *, sheet: bool = False, encoding: bool = False
) -> None:
    for option, is_given in (
        ("--sheet", sheet and options.sheet is not None),
        ("--encoding", encoding and options.encoding is not None),
        ("--hidden-rows", sheet and options.hidden_rows == SKIP),
    ):
        if is_given:
            raise ConfigurationError(f"{option} does not apply to {name}, which is {what}")


# -- Text ---------------------------------------------------------------------------------------


class _TextOpener:
    """Detects the compression and the encoding of a text, and whether it is JSONL."""

    def __init__(self, file: FileInput, head: bytes, options: ReadOptions) -> None:
        self._file = file
        self._name = file.name
        self._options = options
        self._content = file.content  # decompressed
        self._head = head
        self._suffixes = [suffix.lower() for suffix in Path(file.name).suffixes]
        self._compression = compression_of(head)

    def reader(self) -> InputReader:
        """The reader for the text; the errors are those of `open_input()`."""
        if self._compression is not None:
            self._decompress(self._compression)
        for magic, what in _REFUSED.items():
            if self._head.startswith(magic):
                raise InputError(f"{self._name} is {what}")
        encoding = self._known_encoding()
        if encoding != UTF_8_REPLACE:
            return self._reader(encoding)
        replaced = ReplacedStream(self._content)
        self._content = PeekableStream(replaced)
        self._head = self._content.peek(SAMPLE_BYTES)
        reader = self._reader(UTF_8)
        reader.note_at_end(replaced.note)
        return reader

    def _decompress(self, compression: str) -> None:
        stream = DecompressedStream(self._content, compression, self._name)
        self._content = PeekableStream(stream)
        self._head = self._content.peek(SAMPLE_BYTES)
        if not self._head:
            raise InputError(f"{self._name} is empty")
        if self._suffixes and self._suffixes[-1] in _COMPRESSION_SUFFIXES:
            self._suffixes.pop()
        if compression_of(self._head) or self._head.startswith(
            (_PARQUET_MAGIC, ZIP_MAGIC, OLE_MAGIC)
        ):
            raise InputError(
                f"{self._name} holds no text inside its {compression}; decompress it first"
            )

    def _known_encoding(self) -> str | None:
        """The encoding that the user or the first bytes give; None if neither does."""
        if self._options.encoding is not None:
            return checked_encoding(self._options.encoding, self._head)
        encoding = encoding_by_head(self._head)
        if encoding is None and is_binary(self._head):
            has_nul = b"\0" in self._head
            hint = "; if it is text in UTF-16, use --encoding utf-16-le" if has_nul else ""
            raise InputError(f"{self._name} is a binary file, not CSV or JSONL{hint}")
        return encoding

    def _reader(self, encoding: str | None) -> InputReader:
        sample = self._head.decode(encoding or UTF_8, "ignore")
        told = _told_of_markup(sample.removeprefix("\ufeff"))
        if told is not None:
            raise InputError(f"{self._name} {told}")
        suffix = self._suffixes[-1] if self._suffixes else ""
        text = self._content
        if _is_jsonl(self._name, suffix, sample):
            if encoding not in {None, UTF_8}:
                text = PeekableStream(RecodedStream(text, str(encoding), self._name))
            lines = PeekableStream(TextStream(text))
            return JSONLReader(self._file._replace(content=lines), self._options)
        if encoding is None:
            encoding = self._detected_encoding()
            sample = self._head.decode(encoding, "ignore")
        read_as = encoding
        if encoding.startswith(_WIDE):  # the checks of bytes need an encoding that extends ASCII
            text, read_as = PeekableStream(RecodedStream(text, encoding, self._name)), UTF_8
        is_whole = len(self._head) < SAMPLE_BYTES
        delimited = DelimitedText(TextStream(text), read_as, sample, is_whole, suffix)
        reader = DelimitedReader(self._file, delimited, self._options)
        if self._options.encoding is None and encoding != UTF_8:
            reader.note_encoding(encoding)
        return reader

    def _detected_encoding(self) -> str:
        """UTF-8 if all of the text is, or if it can be read only once.

        Raises:
            InputError: It is UTF-8 with errors, which must not be read as another encoding.
        """
        text = self._from_the_beginning()
        if text is None:
            return UTF_8
        count = utf_8_count(text, self._file.keep_waiting)
        if count.is_mixed:
            text = self._from_the_beginning()
            line = 1 if text is None else line_at(text, count.first_at)
            raise mixed_encodings(self._name, count, line)
        return FALLBACK if count.bad else UTF_8

    def _from_the_beginning(self) -> io.RawIOBase | None:
        """The text once more; None if it can be read only once."""
        content = self._file.source.second_look()
        if content is None or self._compression is None:
            return content
        return DecompressedStream(content, self._compression, self._name)


def _told_of_markup(begin: str) -> str | None:
    """What a text is instead of a table, and what to do; None if it may be one."""
    if _HTML.match(begin):
        return f"is an HTML page, such as web reports are; {_SAVE_AS}"
    if _WEB_ARCHIVE.match(begin):
        return f"is a web archive; {_SAVE_AS}"
    if _XML.match(begin):
        if "urn:schemas-microsoft-com:office:spreadsheet" in begin:
            return f"is a workbook as XML (Excel 2003); {_SAVE_AS}"
        if "urn:oasis:names:tc:opendocument" in begin:
            return "is a flat OpenDocument file; save it as .ods, .xlsx or CSV"
        return "is an XML file; a table is needed, such as CSV or a workbook"
    return None


def _is_jsonl(name: str, suffix: str, sample: str) -> bool:
    begin = sample.removeprefix("\ufeff").lstrip()
    if _GEOJSON.match(begin):
        raise InputError(
            f"{name} is a GeoJSON FeatureCollection; write its features as rows, as "
            "jq -c '.features[].properties' does"
        )
    if begin.startswith("[") and (suffix == ".json" or suffix in _JSONL_SUFFIXES):
        raise InputError(f"{name} is a JSON list; write one object a line, as jq -c '.[]' does")
    if suffix in _JSONL_SUFFIXES:
        return True
    return suffix not in _TEXT_SUFFIXES and _looks_like_jsonl(begin)


def _looks_like_jsonl(begin: str) -> bool:
    """Whether a text whose name does not tell is JSONL: an object, or an address in quotes.

    A CSV header may begin with a quote as well, but its first line is not JSON.
    """
    if begin.startswith("{"):
        return True
    try:
        return isinstance(msgspec.json.decode(begin.splitlines()[0]), str)
    except (IndexError, msgspec.DecodeError, UnicodeError, RecursionError):
        return False
