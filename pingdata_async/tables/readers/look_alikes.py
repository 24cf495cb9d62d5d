"""Files that look like tables and are none: what they are, and what to do (pure)."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence

from pingdata_async.tables.mapping.headers import shown_headers

ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = b"\xd0\xcf\x11\xe0"

LOCKED = "is locked with a password; save it without one"

_LARGEST_MANIFEST_BYTES = 1024 * 1024
_SHOWN_NAMES = 3

# What holds a workbook of today with a password, and what is behind the first record of one of
# before 2007 that has one.
_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_OLD_LOCKED = re.compile(
    rb"(?:\x09\x08\x10\x00\x00\x06.{14}|\x09\x08\x08\x00\x00\x05.{6})(?:\x86\x00\x00\x00)?\x2f\x00",
    re.DOTALL,
)
_WORD_DOCUMENT = "WordDocument".encode("utf-16-le")

_HTML = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|table|meta|div|style)\b",
    re.IGNORECASE | re.DOTALL,
)
_WEB_ARCHIVE = re.compile(r"\s*(?:mime-version|from: <saved by)", re.IGNORECASE)
_XML = re.compile(r"\s*<(?:\?xml\b|\w+:?\w*\s+xmlns)")


def told_of_workbook(content: bytes) -> str | None:
    """What a file is that begins like a workbook, and cannot be read as one; None for others."""
    if content.startswith(OLE_MAGIC):
        if _PACKAGE in content or _OLD_LOCKED.search(content):
            return LOCKED
        if _WORD_DOCUMENT in content:
            return "is a Word document; a table is needed, such as CSV or a workbook"
        return None
    if not content.startswith(ZIP_MAGIC):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _told_of_archive(archive)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OSError):
        return None  # the reader says what is wrong with it


def told_of_text(begin: str) -> str | None:
    """What a text is that begins like this, and is no table; None for others."""
    begin = begin.removeprefix("\ufeff")
    if _HTML.match(begin):
        return "is a page of HTML, as web reports are; open it in Excel and save it as .xlsx or CSV"
    if _WEB_ARCHIVE.match(begin):
        return "is a web archive; open it in Excel and save it as .xlsx or CSV"
    if _XML.match(begin):
        if "urn:schemas-microsoft-com:office:spreadsheet" in begin:
            return "is a workbook as XML (Excel 2003); open it in Excel and save it as .xlsx or CSV"
        if "urn:oasis:names:tc:opendocument" in begin:
            return "is a flat OpenDocument file; save it as .ods, .xlsx or CSV"
        return "is an XML file; a table is needed, such as CSV or a workbook"
    return None


def _told_of_archive(archive: zipfile.ZipFile) -> str | None:
    names = [name.replace("\\", "/") for name in archive.namelist()]
    plain = set(map(str.lower, names))
    if "encrypted-package" in plain or _is_locked_document(archive, plain):
        return LOCKED
    if any(name.startswith("xl/") for name in plain) or "content.xml" in plain:
        return None
    if any(name.startswith("word/") for name in plain):
        return "is a Word document; a table is needed, such as CSV or a workbook"
    if any(name.startswith("ppt/") for name in plain):
        return "is a presentation; a table is needed, such as CSV or a workbook"
    if any(name.endswith(".iwa") for name in plain):
        return "is an Apple Numbers document; export it as .xlsx or CSV"
    return f"is a zip archive without a workbook; unpack it. {_held(names)}"


def _is_locked_document(archive: zipfile.ZipFile, plain: set[str]) -> bool:
    """Whether it is an OpenDocument file whose parts are encrypted."""
    if "content.xml" not in plain or "META-INF/manifest.xml" not in archive.namelist():
        return False
    with archive.open("META-INF/manifest.xml") as manifest:
        return b":encryption-data" in manifest.read(_LARGEST_MANIFEST_BYTES)


def _held(names: Sequence[str]) -> str:
    files = [name for name in names if not name.endswith("/")]
    return f"It holds {shown_headers(files, _SHOWN_NAMES)}" if files else "It holds nothing"
