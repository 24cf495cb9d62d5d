"""The command `pingdata-async`."""

from pingdata_async.cli.main import main

__all__ = ["main"]
