"""What is settled on the driver, and travels to the tasks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import anyio.to_thread
import pyarrow as pa
import pytest

from pingdata_async import ConfigurationError, InputError, LimitsExceededError
from pingdata_async.engines.batches import output_schema
from pingdata_async.sandbox import SandboxServer
from tests.support.partitions import TOKEN, partition, settled, token

__all__ = ["token"]

NOWHERE = "http://127.0.0.1:1"


def test_a_spec_is_pickled_without_the_token(tmp_path: Path) -> None:
    """Not from the environment, nor from a file that a secret is mounted as."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    for changes in ({}, {"token_file": str(file)}):
        spec = settled(partition(3), NOWHERE, **changes)
        assert pickle.loads(pickle.dumps(spec)) == spec
        assert TOKEN not in f"{pickle.dumps(spec)!r} {spec!r}"


def test_a_missing_token_file_is_named() -> None:
    """And nothing of its content could be."""
    spec = settled(partition(3), NOWHERE, token_file="/nowhere/token")
    with pytest.raises(ConfigurationError, match="/nowhere/token cannot be read: No such file"):
        spec.client()


def test_each_task_has_an_equal_share() -> None:
    """Of jobs, of requests, and of the budget; what is left over is not used."""
    spec = settled(
        partition(3),
        NOWHERE,
        tasks=3,
        max_jobs=8,
        max_requests_per_second=6.0,
        max_locations=100,
        budget={"PG": 50},
    )
    assert (spec.max_jobs, spec.max_requests_per_s) == (2, 2.0)
    assert (spec.caps.locations, spec.caps.by_source) == (33, {"PG": 16})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": 5}, "5 tasks cannot share max_jobs=4, as each needs one: give fewer tasks"),
        ({"tasks": 4, "max_locations": 3}, "4 tasks cannot share max_locations=3"),
        ({"store_options": {"aws_secret_access_key": "x"}}, "set it in the environment of the"),
        ({"store": "s3://name:word@bucket/run"}, "the store's url may hold a secret"),
        ({"store": "az://box/run?sv=1&sig=x"}, "the store's url may hold a secret"),
        ({"store_options": {"endpoint": "http://a:b@host/"}}, "endpoint may hold a secret"),
        ({"key": ["nosuch"]}, "the key 'nosuch' is no column of the input"),
        ({"on_event": print}, "on_event cannot be sent to workers"),
        ({"tasks": 0}, "tasks must be at least 1"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], said: str) -> None:
    """On the driver, in a sentence."""
    with pytest.raises(ConfigurationError, match=said):
        settled(partition(3), NOWHERE, **changes)


def test_columns_without_an_address_are_refused() -> None:
    """By their names, also where there are no rows."""
    with pytest.raises(InputError, match="has no column to look up"):
        settled(pa.table({"policy": pa.array([], pa.string())}), NOWHERE)


async def test_limits_and_types_are_asked_for_once() -> None:
    """The schema of the output then depends on the spec alone."""
    table = pa.table({"policy": ["1"], "address": ["1 Main St"], "PG_Latitude": [1]})
    async with SandboxServer(limits={"PG": {"daily": 5}}) as server:

        def settle(**changes: Any) -> Any:
            return settled(table, server.url, **changes)

        names = ["pg_latitude", "PG_city"]
        spec = await anyio.to_thread.run_sync(lambda: settle(columns=names, locations=5))
        with pytest.raises(ConfigurationError, match='no field for the column "pg_nosuch"'):
            await anyio.to_thread.run_sync(lambda: settle(columns=["pg_nosuch"]))
        with pytest.raises(LimitsExceededError):
            await anyio.to_thread.run_sync(lambda: settle(locations=6))
        await anyio.to_thread.run_sync(lambda: settle(locations=6, preflight=False))
    schema = output_schema(table.schema, spec)
    answers = {"enhance_status", "enhance_reason", "enhance_error", "enhance_json", "pg_city"}
    assert schema.names[:3] == table.schema.names
    assert {field.name: field.type for field in list(schema)[3:]} == {
        **dict.fromkeys(answers, pa.string()),
        "pg_latitude_2": pa.float64(),
    }
