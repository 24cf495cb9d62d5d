"""The command `pingdata-async`; it starts in `pingdata_async.__main__`."""
