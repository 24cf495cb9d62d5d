"""Files that are taken for tables say what they are, whatever their name."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from pingdata_async.exceptions import InputError
from tests.support.reading import read_all, written

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
MANIFEST = b"<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>"


def archive(**parts: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name, part in parts.items():
            opened.writestr(name.replace("__", "/").replace("_", "."), part)
    return content.getvalue()


BOF = b"\x09\x08\x10\x00\x00\x06" + bytes(14)

KINDS = {
    "a web report": (b"<table><tr><td>address</td></tr></table>", "an HTML page"),
    "a page": (b"\xef\xbb\xbf\r\n<!DOCTYPE html>\n<html>", "an HTML page"),
    "a page in UTF-16": ("\ufeff<html><body>".encode("utf-16-le"), "an HTML page"),
    "a web archive": (b"MIME-Version: 1.0\nX-Document-Type: Workbook\n", "a web archive"),
    "a workbook of 2003": (
        (
            b'<?xml version="1.0"?>\n<?mso-application progid="Excel.Sheet"?>\n'
            b'<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet">'
        ),
        r"a workbook as XML \(Excel 2003\); open it in Excel",
    ),
    "xml": (b'<?xml version="1.0"?>\n<rows><row/></rows>', "an XML file"),
    "a locked workbook": (OLE + "EncryptedPackage".encode("utf-16-le"), "with a password"),
    "a locked old workbook": (OLE + BOF + b"\x2f\x00\x36\x00" + bytes(60), "with a password"),
    "one that is protected, too": (OLE + BOF + b"\x86\0\0\0\x2f\x00\x36\x00", "with a password"),
    "a locked document": (
        archive(content_xml=b"\x01\x02", **{"META-INF__manifest_xml": MANIFEST}),
        "with a password",
    ),
    "a locked document of today": (archive(**{"encrypted-package": b"x"}), "with a password"),
    "a zip": (archive(a_csv=b"id", b_csv=b"id"), 'unpack it. It holds "a.csv", "b.csv"$'),
    "an empty zip": (archive(folder__=b""), "It holds nothing"),
    "a text": (archive(word__document_xml=b"<x/>"), "a Word document"),
    "slides": (archive(ppt__presentation_xml=b"<x/>"), "a presentation"),
    "numbers": (archive(Index__Document_iwa=b"x"), "an Apple Numbers document"),
}


@pytest.mark.parametrize("name", ["in.xlsx", "in.xls", "in.csv", "in"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is(tmp_path: Path, kind: str, name: str) -> None:
    """One line with what it is, and what to do."""
    content, told = KINDS[kind]
    with pytest.raises(InputError, match=told) as caught:
        read_all(written(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_table_that_begins_with_a_tag_is_one(tmp_path: Path) -> None:
    """Only what begins like a page is a page."""
    content = b"<id>,address\n1,<html> Main St\n"
    assert read_all(written(tmp_path, "in.csv", content)).rows == [["1", "<html> Main St"]]
