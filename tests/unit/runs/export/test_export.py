"""The files that a run writes for its user."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.locations.fields import FIELDS
from pingdata_async.results.outcomes import Tally
from pingdata_async.runs.directory.directory import failures_path
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.output import OutputSpec, check_output
from pingdata_async.runs.planning.plan_writer import write_plan
from pingdata_async.tables.formats import FAILURE_NOTES, OutputFormat
from tests.support.answers import MemoryJournal, answered
from tests.support.exports import export
from tests.support.runs import unexpected

INPUT = """\
{"id":"a","address":"1 Main St","foo":1}
{"id":2,"city":"","error":"of an earlier run"}
{"postal_code":"01234","sources":["PH"]}
{"id":"d","address":"4 Elm St"}
"""


class Setting:
    """A plan of INPUT in chunks of two, and who answers for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan: Plan
        self.spool = Spool(folder / "spool")
        self.journal = MemoryJournal(self.spool)
        self.form = OutputSpec(sources=("PG",))
        self.output = folder / "out.jsonl"
        self.failures = folder / "out.jsonl.failures.jsonl"
        self.told: list[int] = []
        self.tell: Callable[[int], None] = self.told.append

    async def make_plan(self, source: Path) -> None:
        builder = ChunkBuilder(chunk_size=2, sources=("PG",))
        self.plan = await write_plan(self.folder / f"{source.name}.plan", source, builder)

    async def put(self, index: int, state: str, body: object = None) -> None:
        with self.plan:
            chunk: Chunk = await anyio.to_thread.run_sync(self.plan.read, index)
        await anyio.to_thread.run_sync(self.journal.put, chunk, state, body)

    async def export(self, *, finished_only: bool = False) -> Tally:
        with self.plan:
            return await export(
                self.plan,
                self.spool,
                self.journal,
                self.output,
                self.form,
                on_rows=self.tell,
                on_note=unexpected,
                finished_only=finished_only,
                failures=self.failures,
            )

    def lines(self, path: Path | None = None) -> list[dict[str, Any]]:
        return [
            msgspec.json.decode(line) for line in (path or self.output).read_bytes().splitlines()
        ]


@pytest.fixture
async def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    (tmp_path / "in.jsonl").write_text(INPUT)
    await setting.make_plan(tmp_path / "in.jsonl")
    return setting


async def test_every_row_is_written_in_order_and_counted(setting: Setting) -> None:
    """Answers, rows without one and rows that were never sent, each under its own id."""
    await setting.put(0, "spooled", {"0": answered(), "2": {}})
    await setting.put(1, "failed")
    counts = await setting.export()
    assert [(line["id"], line["row"], line.get("reason")) for line in setting.lines()] == [
        ("a", 0, None),
        ("2", 1, "invalid_input"),
        (None, 2, "missing"),
        ("d", 3, "rejected"),
    ]
    assert (counts.rows, counts.ok, counts.failed, counts.no_answer) == (4, 1, 3, 3)
    assert sum(setting.told) == 4


async def test_the_failures_are_an_input_again(setting: Setting) -> None:
    """Each row without an answer as it was given, with its id where it had one, and why."""
    await setting.put(0, "spooled", {"0": answered()})
    await setting.put(1, "failed")
    await setting.export()
    refused = "the API refused it"
    left_out = "the API's answer left this location out"
    lines = setting.lines(setting.failures)
    nothing = lines[0].pop("error")
    assert nothing.startswith("nothing to look up")
    assert lines == [
        {"id": 2, "city": "", "row": 1, "reason": "invalid_input"},
        {
            "postal_code": "01234",
            "sources": ["PH"],
            "row": 2,
            "reason": "missing",
            "error": left_out,
        },
        {"id": "d", "address": "4 Elm St", "row": 3, "reason": "rejected", "error": refused},
    ]
    builder = ChunkBuilder(sources=("PG",))
    plan = await write_plan(setting.folder / "again", setting.failures, builder)
    with plan:
        again = await anyio.to_thread.run_sync(plan.read, 0)
    assert plan.summary.unused_columns == ()
    assert again.ids == ["", "d"]
    assert again.locations == [
        b'{"id":"1","postal_code":"01234","sources":["PH"]}',
        b'{"id":"2","address":"4 Elm St"}',
    ]
    assert [invalid.id for invalid in again.invalid] == ["2"]


def test_what_is_noted_of_a_failure_is_no_field_of_a_location() -> None:
    """Or it would be sent to the API."""
    assert not FAILURE_NOTES & FIELDS


async def test_an_answered_row_is_no_failure(setting: Setting) -> None:
    """To be told that there is no match; without failures there is no file, nor an old one."""
    setting.failures.write_text("of an earlier export")
    no_match = {"is_success": False, "error_message": "nothing there"}
    source = setting.folder / "in.csv"
    source.write_text("address\n1 Main St\n2 Oak Ave\n")
    await setting.make_plan(source)
    await setting.put(0, "spooled", {"0": {"PG": no_match}, "1": answered()})
    counts = await setting.export()
    assert (counts.ok, counts.failed, counts.no_answer) == (1, 1, 0)
    assert not setting.failures.exists()
    assert list(setting.folder.glob(".*")) == []


async def test_a_row_without_an_outcome_is_an_error(setting: Setting) -> None:
    """An export never says less than everything unless it was told to; nothing is left of it."""
    setting.output.write_text("precious")
    setting.failures.write_text("precious")
    await setting.put(0, "failed")
    await setting.put(1, "submitted")
    with pytest.raises(RunError, match=r"row 3 \(chunk 1\) has no outcome"):
        await setting.export()
    assert setting.output.read_text() == setting.failures.read_text() == "precious"
    assert list(setting.folder.glob(".*")) == []


async def test_finished_rows_alone_can_be_written(setting: Setting) -> None:
    """Also single rows of a chunk whose others wait to be asked about again."""
    await setting.put(0, "spooled", {"0": answered()})
    await anyio.to_thread.run_sync(setting.journal.wait, {2: 0})
    counts = await setting.export(finished_only=True)
    assert [line["row"] for line in setting.lines()] == [0, 1]
    assert counts.rows == 2


async def test_a_table_of_finished_rows_alone(tmp_path: Path) -> None:
    """Each is beside its own cells, also where others of a later chunk are left out."""
    setting = Setting(tmp_path)
    setting.form = OutputSpec(kind=OutputFormat.CSV, sources=("PG",))
    setting.output = tmp_path / "out.csv"
    (tmp_path / "in.csv").write_text(
        "address,own\n" + "".join(f"{n} Elm St,own {n}\n" for n in range(4))
    )
    await setting.make_plan(tmp_path / "in.csv")
    await setting.put(0, "spooled", {"0": answered(n=10), "1": answered(n=11)})
    await setting.put(1, "spooled", {"2": answered(n=12), "3": answered(n=13)})
    await anyio.to_thread.run_sync(setting.journal.wait, {2: 1})
    await setting.export(finished_only=True)
    rows = list(csv.DictReader(setting.output.read_text().splitlines()))
    assert [(row["own"], row["pg_n"]) for row in rows] == [
        ("own 0", "10"),
        ("own 1", "11"),
        ("own 3", "13"),
    ]


async def test_an_export_can_be_done_again(setting: Setting) -> None:
    """The same bytes, in place of what was there; rights are kept."""
    await setting.put(0, "failed")
    await setting.put(1, "spooled", {"3": answered()})
    await setting.export()
    before = setting.output.read_bytes(), setting.failures.read_bytes()
    setting.failures.chmod(0o640)
    await setting.export()
    assert (setting.output.read_bytes(), setting.failures.read_bytes()) == before
    assert setting.failures.stat().st_mode & 0o777 == 0o640


HOLD_A_PART = """
import sys
from pathlib import Path
import anyio
from pingdata_async.runs.export.output import open_atomic
async def main():
    async with open_atomic(sys.argv[1]):
        print("held", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
anyio.run(main)
"""


async def words_to_hide() -> list[str]:
    """What hides a process as in a container; none where that is not to be had."""
    words = ["unshare", "--pid", "--fork"]
    if shutil.which("unshare") is None:
        return []
    done = await anyio.run_process([*words, "true"], check=False)
    return words if done.returncode == 0 else []


async def test_what_killed_exports_left_is_removed(setting: Setting) -> None:
    """Parts that nobody holds, with what was beside them, and no others.

    Not even where the process that holds one cannot be seen, as in another container.
    """
    stale = setting.folder / ".out.jsonl.0123456789abcdef.part"
    stale_failures = setting.folder / ".out.jsonl.failures.jsonl.0123456789abcdef.part"
    victim = setting.folder / "victim"
    link = setting.folder / ".out.jsonl.fedcba9876543210.part"
    link.symlink_to(victim)
    others = [
        setting.folder / ".another.jsonl.0123456789abcdef.part",
        setting.folder / ".out.jsonl.part",
        link,
    ]
    await setting.put(0, "failed")
    await setting.put(1, "failed")
    command = [*await words_to_hide(), sys.executable, "-c", HOLD_A_PART, str(setting.output)]
    async with await anyio.open_process(command) as living:
        assert living.stdout is not None
        assert living.stdin is not None
        said = BufferedByteReceiveStream(living.stdout)
        assert await said.receive_until(b"\n", 100) == b"held"
        [held] = set(setting.folder.glob(".out.jsonl.*.part")) - {link}
        for path in (stale, stale_failures, victim, *others):
            path.touch()
        rows = stale.with_name(f"{stale.name}-a1_b2c3d")  # of a workbook
        rows.mkdir()
        (rows / "rows").touch()
        await setting.export()
        assert sorted(setting.folder.glob(".*")) == sorted([*others, held])
        await living.stdin.aclose()
    assert living.returncode == 0
    assert sorted(setting.folder.glob(".*")) == sorted(others)


async def test_failures_that_cannot_be_written_are_named(setting: Setting) -> None:
    """And the output keeps what it had."""
    setting.failures = setting.folder / "gone" / "out.jsonl.failures.jsonl"
    setting.output.write_text("precious")
    await setting.put(0, "failed")
    with pytest.raises(RunError, match=r"gone/out\.jsonl\.failures\.jsonl cannot be written"):
        await setting.export(finished_only=True)
    assert setting.output.read_text() == "precious"


@pytest.mark.parametrize(
    ("output", "failures"),
    [
        ("out.jsonl", "out.jsonl.failures.jsonl"),
        ("a.b/out.JSONL", "a.b/out.JSONL.failures.jsonl"),
        ("out", "out.failures.jsonl"),
        ("out.txt", "out.txt.failures.jsonl"),
        ("out.jsonl.partial", "out.jsonl.partial.failures.jsonl"),
        ("-", None),
    ],
)
def test_failures_lie_beside_the_output(output: str, failures: str | None) -> None:
    """Under a name made of its own."""
    assert failures_path(output) == (None if failures is None else Path(failures))


def test_failures_never_replace_the_input(tmp_path: Path) -> None:
    """Enhancing the failures of an output into that very output is refused, links or not."""
    source = tmp_path / "out.jsonl.failures.jsonl"
    source.write_text('"1 Main St"\n')
    (tmp_path / "link.jsonl.failures.jsonl").symlink_to(source)
    for name in ("out.jsonl", "link.jsonl"):
        output = tmp_path / name
        with pytest.raises(ConfigurationError, match="is the input itself"):
            check_output(output, source, overwrite=True, failures=failures_path(output))
    other = tmp_path / "other.jsonl"
    check_output(other, source, overwrite=False, failures=failures_path(other))
    with pytest.raises(ConfigurationError, match="failures both"):
        check_output(other, source, overwrite=True, failures=other)
    with pytest.raises(ConfigurationError, match=r"out\.jsonl\.failures\.jsonl exists already"):
        check_output(other, None, overwrite=False, failures=source)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "link.jsonl.failures.jsonl",
        "out.jsonl.failures.jsonl",
    ]


async def test_a_cancelled_export_changes_nothing(setting: Setting) -> None:
    """What was there stays, and no part is left."""
    setting.output.write_text("precious")
    setting.failures.write_text("precious")
    await setting.put(0, "failed")
    await setting.put(1, "failed")
    with anyio.CancelScope() as scope:
        setting.tell = lambda _: scope.cancel()
        await setting.export()
    assert scope.cancelled_caught
    assert setting.output.read_text() == setting.failures.read_text() == "precious"
    assert list(setting.folder.glob(".*")) == []
