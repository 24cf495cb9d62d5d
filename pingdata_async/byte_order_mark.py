"""The byte order mark that some servers write before JSON, and no reader of it takes (pure)."""

from __future__ import annotations

import codecs


def without_bom(body: bytes) -> bytes:
    """A body without the UTF-8 byte order mark before it."""
    return body.removeprefix(codecs.BOM_UTF8)
