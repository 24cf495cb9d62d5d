"""The deflate format by whoever is fastest at it here.

isal (Intel's ISA-L) inflates outputs three times as fast as zlib, and packs requests eight times
as fast; `benchmarks/README.md` has the figures. Where there is no wheel of it, zlib does it.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any

_GZIP = 31  # zlib's `wbits`


def _fastest() -> Any:
    # Not a plain import: the two differ in trifles of their types alone.
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


fast_zlib = _fastest()
"""A module with what `zlib` has."""

DEFLATE_ERRORS = (zlib.error, fast_zlib.error)
"""What reading a damaged stream may raise."""


PACKING_IS_QUICK_BELOW_BYTES = 64 * 1024 if fast_zlib is zlib else 512 * 1024
"""What `gzipped()` takes less than a millisecond for."""


def gzipped(content: bytes) -> bytes:
    """One gzip member.

    At level 1: addresses shrink to a quarter, and higher levels cost more than they save.
    """
    packed: bytes = fast_zlib.compress(content, level=1, wbits=_GZIP)
    return packed
