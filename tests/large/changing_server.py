"""The bench's fast server, with fields that are not what they were in the first rows.

    python -m tests.large.changing_server ROWS

prints its url, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from dataclasses import dataclass

from benchmarks.throughput.server import FastAPI, make_templates, serve

TEXT_FROM, FLOAT_FROM = 0.1, 0.7  # of the rows: 100,000 and 700,000 of a million


@dataclass(frozen=True)
class LateChanges:
    """What PH says of each of so many rows, beside what the bench's server says.

    Attributes:
        rows: How many there are.
    """

    rows: int

    @property
    def text_from(self) -> int:
        """The first row whose `late_text` is a text; of those before it is null."""
        return int(self.rows * TEXT_FROM)

    @property
    def float_from(self) -> int:
        """The first row whose `late_float` is no integer."""
        return int(self.rows * FLOAT_FROM)

    def members(self, row: int) -> bytes:
        """The members of a row's object; the last row has one that no other has."""
        text = b"null" if row < self.text_from else b'"row %d"' % row
        fraction = b"" if row < self.float_from else b".5"
        last = b',"only_last":true' if row == self.rows - 1 else b""
        return b'"late_text":%b,"late_float":%d%b%b' % (text, row, fraction, last)


def pick_of(row: int, templates: int) -> int:
    """Which template the answer to a row is; its id on the wire is its number."""
    return zlib.crc32(b'"%d"' % row) % templates


class ChangingAPI(FastAPI):
    """Serves them.

    Args:
        changes: What changes late.
    """

    def __init__(self, changes: LateChanges) -> None:
        super().__init__()
        self._changes = changes
        self._bodies = [template.removesuffix(b"}}") for template in make_templates()[0]]

    def answers(self, ids: list[bytes]) -> bytes:
        """The output for these ids, in their order."""
        bodies, members = self._bodies, self._changes.members
        rows = [int(wire_id.strip(b'"')) for wire_id in ids]
        parts = [
            b'"%d":%b,%b}}' % (row, bodies[pick_of(row, len(bodies))], members(row)) for row in rows
        ]
        return b"{" + b",".join(parts) + b"}"


if __name__ == "__main__":
    asyncio.run(serve(ChangingAPI(LateChanges(int(sys.argv[1])))))
