"""A store on a real S3, on which all that it needs is a put that is refused."""

from __future__ import annotations

import anyio

from pingdata_async.engines.store import SharedStore
from tests.lake.conftest import ObjectStorage


async def test_of_sixteen_writers_one_wins(object_storage: ObjectStorage) -> None:
    """Always."""
    shared = SharedStore.open(object_storage.url, **object_storage.options)
    await shared.probe()
    for key in range(2):  # of seconds each, as obstore waits before it tries again
        won: list[int] = []

        async def write(writer: int, key: int = key, won: list[int] = won) -> None:
            if await shared.put_new(f"chunks/{key}/1", b"%d" % writer):
                won.append(writer)

        async with anyio.create_task_group() as writers:
            for writer in range(16):
                writers.start_soon(write, writer)
        assert len(won) == 1
