"""A task of a distributed engine that dies on purpose at an object of its store.

    python -m tests.survival.task_launcher SPEC TABLE OUT [before|after NUMBER]

enhances the Arrow stream TABLE as the pickled spec says, and writes to OUT the rows that came out,
a line each. At the object of that number that it puts into the store it kills itself.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

import pyarrow as pa

from pingdata_async.engines.batches import enhance_batches
from pingdata_async.engines.spec import BatchSpec
from pingdata_async.engines.store import SharedStore


def die_at(moment: str, number: int) -> None:
    """Kill this process when it has put so many objects, or is about to."""
    put_new, puts = SharedStore.put_new, 0

    async def deadly(self: SharedStore, path: str, data: bytes) -> bool:
        nonlocal puts
        puts += 1
        is_last = puts == number
        if is_last and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        is_new = await put_new(self, path, data)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return is_new

    SharedStore.put_new = deadly  # type: ignore[method-assign]  # this process is for nothing else


def main(spec_file: str, table: str, out: str, moment: str = "", number: str = "0") -> None:
    spec: BatchSpec = pickle.loads(Path(spec_file).read_bytes())
    if moment:
        die_at(moment, int(number))
    found = []
    with Path(table).open("rb") as file, pa.ipc.open_stream(file) as batches:
        for batch in enhance_batches(batches, spec):
            found += batch.column("tiv").to_pylist()
    Path(out).write_text("".join(f"{row}\n" for row in found))


if __name__ == "__main__":
    main(*sys.argv[1:])
