"""The fastest zlib there is here."""

from __future__ import annotations

import importlib
import zlib
from types import ModuleType

GZIP_WBITS = 31


def fast_zlib() -> ModuleType:
    """That of isal, which is optional, or Python's own."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib
