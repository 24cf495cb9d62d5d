"""The command `pingdata-async`, and `python -m pingdata_async`."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line and exit."""
    # Until a command has something to lose, and listens itself. Not by an exception: in a
    # call-back in the middle of an import, Python would only print it. nohup and & are heeded.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit_at_once)
    # For pyarrow, where it is loaded: an allocator of its own would hold 20 MB more.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Answers are many small objects without cycles; the default, 700, costs a run up to a tenth
    # of its CPU.
    gc.set_threshold(10_000)
    # Only now: it takes a while, in which Ctrl-C should be no traceback.
    from pingdata_async.cli.main import main as run  # noqa: PLC0415

    run()


def _exit_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
