"""A user's mistakes, each of which mypy and pyright find.

mypy runs over this file with the rest of the tests, and complains where a comment ignores nothing.
What pyright says of each line stands behind the line, for `test_pyright.py`.
"""

from __future__ import annotations

import pingdata_async as ping
from pingdata_async import sync


async def mistakes(client: ping.PingDataClient) -> None:
    enhancer = ping.BulkEnhancer(client, ["PG"])
    ping.BulkEnhancer(client, ["PG"], chunk_sise=3)  # type: ignore[call-arg]  # reportCallIssue
    sync.enhance(["Boston"], "PG", chunk_sise=3)  # type: ignore[call-arg]  # reportCallIssue
    await enhancer.run("a.csv", "b.csv", overwrit=True)  # type: ignore[call-arg]  # reportCallIssue
    await enhancer.enhance(["Boston"], max_rows=3)  # type: ignore[call-arg]  # reportCallIssue
    ping.Location(zip="36130")  # type: ignore[call-arg]  # reportCallIssue
    ping.PingDataClient(environment="test")  # type: ignore[arg-type]  # reportArgumentType
    ping.BulkEnhancer(client, 7)  # type: ignore[arg-type]  # reportArgumentType
    ping.BulkEnhancer(client, [7])  # type: ignore[list-item]  # reportArgumentType
    await enhancer.enhance([7])  # type: ignore[list-item]  # reportArgumentType
    enhancer.enhance(["Boston"])  # type: ignore[unused-coroutine]  # reportUnusedCoroutine
    ping.enhance_table([], "PG")  # type: ignore[unused-coroutine]  # reportUnusedCoroutine
    len(enhancer.enhance(["Boston"]))  # type: ignore[arg-type]  # reportArgumentType
