"""What a run may do with what is there (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run may do with what is there.

    Attributes:
        overwrite: Replace an output that exists.
        restart: Set a run of the same output aside, and begin a new one.
        again: Begin, although another run beside it has the same input and settings.
        discard: Remove the run directory when every row has been answered.
        check_space: Refuse to begin where the answers will not fit on the disk.
        dedupe: Send once what is the same location; what is planned already stays as it is.
        preflight: Refuse to send what the account's limits are known to refuse.
    """

    overwrite: bool = False
    restart: bool = False
    again: bool = False
    discard: bool = False
    check_space: bool = True
    dedupe: bool = True
    preflight: bool = True
