"""One contender in this process, and what it used, as JSON.

    python -m benchmarks.throughput.contend NAME [--rows N] [--url URL] [--work-dir DIR]

starts a server of its own unless it is given one's url. Set-up, imports and a warm-up come
first and are not counted, checks last and neither; the memory is that of the whole process
until the checks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.throughput.contender import Contender, Part
from benchmarks.throughput.data import csv_of
from benchmarks.throughput.measuring import LoopLag, loop_watched, max_rss_mb, measured
from benchmarks.throughput.roster import ROSTER
from benchmarks.throughput.serving import served_by, serving, since
from benchmarks.throughput.stage_clocks import StageClocks
from benchmarks.throughput.warm_memory import warm_memory

WORK_DIR = Path(__file__).parents[2] / "build" / "bench"
WARM_UP_ROWS = 8_000


@dataclass(frozen=True)
class Setting:
    """What a contender gets to do, and where.

    Attributes:
        rows: To be enhanced.
        warm_up_rows: Before that.
        work_dir: For inputs, which are kept.
        scratch: For what contenders write, which is not.
        with_warm_memory: Whether free memory is had at hand before; see `warm_memory.py`.
        with_stages: Whether each stage of it is clocked; see `stage_clocks.py`.
    """

    rows: int
    warm_up_rows: int
    work_dir: Path
    scratch: Path
    with_warm_memory: bool = True
    with_stages: bool = False


@contextlib.contextmanager
def _part(rows: int, setting: Setting, *, repeats: bool) -> Iterator[Part]:
    """An input, and a folder that is gone afterwards."""
    for each in (setting.work_dir, setting.scratch):
        each.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=setting.scratch) as folder:
        yield Part(csv_of(rows, setting.work_dir, repeats=repeats), rows, Path(folder))


def compete(name: str, url: str, setting: Setting) -> dict[str, Any]:
    """Let a contender work, and report; raises ValueError where it lost anything."""
    entry = ROSTER[name]
    contender = entry.make(url)
    with _part(setting.rows, setting, repeats=entry.repeats) as part:
        figures = asyncio.run(_compete(contender, part, setting))
    return {"contender": name, "rows": setting.rows} | figures


async def _compete(contender: Contender, part: Part, setting: Setting) -> dict[str, Any]:
    async with contender:
        if setting.warm_up_rows:
            with _part(setting.warm_up_rows, setting, repeats=False) as warm_up:
                contender.prepare(warm_up)
                await contender.run(warm_up)
        contender.prepare(part)
        before = served_by(contender.url)
        with warm_memory(part.rows) if setting.with_warm_memory else contextlib.nullcontext():
            gc.collect()
            async with (
                loop_watched() if contender.uses_loop else contextlib.nullcontext(LoopLag()) as lag
            ):
                clocks = StageClocks()
                with (
                    clocks.running() if setting.with_stages else contextlib.nullcontext(),
                    measured() as usage,
                ):
                    await contender.run(part)
        rss_mb = max_rss_mb()
    served = since(before, served_by(contender.url))
    contender.check(part, served)
    return {
        "cpu_s_per_million": usage.cpu_s / part.rows * 1e6,
        "wall_s_per_million": usage.wall_s / part.rows * 1e6,
        "max_rss_mb": rss_mb,
        "usage": asdict(usage),
        "loop_lag_ms": lag.milliseconds(),
        "written_bytes": _written(part.folder),
        "served": asdict(served),
        **({"stages_s": clocks.all_s(usage.cpu_s)} if setting.with_stages else {}),
    }


def _written(folder: Path) -> dict[str, int]:
    """Bytes of each file and folder in a folder; a job's file is one of many alike."""
    sizes: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).parts[0]
            name = "*.json" if name.endswith(".json") else name
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=ROSTER)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--warm-up-rows", type=int, default=WARM_UP_ROWS)
    parser.add_argument("--url", help="of a server that runs already")
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR)
    parser.add_argument("--scratch", type=Path, help="for what is written; default: the work dir")
    parser.add_argument("--cold", action="store_true", help="leave the free memory as it is")
    parser.add_argument("--stages", action="store_true", help="say what each stage of ours takes")
    given = parser.parse_args()
    work_dir = given.work_dir.resolve()
    scratch = given.scratch.resolve() if given.scratch else work_dir
    setting = Setting(
        given.rows, given.warm_up_rows, work_dir, scratch, not given.cold, given.stages
    )
    with (
        contextlib.nullcontext(given.url)
        if given.url
        else serving(ROSTER[given.name].server) as url
    ):
        print(json.dumps(compete(given.name, url, setting), indent=1))


if __name__ == "__main__":
    main()
