"""Ray Data, by the recipe of the documentation, with a worker that is killed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pyarrow as pa
import pytest
from pyarrow import parquet

from pingdata_async.engines.store import SharedStore
from pingdata_async.sandbox import SandboxServer
from tests.lake.processes import kill_when
from tests.support.partitions import partition
from tests.test_docs import blocks

ray = pytest.importorskip("ray", reason="`scripts/test --lake` brings Ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # its own, and of its workers


@pytest.fixture
def cluster(secrets: None) -> Iterator[None]:  # noqa: ARG001 - workers take them over
    """Two workers."""
    place = tempfile.mkdtemp(prefix="ray-")  # a path for sockets has to be short
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**27, _temp_dir=place)
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.usefixtures("cluster")
async def test_a_killed_worker_is_not_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe runs as written; only where the tables are comes from outside."""
    rows = 1_600
    (tmp_path / "portfolio").mkdir()
    parquet.write_table(partition(rows), tmp_path / "portfolio" / "part.parquet")
    [recipe] = [each for each in blocks("engines", "python") if "import ray" in each]
    program = recipe.replace("s3://lake", tmp_path.as_uri()).replace("16", "2")
    async with SandboxServer(workers=16, job_s=1.0, no_match_share=0.0) as sandbox:
        monkeypatch.setenv("PINGDATA_ASYNC_API_URL", sandbox.url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_when, sandbox, rows // 2, "MapBatches(enhance_table)", 1)
            await anyio.to_thread.run_sync(lambda: exec(program, {}))
        answered = parquet.read_table(tmp_path / "enhanced")
        assert answered.sort_by("policy")["policy"].equals(partition(rows)["policy"])
        assert pa.compute.unique(answered["enhance_status"]).to_pylist() == ["ok"]
        shared = SharedStore.open((tmp_path / "ping" / "2026-12").as_uri())
        chunks: list[Any] = await anyio.to_thread.run_sync(lambda: list(shared.chunks()))
        in_doubt = sum(chunk.cost.in_doubt for chunk in chunks)
        assert sandbox.stats.locations_accepted - rows <= in_doubt
