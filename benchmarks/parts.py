"""What the parts of each stage cost, one at a time: CPU milliseconds for 1,000 rows.

A millisecond for 1,000 rows is a second for a million. Bodies are those of the fast server.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from isal import isal_zlib

from benchmarks.planning import BODIES, encode_bodies, median_s, plan, read_chunks, read_table
from benchmarks.throughput.contenders import CHUNK_SIZE, SOURCES
from benchmarks.throughput.data import make_input
from benchmarks.throughput.server import GZIP_WBITS, FastAPI
from pingdata_async.api.wire import JobOptions
from pingdata_async.locations.chunk import Chunk, encode_body
from pingdata_async.results.offset_index import index_output
from pingdata_async.results.validation import ValidatedOutput, validate_output
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool, packed_output
from pingdata_async.runs.export.jsonl import render
from pingdata_async.runs.export.output import OutputSpec, open_atomic
from pingdata_async.runs.export.results import DuplicateAnswers, ResultReader
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import reading_journal
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.loop import SingleThreadExecutor
from tests.support.exports import export

CHUNKS = 20
TIMES = 3  # for what can only be done once with the same files
LOCATION_ATTEMPTS = 1

Parts = dict[str, float]


def measure(folder: Path) -> Parts:
    """Milliseconds of each part, by its name.

    Args:
        folder: For the input, which is kept, and for files, which are not; on a real disk.
    """
    source = make_input("csv", CHUNKS * CHUNK_SIZE, folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        here = Path(scratch) / source.name
        here.write_bytes(source.read_bytes())
        found = {
            "csv.reader alone": _each_ms(median_s(partial(read_table, here))),
            "CSV to a plan, that included": _each_ms(median_s(partial(plan, here))),
        }
        with plan(here) as made:
            found["reading a planned chunk"] = _each_ms(median_s(partial(read_chunks, made)))
            chunks = [made.read(index) for index in range(made.chunks)]
            api = FastAPI()
            outputs = [api.answers([b'"%d"' % row for row in chunk.rows]) for chunk in chunks]
            found |= _requests(chunks[0]) | _answers(chunks, outputs)
            found |= _on_disk(Path(scratch), made, chunks, outputs)
        found |= asyncio.run(_lines(Path(scratch), outputs))
    return found


def _each_ms(seconds: float, times: int = CHUNKS) -> float:
    return 1000 * seconds / times


def _requests(chunk: Chunk) -> Parts:
    body = encode_body(chunk, JobOptions().encode(SOURCES))
    return {
        "encoding its body": _each_ms(median_s(partial(encode_bodies, chunk)), BODIES),
        "compressing it, isal": _of_each(partial(isal_zlib.compress, level=1), [body] * BODIES),
        "compressing it, zlib": _of_each(partial(zlib.compress, level=1), [body] * BODIES),
    }


def _answers(chunks: list[Chunk], outputs: list[bytes]) -> Parts:
    packed = [EncodedBody(_packed(output), "gzip") for output in outputs]
    broken = [output.replace(b",", b",\n", 1) for output in outputs]
    pairs = list(zip(chunks, outputs, strict=True))

    def one_by_one(chunk: Chunk, output: bytes) -> None:
        offset_index = index_output(chunk, output, SOURCES)
        assert offset_index is not None
        offset_index.results(chunk, output)

    layouts_ms = _of_each(lambda pair: index_output(pair[0], pair[1], SOURCES), pairs)
    return {
        "inflating an answer, isal": _of_each(EncodedBody.content, packed),
        "inflating an answer, zlib": _of_each(
            partial(zlib.decompress, wbits=GZIP_WBITS), [body.raw for body in packed]
        ),
        "msgspec's one pass over it": _of_each(_one_pass(), outputs),
        "finding the layout, that included": layouts_ms,
        "results one by one (stream)": _of_each(lambda pair: one_by_one(*pair), pairs) - layouts_ms,
        "the careful check in its place (a line break)": _of_each(
            lambda pair: _checked(*pair), list(zip(chunks, broken, strict=True))
        ),
    }


def _of_each(work: Callable[[Any], object], inputs: list[Any]) -> float:
    """Milliseconds for one of the inputs."""

    def all_of_them() -> None:
        for each in inputs:
            work(each)

    return _each_ms(median_s(all_of_them), len(inputs))


def _packed(output: bytes) -> bytes:
    return isal_zlib.compress(output, 1, GZIP_WBITS)


def _one_pass() -> Callable[[bytes], object]:
    location: Any = msgspec.defstruct("Location", [(name, msgspec.Raw) for name in SOURCES])
    return msgspec.json.Decoder(dict[str, location]).decode


def _checked(chunk: Chunk, output: bytes) -> ValidatedOutput:
    body = EncodedBody(output)
    return validate_output(chunk, [body], SOURCES, LOCATION_ATTEMPTS, with_results=False)


def _on_disk(folder: Path, made: Plan, chunks: list[Chunk], outputs: list[bytes]) -> Parts:
    runs = []
    for number in range(TIMES):
        here = folder / f"run-{number}"
        here.mkdir()
        runs.append(asyncio.run(_kept_and_exported(here, made, chunks, outputs)))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


async def _kept_and_exported(
    folder: Path, made: Plan, chunks: list[Chunk], outputs: list[bytes]
) -> Parts:
    found: Parts = {}

    async def clocked(name: str, works: Iterable[Awaitable[object]]) -> None:
        """All of them at once, as those of many jobs are."""
        began = time.process_time()
        await asyncio.gather(*works)
        found[name] = _each_ms(time.process_time() - began)

    spool = Spool(folder / "spool")
    bodies = [EncodedBody(_packed(output), "gzip") for output in outputs]
    found["packing a plain answer, to be kept"] = _of_each(
        packed_output, [EncodedBody(output) for output in outputs]
    )
    async with Journal(folder / "journal", spool, create=True) as journal:
        await journal.set_planned_chunks(len(chunks))
        checked = [_checked(chunk, output) for chunk, output in zip(chunks, outputs, strict=True)]
        await clocked(
            "journal: to be submitted",
            [journal.submitting(c, charged_before=False) for c in chunks],
        )
        await clocked("journal: accepted", [journal.submitted(c, f"job-{c.index}") for c in chunks])
        for each in checked:
            await journal.completed(each.chunk, ())  # only noted: written with the next step
        await clocked(
            "journal: answered, with the output kept",
            [
                journal.spooled(
                    each.chunk.index,
                    each.counts,
                    each.retry_rows,
                    each.offset_index,
                    packed_output(body),
                )
                for each, body in zip(checked, bodies, strict=True)
            ],
        )
    async with reading_journal(folder / "journal") as account:
        answers = ResultReader(spool, account, SOURCES)
        found["reading back and rendering lines"] = _of_each(
            lambda chunk: render(answers.settled(chunk), DuplicateAnswers(None)),
            chunks,
        )
        whole = export(
            made,
            spool,
            account,
            folder / "out.jsonl",
            OutputSpec(sources=SOURCES),
            on_rows=lambda _rows: None,
            on_note=print,
        )
        await clocked("the whole export, that included", [whole])
    return found


async def _lines(folder: Path, outputs: list[bytes]) -> Parts:
    """A chunk's lines to a file in a thread, through aiofiles and without it, in turn."""
    spent_s: dict[str, list[float]] = {}
    with SingleThreadExecutor("lines") as thread:
        async with open_atomic(folder / "aio") as aio, open_atomic(folder / "bare") as bare:

            async def through_aiofiles(pieces: list[memoryview]) -> None:
                await aio.write_lines(pieces, thread)

            async def without(pieces: list[memoryview]) -> None:
                await thread.run(partial(bare.write, pieces))

            ways = {"through aiofiles": through_aiofiles, "without it": without}
            for number, output in enumerate(outputs * TIMES):
                size = -(-len(output) // CHUNK_SIZE)
                pieces = [memoryview(output)[at : at + size] for at in range(0, len(output), size)]
                turn = list(ways.items())[:: 1 if number % 2 else -1]
                for name, write in turn:
                    began = time.process_time()
                    await write(pieces)
                    spent_s.setdefault(name, []).append(time.process_time() - began)
    return {
        f"writing lines in a thread, {name}": _each_ms(statistics.median(spent_s[name]), 1)
        for name in ways
    }
