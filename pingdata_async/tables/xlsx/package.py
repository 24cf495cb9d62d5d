"""A workbook as a package: its archive, its parts and its styles."""

from __future__ import annotations

import contextlib
import posixpath
import re
import zipfile
from collections.abc import Iterator
from itertools import islice
from typing import IO, BinaryIO, Final, NamedTuple, cast
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from pingdata_async.tables.xlsx.cells import GENERAL

# Higher levels take half of the total time to save a tenth of the size.
_COMPRESSION_LEVEL: Final = 1


class ArchiveWriter:
    """Writes the parts of a workbook, one after the other.

    Args:
        file: The output; the caller closes it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = _LastingFile(file)
        self._archive = zipfile.ZipFile(
            cast("IO[bytes]", self._file),  # these methods are enough
            "w",
            zipfile.ZIP_DEFLATED,
            compresslevel=_COMPRESSION_LEVEL,
        )

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[IO[bytes]]:
        """Open a part for writing, of any size."""
        file = self.begin_part(name)
        yield file
        file.close()

    def begin_part(self, name: str) -> IO[bytes]:
        """Likewise; the caller closes it before the next part."""
        # Opened by name it has no date, so that equal tables make equal files.
        part: IO[bytes] = self._archive.open(name, "w", force_zip64=True)
        return part

    def close(self) -> None:
        """Write the directory of the archive."""
        self._archive.close()

    def abandon(self, part: IO[bytes] | None = None) -> None:
        """Write nothing more to the file.

        When collected, the archive would write its directory, perhaps after the file was closed.

        Args:
            part: The part that is being written, if any.
        """
        self._file.detach()
        with contextlib.suppress(OSError, ValueError):
            if part is not None:
                part.close()
        with contextlib.suppress(OSError, ValueError):
            self._archive.close()


class _LastingFile:
    """A file that can be detached while others go on writing to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | None = file
        self._place = 0

    def detach(self) -> None:
        """Discard all writes from now on."""
        self._file = None

    def write(self, block: bytes) -> int:
        if self._file is None:
            self._place += len(block)
            return len(block)
        return self._file.write(block)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._file is None:
            self._place = offset
            return offset
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._place if self._file is None else self._file.tell()

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()


_SMALL_BYTES: Final = 16 * 1024 * 1024  # parsed, some parts take ten times as much


class Relation(NamedTuple):
    """The relationship of a part to another.

    Attributes:
        id: The id by which the part refers to the other.
        kind: The last word of its type, such as "worksheet".
        path: The path of the other part.
    """

    id: str
    kind: str
    path: str


class WorkbookParts:
    """Finds the parts of a workbook.

    Args:
        archive: The archive of the workbook.
        sheet: The name of a sheet.

    Attributes:
        workbook: The path of the workbook part, which lists the sheets.
        sheet: The path of the sheet.
        sheet_index: The place of the sheet among all sheets, from 0.
        tables: The paths of the sheet's tables.
        styles: The path of the styles.
        macros: The paths of macros.
        is_from_1904: Whether days are counted from 1904, as Excel for the Mac once did.

    Raises:
        ValueError: A part is missing or malformed.
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
    """The styles of a workbook, which can be extended.

    Args:
        content: The part with the styles.

    Raises:
        ValueError: It is malformed.
    """

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
        """The number of a style like another, with its own number format.

        Args:
            style: The number of the other style.
            form: The number format.
        """
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
