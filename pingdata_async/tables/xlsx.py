"""XLSX: values to cells as XML, and a workbook's archive, parts and styles.

A value that Excel would change is written as text: integers and decimals with more than 15 digits,
infinities and NaN, times before 1900, negative durations, and times finer than a millisecond. Null
and an empty text both become an empty cell.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import math
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import NoneType
from typing import IO, Any, BinaryIO, Final, NamedTuple
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from pingdata_async.tables.schema.inference import AnswerColumn
from pingdata_async.tables.schema.types import Column, ColumnType, Values, text_of_cell

GENERAL: Final = ""
"""The number format that leaves the display to Excel."""

MAX_CELL_UNITS: Final = 32_767  # of UTF-16
LARGEST_INTEGER: Final = 10**15 - 1  # Excel rounds larger ones

_DATE: Final = "yyyy-mm-dd"
_TIME: Final = "hh:mm:ss"
_DURATION: Final = "[h]:mm:ss"
_THOUSANDTHS: Final = ".000"
_SIGNIFICANT_DIGITS: Final = 15
_CUT: Final = "... [cut: {} characters]"

# Characters that XML text cannot contain; blanks at an end, which would be lost; and texts that
# look like Excel's escapes of such characters, which would be read as one.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f]")
_NOT_XML: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")
_LIKE_ESCAPED: Final = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_SEPARATOR: Final = "|"
_UNUSUAL: Final = re.compile(
    "[&<>\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_x|^\\s|\\s$|\\|\\s|\\s\\|"
)

_EPOCH: Final = dt.date(1899, 12, 30)
_EPOCH_1904: Final = dt.date(1904, 1, 1)
_FIRST_DAY: Final = dt.date(1900, 1, 1)
_AFTER_FEBRUARY: Final = dt.date(1900, 3, 1)  # for Excel, 1900 has a 29 February
_DAY_S: Final = 86_400

Style = Callable[[str], str]
"""Returns the attribute of a cell for a number format, with a blank before it; "" for none."""


class Cells:
    """Makes cells from values.

    Args:
        style: Returns their styles.
        is_from_1904: Whether the workbook counts days from 1904.

    Attributes:
        cut: The number of texts that were too long, and end with a note that says so.
    """

    def __init__(self, style: Style, *, is_from_1904: bool = False) -> None:
        self._style = style
        self._first_day = _EPOCH_1904 if is_from_1904 else _FIRST_DAY
        self._is_from_1904 = is_from_1904
        general = style(GENERAL)
        self._general = general
        self._nothing = f"{general}/>" if general else None
        self._of_type: dict[type, Callable[[Any], str | None]] = {
            NoneType: lambda _: self._nothing,
            str: self._text,
            bool: lambda cell: f'{general} t="b"><v>{cell:d}</v></c>',
            int: self._integer,
            float: self._number,
            decimal.Decimal: self._decimal,
            dt.date: self._date,
            dt.datetime: self._datetime,
            dt.time: self._time,
            dt.timedelta: self._duration,
        }
        self.cut = 0

    def column(self, letters: str, rows: Sequence[int], values: Values) -> list[str]:
        """The cells of a column in these rows, numbered from 1; "" for a row without one."""
        return [
            "" if rest is None else f'<c r="{letters}{row}"{rest}'
            for row, rest in zip(rows, self._rests(values), strict=True)
        ]

    def _rests(self, values: Values) -> list[str | None]:
        """The rest of each cell behind its place: attributes and content."""
        general, nothing = self._general, self._nothing
        kinds = set(map(type, values))
        kinds.discard(NoneType)
        # Mostly, all values are of one type, and none is unusual.
        if kinds == {str} and not _UNUSUAL.search(_SEPARATOR.join(filter(None, values))):
            most = MAX_CELL_UNITS // 2
            return [
                f'{general} t="inlineStr"><is><t>{value}</t></is></c>'
                if value and len(value) <= most
                else self._text(value or "")
                for value in values
            ]
        if kinds == {float} and math.isfinite(sum(filter(None, values))):
            return [
                nothing if value is None else f"{general}><v>{value!r}</v></c>" for value in values
            ]
        return [self._of_type[type(value)](value) for value in values]

    def _text(self, text: str) -> str | None:
        if not text:
            return self._nothing
        text = _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)
        if len(text) > MAX_CELL_UNITS // 2:
            text = self._fitting(text)
        space = "" if text == text.strip() else ' xml:space="preserve"'
        text = _LIKE_ESCAPED.sub("_x005F_", text)
        text = _CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", escape(text))
        return f'{self._general} t="inlineStr"><is><t{space}>{text}</t></is></c>'

    def _fitting(self, text: str) -> str:
        units = text.encode("utf-16-le")
        if len(units) // 2 <= MAX_CELL_UNITS:
            return text
        self.cut += 1
        note = _CUT.format(f"{len(text):,}")
        return units[: 2 * (MAX_CELL_UNITS - len(note))].decode("utf-16-le", "ignore") + note

    def _integer(self, cell: int) -> str | None:
        if abs(cell) > LARGEST_INTEGER:
            return self._text(str(cell))
        return f"{self._general}><v>{cell}</v></c>"

    def _number(self, cell: float) -> str | None:
        if not math.isfinite(cell):
            return self._text(str(cell))
        return f"{self._general}><v>{cell!r}</v></c>"

    def _decimal(self, cell: decimal.Decimal) -> str | None:
        exponent = cell.as_tuple().exponent
        places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
        if not cell.is_finite() or len(cell.as_tuple().digits) > _SIGNIFICANT_DIGITS:
            return self._text(text_of_cell(cell))
        # Its decimal places are part of it: 12.50 is shown as such.
        form = f"0.{'0' * places}" if places else GENERAL
        return f"{self._style(form)}><v>{float(cell)!r}</v></c>"

    def _date(self, cell: dt.date) -> str | None:
        if cell < self._first_day:
            return self._text(text_of_cell(cell))
        return f"{self._style(_DATE)}><v>{self._day(cell)}</v></c>"

    def _datetime(self, cell: dt.datetime) -> str | None:
        day = cell.date()
        if day < self._first_day or cell.tzinfo or cell.microsecond % 1000:
            return self._text(text_of_cell(cell))
        return self._of_day(self._day(day), cell.time(), f"{_DATE} {_TIME}")

    def _time(self, cell: dt.time) -> str | None:
        if cell.tzinfo or cell.microsecond % 1000:
            return self._text(text_of_cell(cell))
        return self._of_day(0, cell, _TIME)

    def _of_day(self, days: int, time: dt.time, form: str) -> str:
        seconds = 60 * (60 * time.hour + time.minute) + time.second
        return self._span(days, seconds, time.microsecond, form)

    def _duration(self, cell: dt.timedelta) -> str | None:
        if cell < dt.timedelta() or cell.microseconds % 1000:
            return self._text(text_of_cell(cell))
        return self._span(cell.days, cell.seconds, cell.microseconds, _DURATION)

    def _span(self, days: int, seconds: int, microseconds: int, form: str) -> str:
        value = days + (seconds + microseconds / 1_000_000) / _DAY_S
        style = self._style(form + _THOUSANDTHS if microseconds else form)
        return f"{style}><v>{value!r}</v></c>"

    def _day(self, date: dt.date) -> int:
        if self._is_from_1904:
            return (date - _EPOCH_1904).days
        return (date - _EPOCH).days - (date < _AFTER_FEBRUARY)


# -- The values of a column as cells ------------------------------------------------------------

_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d{1,3})?)?", re.ASCII)
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)  # not a code such as 01970
_DATE_LENGTH: Final = len("2026-01-31")


def _read(text: str, *, is_number: bool) -> Any:
    if is_number and _DECIMAL.fullmatch(text):
        return decimal.Decimal(text)
    if text[4:5] != "-" or not _ISO.fullmatch(text):
        return text
    try:
        if len(text) == _DATE_LENGTH:
            return dt.date.fromisoformat(text)
        return dt.datetime.fromisoformat(text)
    except ValueError:  # not a date of the calendar
        return text


def cell_values(values: Values, column: Column) -> Values:
    """The values of a column as values of cells.

    JSON has no dates, and the API sends decimals as strings, so the strings of answers are parsed.
    """
    if isinstance(column, AnswerColumn) and column.type is ColumnType.TEXT:
        return [value and _read(value, is_number=column.is_number) for value in values]
    if column.arrow_field is None:
        return values
    import pyarrow as pa  # noqa: PLC0415 - optional

    from pingdata_async.tables.schema.arrow import objects_in, python_values  # noqa: PLC0415 - optional

    if pa.types.is_decimal(column.arrow_field.type):
        return objects_in(values)
    return python_values(values, column.type)


def column_number(letters: str) -> int:
    """The number of a column, from 1: A is 1, AA is 27."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def column_letters(number: int) -> str:
    """The name of a column by its number, from 1."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def cell_name(row: int, column: int) -> str:
    """The name of a cell by its row and column, from 0: B7."""
    return f"{column_letters(column + 1)}{row + 1}"


PANE: Final = (
    '<pane ySplit="{rows}" topLeftCell="A{below}" activePane="bottomLeft" state="frozen"/>'
)
"""Part of the view of a sheet whose first rows stay in sight."""


def column_widths(widths: Sequence[int], first: int = 1) -> str:
    """The elements for the widths of columns, in characters; `first` is the first one, from 1."""
    return "".join(
        f'<col min="{number}" max="{number}" width="{width}" customWidth="1"/>'
        for number, width in enumerate(widths, first)
    )


# -- The archive -------------------------------------------------------------------------------

# Higher levels take half of the total time to save a tenth of the size.
_COMPRESSION_LEVEL: Final = 1


class ArchiveWriter:
    """Writes the parts of a workbook, one after the other; the caller closes the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(
            file, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL
        )

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[IO[bytes]]:
        """Open a part for writing, of any size."""
        file = self.begin_part(name)
        yield file
        file.close()

    def begin_part(self, name: str) -> IO[bytes]:
        """Open a part; the caller closes it before the next one."""
        # Opened by name it has no date, so that equal tables make equal files.
        part: IO[bytes] = self._archive.open(name, "w", force_zip64=True)
        return part

    def close(self) -> None:
        """Write the directory of the archive."""
        self._archive.close()

    def abandon(self, part: IO[bytes] | None = None) -> None:
        """Write nothing more to the file, nor the part that is being written, if any.

        When collected, the archive would write its directory, perhaps after the file was closed.
        """
        self._archive.fp = None  # it does nothing more then
        if part is not None:
            with contextlib.suppress(AttributeError):
                part.close()


# -- Parts --------------------------------------------------------------------------------------

_SMALL_BYTES: Final = 16 * 1024 * 1024  # parsed, some parts take ten times as much


class Relation(NamedTuple):
    """The relationship of a part to another."""

    id: str  # the id by which the part refers to the other
    kind: str  # the last word of its type, such as "worksheet"
    path: str  # the path of the other part


class WorkbookParts:
    """Finds the parts of a workbook; a ValueError if one is missing or malformed.

    Attributes:
        workbook: The path of the workbook part, which lists the sheets.
        sheet: The path of the sheet of the given name.
        sheet_index: The place of the sheet among all sheets, from 0.
        tables: The paths of the sheet's tables.
        styles: The path of the styles.
        macros: The paths of macros.
        is_from_1904: Whether days are counted from 1904, as Excel for the Mac once did.
    """

    def __init__(self, archive: zipfile.ZipFile, sheet: str) -> None:
        self._archive = archive
        self.workbook = self._one(self.relations(""), "officeDocument")
        related = self.relations(self.workbook)
        self.styles = self._one(related, "styles")
        self.macros = [each.path for each in related if each.kind == "vbaProject"]
        directory = _parsed(self.read(self.workbook))
        self.is_from_1904 = any(
            each.get("date1904") in {"1", "true"}
            for each in directory
            if _local(each.tag) == "workbookPr"
        )
        found = self._sheet_id(directory, sheet)
        self.sheet_index = found[0]
        [self.sheet] = [each.path for each in related if each.id == found[1]]
        self.tables = [each.path for each in self.relations(self.sheet) if each.kind == "table"]

    def read(self, path: str) -> bytes:
        """Read a small part; raises a ValueError if it is missing or large."""
        try:
            about = self._archive.getinfo(path)
        except KeyError as error:
            raise ValueError(f"it has no {path}") from error
        if about.file_size > _SMALL_BYTES:
            raise ValueError(f"its {path} is too large")
        return self._archive.read(about)

    def relations(self, path: str) -> list[Relation]:
        """The relationships of a part; "" for those of the archive."""
        where = self.relations_of(path)
        folder = posixpath.dirname(path)
        if where not in self._archive.namelist():
            return []
        root = _parsed(self.read(where))
        return [
            Relation(
                each.get("Id", ""),
                each.get("Type", "").rpartition("/")[2],
                posixpath.normpath(posixpath.join("/", folder, each.get("Target", ""))).lstrip("/"),
            )
            for each in root
        ]

    @staticmethod
    def relations_of(path: str) -> str:
        """The path of the part that holds the relationships of another."""
        folder, name = posixpath.split(path)
        return posixpath.join(folder, "_rels", f"{name}.rels")

    @staticmethod
    def _one(relations: list[Relation], kind: str) -> str:
        paths = [each.path for each in relations if each.kind == kind]
        if not paths:
            raise ValueError(f"it has no {kind}")
        return paths[0]

    @staticmethod
    def _sheet_id(directory: ET.Element, name: str) -> tuple[int, str]:
        sheets = [each for each in directory.iter() if _local(each.tag) == "sheet"]
        for index, each in enumerate(sheets):
            if each.get("name") == name:
                ids = [value for key, value in each.attrib.items() if _local(key) == "id"]
                return index, ids[0] if ids else ""
        raise ValueError(f"it has no sheet {name!r}")


def _parsed(content: bytes) -> ET.Element:
    try:
        return ET.fromstring(content)  # noqa: S314 - expat bounds what entities become
    except ET.ParseError as error:
        raise ValueError(f"a part of it is not XML: {error}") from error


def _local(name: str) -> str:
    return name.rpartition("}")[2]


# -- Styles -------------------------------------------------------------------------------------

MOST_FORMATS: Final = 65_536  # slightly more than Excel allows

_FORMATS: Final = re.compile(rb"<((?:\w+:)?)cellXfs\b[^>]*>")
_FORMAT: Final = re.compile(  # stops at the next one, however many have no end
    rb"<(?:\w+:)?xf\b(?:[^>]*/>|[^>]*>(?:(?!<(?:\w+:)?xf\b).)*?</(?:\w+:)?xf>)", re.DOTALL
)
_NUMBER_FORMATS: Final = re.compile(rb"</(?:\w+:)?numFmts>")
_NO_NUMBER_FORMATS: Final = re.compile(rb"<(?:\w+:)?numFmts\b[^>]*/>")
_NUMBER_FORMAT_ID: Final = re.compile(rb"""<(?:\w+:)?numFmt\b[^>]*\bnumFmtId=["'](\d+)""")
_ROOT: Final = re.compile(rb"<((?:\w+:)?)styleSheet\b[^>]*>")
_NUMBER_FORMAT_WORDS: Final = re.compile(
    rb"""\s(?:numFmtId|applyNumberFormat|quotePrefix)=["'][^"']*["']"""
)
_FONTS: Final = re.compile(rb"<((?:\w+:)?)fonts\b[^>]*>")
_FONT: Final = re.compile(rb"<(?:\w+:)?font\b")
_UNDERLINED: Final = re.compile(rb"""<(?:\w+:)?u(?:\s+val=["'](?!none)\w*["'])?\s*/?>""")
_FONT_ID: Final = re.compile(rb"""\sfontId=["'](\d+)["']""")
_FONT_WORDS: Final = re.compile(rb"""\s(?:fontId|xfId)=["'][^"']*["']""")
_HORIZONTAL: Final = re.compile(rb"""\s(?:horizontal|indent)=["'][^"']*["']""")
_TAG_END: Final = re.compile(rb"/?>")
_FIRST_ID: Final = 164  # of formats that are not built in


class Styles:
    """The styles of a workbook, which can be extended; a ValueError if they are malformed."""

    def __init__(self, content: bytes) -> None:
        found = _FORMATS.search(content)
        root = _ROOT.search(content)
        end = -1 if found is None else content.find(b"</%bcellXfs>" % found[1], found.end())
        if found is None or root is None or end < 0:
            raise ValueError("its styles cannot be made out")
        self._content = content
        self._prefix = root[1]
        self._root_end = root.end()
        self._span = found.end(), end
        formats = _FORMAT.finditer(content, *self._span)
        self._formats = [each[0] for each in islice(formats, MOST_FORMATS + 1)]
        if not 0 < len(self._formats) <= MOST_FORMATS:
            raise ValueError("its styles cannot be made out")
        self._underlined = _underlined_fonts(content)
        self._derived: dict[tuple[int, str], int] = {}
        self._added: list[bytes] = []
        ids = map(int, _NUMBER_FORMAT_ID.findall(content))
        self._next_id = max((_FIRST_ID - 1, *ids)) + 1
        self._ids: dict[str, int] = {GENERAL: 0}

    def like(self, style: int, form: str) -> int:
        """The number of a style like another one, but with this number format."""
        key = style, form
        if key not in self._derived:
            self._derived[key] = len(self._formats) + len(self._added)
            self._added.append(self._made(style, form))
        return self._derived[key]

    def _made(self, style: int, form: str) -> bytes:
        format_ = self._formats[style] if style < len(self._formats) else self._formats[0]
        end = _TAG_END.search(format_)
        assert end is not None  # noqa: S101 - it was found by its end
        if form not in self._ids:
            self._ids[form] = self._next_id
            self._next_id += 1
        number = b' numFmtId="%d"' % self._ids[form]
        applied = b' applyNumberFormat="1"' if form else b""
        # The alignment of the other style suits its own values: amounts stand on the right.
        inside = _HORIZONTAL.sub(b"", format_[end.start() :])
        tag = _NUMBER_FORMAT_WORDS.sub(b"", format_[: end.start()])
        font = _FONT_ID.search(tag)
        if font is not None and int(font[1]) in self._underlined:  # as links are, unlike answers
            tag = _FONT_WORDS.sub(b"", tag) + b' fontId="0" xfId="0"'
        return tag + number + applied + inside

    def content(self) -> bytes:
        """The part, with the styles that were added."""
        begin, end = self._span
        count = len(self._formats) + len(self._added)
        opening = self._content.rindex(b"<", 0, begin)
        tag = self._content[opening:begin]
        tag = re.sub(rb"""\scount=["'][^"']*["']""", b"", tag)[:-1] + b' count="%d">' % count
        made = b"".join(self._added)
        rest = tag + self._content[begin:end] + made + self._content[end:]
        return self._with_number_formats(self._content[:opening]) + rest

    def _with_number_formats(self, before: bytes) -> bytes:
        prefix = self._prefix
        formats = b"".join(
            b'<%bnumFmt numFmtId="%d" formatCode=%b/>' % (prefix, id_, quoteattr(form).encode())
            for form, id_ in self._ids.items()
            if form
        )
        if not formats:
            return before
        there = _NUMBER_FORMATS.search(before)
        if there is not None:
            before = before[: there.start()] + formats + before[there.start() :]
            # The count is optional, and must not be wrong.
            return re.sub(rb"""(<(?:\w+:)?numFmts)\s+count=["']\d+["']""", rb"\1", before, count=1)
        before = _NO_NUMBER_FORMATS.sub(b"", before)
        opened = b"<%bnumFmts>%b</%bnumFmts>" % (prefix, formats, prefix)
        return before[: self._root_end] + opened + before[self._root_end :]


def _underlined_fonts(styles: bytes) -> set[int]:
    found = _FONTS.search(styles)
    end = -1 if found is None else styles.find(b"</%bfonts>" % found[1], found.end())
    if found is None or end < 0:
        return set()
    fonts = _FONT.split(styles[found.end() : end])[1:]
    return {number for number, font in enumerate(fonts) if _UNDERLINED.search(font)}
