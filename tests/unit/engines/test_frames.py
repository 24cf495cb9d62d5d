"""Which columns of a frame are asked, and partitions that come in any order."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pyarrow as pa
import pytest

from pingdata_async.engines.frames import asked_columns, enhance_table, new_columns
from pingdata_async.exceptions import InputError
from pingdata_async.sandbox import SandboxServer
from tests.support.partitions import partition, settled, token

__all__ = ["token"]  # a fixture


def test_what_is_asked_are_the_columns_of_a_location() -> None:
    """In the frame's order, without the user's id; that and the key go along."""
    table = pa.table({"id": ["a"], "note": ["x"], "city": ["Tampa"], "n": [1], "state": ["FL"]})
    asked = asked_columns(table, table.column_names, key="n", reading=None)
    assert (asked.sent, asked.carried, asked.key) == (["city", "state"], ["id", "n"], ["n"])
    assert asked.order == ["n", "city", "state"]
    assert asked_columns(table, table.column_names, key=(), reading=None).key == ["city", "state"]


@pytest.mark.parametrize(
    ("headers", "key", "said"),
    [
        (["address", "address"], (), "two columns are named"),
        (["address"], ("policy",), "the key 'policy' is no column that can be sorted by"),
    ],
)
def test_a_frame_that_cannot_be_asked(headers: list[str], key: tuple[str, ...], said: str) -> None:
    """It is refused before anything is sent."""
    table = pa.table({"address": ["1 Main St"]})
    with pytest.raises(InputError, match=said):
        asked_columns(table, headers, key=key, reading=None)


async def test_a_partition_in_another_order_is_paid_once(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """It is sorted by the key, null first, before it is asked; new columns find free names."""
    table = partition(25)
    table = table.set_column(2, "tiv", pa.array([None, *range(24)], pa.int32()))
    spec = await anyio.to_thread.run_sync(
        lambda: settled(table, sandbox.url, key=["tiv"], store=tmp_path.as_uri())
    )
    for places in (range(25), range(24, -1, -1)):
        shuffled = table.take(list(places))
        answered = await anyio.to_thread.run_sync(enhance_table, shuffled, spec)
        assert answered.select(table.column_names).sort_by("policy").equals(table)
    assert sandbox.stats.locations_accepted == 25
    names = new_columns(table.column_names, [*table.column_names, "Enhance_Error"], spec)
    assert {field.name: name for field, name in names.items()} == {
        "enhance_status": "enhance_status",
        "enhance_reason": "enhance_reason",
        "enhance_error": "enhance_error_2",
        "enhance_json": "enhance_json",
    }
