"""Styles of a workbook that there are, with other number formats."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final
from xml.sax.saxutils import quoteattr

from pingdata_async.tables.xlsx_cells import GENERAL

MOST_FORMATS: Final = 65_536  # a few more than Excel has

_FORMATS: Final = re.compile(rb"<((?:\w+:)?)cellXfs\b[^>]*>")
_FORMAT: Final = re.compile(  # no further than to the next one, however many have no end
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
_FIRST_ID: Final = 164  # of formats that are no built-in ones


class Styles:
    """The styles of a workbook, to which more can be added.

    Args:
        content: The part that holds them.

    Raises:
        ValueError: When they cannot be made out.
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
        """A style like another one, for texts and numbers in a format of their own.

        Args:
            style: The other one's number.
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
        # How the neighbour is aligned fits what is in it: amounts stand on the right.
        inside = _HORIZONTAL.sub(b"", format_[end.start() :])
        tag = _NUMBER_FORMAT_WORDS.sub(b"", format_[: end.start()])
        font = _FONT_ID.search(tag)
        if font is not None and int(font[1]) in self._underlined:  # as links are, and answers not
            tag = _FONT_WORDS.sub(b"", tag) + b' fontId="0" xfId="0"'
        return tag + number + applied + inside

    def content(self) -> bytes:
        """The part, with what was added."""
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
            # How many there are is known from them; a count that is wrong is not.
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
