"""The parts of a workbook, and how they belong together."""

from __future__ import annotations

import posixpath
import zipfile
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

_SMALL_BYTES: Final = 16 * 1024 * 1024  # parsed, some have ten times that


class Relation(NamedTuple):
    """What one part says of another.

    Attributes:
        id: By which the one names it.
        kind: What it is, such as "worksheet"; the last word of its type.
        path: The other part.
    """

    id: str
    kind: str
    path: str


class WorkbookParts:
    """Finds the parts of a workbook.

    Args:
        archive: Its parts.
        sheet: The name of the sheet that is looked for.

    Attributes:
        workbook: The part of all sheets.
        sheet: That of the sheet.
        sheet_index: Which one it is among them, from 0.
        tables: Those of the sheet's tables, as Excel calls them.
        styles: That of the styles.
        macros: Those that hold programs.
        is_from_1904: Whether its days are counted from 1904 on, as Excel for the Mac once did.

    Raises:
        ValueError: When they cannot be made out.
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
        """A part that is small.

        Raises:
            ValueError: When it is not.
        """
        try:
            about = self._archive.getinfo(path)
        except KeyError as error:
            raise ValueError(f"it has no {path}") from error
        if about.file_size > _SMALL_BYTES:
            raise ValueError(f"its {path} is too large")
        return self._archive.read(about)

    def relations(self, path: str) -> list[Relation]:
        """What a part names; "" for the archive."""
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
        """The part that holds what another one names."""
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
        raise ValueError(f"a part of it is no XML: {error}") from error


def _local(name: str) -> str:
    return name.rpartition("}")[2]
