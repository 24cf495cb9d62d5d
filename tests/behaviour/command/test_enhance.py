"""The command, in a process of its own, as a user runs it."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

import pingdata_async
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, COMMAND, in_shell, lines, on_a_terminal, run, sandbox
from tests.support.probes import until
from tests.support.runs import write_rows
from tests.support.sweeps import sampled

__all__ = ["sandbox"]  # a fixture


async def test_a_file_in_a_file_out(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Exit 0, every row in order, nothing on standard output, the summary also as JSON."""
    output = tmp_path / "out.jsonl"
    done = await run(
        "enhance", ADDRESSES, "-o", output, "--sources", "PG,PH", "--api-url", sandbox.url,
        "--chunk-size", 40, "--max-jobs", 2, "--summary", tmp_path / "s.json",
        "--log-file", tmp_path / "log.jsonl",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "")
    assert [line["row"] for line in lines(output.read_bytes())] == list(range(100))
    assert sandbox.stats.peak_jobs_in_flight <= 2
    assert "100 rows: " in done.err
    summary = msgspec.json.decode((tmp_path / "s.json").read_bytes())
    assert (summary["rows"], summary["jobs"], summary["locations_charged"]) == (100, 3, 100)
    kinds = {event["type"] for event in lines((tmp_path / "log.jsonl").read_bytes())}
    assert {"InputPlanned", "JobSubmitted", "JobPolled", "ChunkFinished", "OutputWritten"} <= kinds
    assert "right" not in done.err + (tmp_path / "log.jsonl").read_text()


async def test_the_sandbox_inside_needs_no_token(tmp_path: Path) -> None:
    """`--environment sandbox` is the way to try everything, and says that it is made up."""
    output = tmp_path / "out.jsonl"
    done = await run("enhance", ADDRESSES, "-o", output, "-s", "PG", "-e", "sandbox", token=None)
    assert done.code == 0
    assert "made up by the sandbox" in done.err
    assert b'"worker_name": "sandbox"' in output.read_bytes()


async def test_pipes_on_both_sides(sandbox: SandboxServer) -> None:
    """Standard input in, nothing but data on standard output, where rows are whole."""
    done = await run(
        "enhance", "-", "-o", "-", "-s", "PG", "-u", sandbox.url, "-q",
        stdin=b'{"id":"a","address":"1 Main St, Boston, MA"}\n"2 Oak Ave, Salem, MA"\n',
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert [line["id"] for line in lines(done.out)] == ["a", None]


async def test_options_come_from_variables_too(
    sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option has its PINGDATA_ASYNC_ variable."""
    monkeypatch.setenv("PINGDATA_ASYNC_SOURCES", "PG")
    monkeypatch.setenv("PINGDATA_ASYNC_API_URL", sandbox.url)
    monkeypatch.setenv("PINGDATA_ASYNC_CHUNK_SIZE", "10")
    monkeypatch.setenv("PINGDATA_ASYNC_OUTPUT", str(tmp_path / "out.jsonl"))
    done = await run("enhance", ADDRESSES)
    assert done.code == 0
    assert sandbox.stats.jobs_accepted == 10


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.csv", None, "No such file"),
        ("empty.csv", b"", "is empty"),
        ("columns.csv", b"foo,bar\n1,2\n", 'Found: "foo", "bar". Needed: one of address,'),
        ("binary.csv", bytes(range(256)), "binary"),
        ("broken.jsonl", b'"ok"\n{"address": \n', "line 2"),
    ],
)
async def test_bad_input_is_one_line_and_exit_2(
    sandbox: SandboxServer, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    """Nothing is sent, nothing is left behind, and the line says what and where."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = await run(
        "enhance", tmp_path / name, "-o", tmp_path / "out.jsonl", "-s", "PG", "-u", sandbox.url
    )
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1
    assert says in done.err
    assert not sandbox.stats.requests
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "options",
    [
        ["--chunk-size", "0"],
        ["--max-jobs", "-1"],
        ["--api-url", "http://example.com"],
        ["--api-url", "ftp://127.0.0.1"],
        ["--environment", "nope"],
        ["--output", "/nowhere/out.jsonl"],
        ["--summary", "/nowhere/s.json"],
        ["--no-such-option"],
    ],
)
async def test_bad_usage_is_exit_2(
    sandbox: SandboxServer, tmp_path: Path, options: list[str]
) -> None:
    """Options that cannot work are refused before anything is sent, without a traceback."""
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url, *options
    )
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1
    assert not sandbox.stats.requests


async def test_an_existing_output_is_safe(sandbox: SandboxServer, tmp_path: Path) -> None:
    """It is replaced only with --overwrite."""
    output = tmp_path / "out.jsonl"
    output.write_text("precious")
    arguments = ("enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url)
    refused = await run(*arguments)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert output.read_text() == "precious"
    assert (await run(*arguments, "--overwrite")).code == 0
    assert len(output.read_bytes().splitlines()) == 100


async def test_a_refused_token_is_exit_4(sandbox: SandboxServer, tmp_path: Path) -> None:
    """At once, before anything is read or written, and the token nowhere to be seen."""
    output = tmp_path / "out.jsonl"
    done = await run(
        "enhance", ADDRESSES, "-o", output, "-s", "PG", "-u", sandbox.url, token="s3cr3t-wrong"
    )
    assert done.code == 4
    assert "401" in done.err
    assert "s3cr3t" not in done.err
    assert "Waiting for" not in done.err  # nothing has been paid for
    assert not list(tmp_path.glob("out*"))


async def test_no_token_is_exit_4(sandbox: SandboxServer, tmp_path: Path) -> None:
    """The message names every place that was looked in."""
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url, token=None
    )
    assert done.code == 4
    for place in ("PING_DATA_AUTH_TOKEN", "PINGDATA_AUTH_TOKEN", "~/.pingintel.ini", "--auth-"):
        assert place in done.err


async def test_a_token_from_a_file(sandbox: SandboxServer, tmp_path: Path) -> None:
    """--auth-token-file is read, its line end is not part of the token."""
    (tmp_path / "token").write_text("right\n")
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url,
        "--auth-token-file", tmp_path / "token", token="wrong",
    )  # fmt: skip
    assert done.code == 0


async def test_rows_without_an_answer_are_exit_3(sandbox: SandboxServer, tmp_path: Path) -> None:
    """The run comes to its end, and the exit code says that not all is well."""
    (tmp_path / "in.csv").write_text("address\n1 Main St\n \n")
    done = await run(
        "enhance", tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url
    )
    assert done.code == 3
    assert "1 invalid_input" in done.err


async def test_an_api_that_is_not_there_is_exit_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirected API stops the run in one line that names where it went."""
    monkeypatch.setenv("NO_PROXY", "*")

    async def redirect(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(
                b"HTTP/1.1 308 Moved\r\nLocation: https://new.example/x\r\n"
                b"Content-Length: 0\r\nConnection: close\r\n\r\n"
            )

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, redirect)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        done = await run(
            "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG",
            "-u", f"http://127.0.0.1:{port}",
        )  # fmt: skip
        tasks.cancel_scope.cancel()
    assert done.code == 5
    assert "https://new.example/x" in done.err
    assert "Traceback" not in done.err


async def test_a_full_disk_is_one_line_and_exit_5(sandbox: SandboxServer, tmp_path: Path) -> None:
    """An answer that cannot be kept stops the run with a sentence that names the chunk."""
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG,PH", "-u", sandbox.url,
        "--chunk-size", 300, limit="ulimit -f 40",
    )  # fmt: skip
    assert done.code == 5
    assert "chunk 0 cannot be kept" in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.glob("o.*")] == ["o.jsonl.run"]
    again = await run("resume", tmp_path / "o.jsonl.run", "-u", sandbox.url)
    assert again.code == 0
    assert len(lines((tmp_path / "o.jsonl").read_bytes())) == 100
    assert sandbox.stats.jobs_accepted == 1  # its answers were fetched once more, not paid again


async def test_answers_survive_an_output_that_cannot_be_written(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """What was paid for is kept in the run directory, and the last line says how to go on."""
    write_rows(tmp_path / "in.csv", 300)
    done = await run(
        "enhance", tmp_path / "in.csv", "-o", tmp_path / "o.jsonl", "-s", "PG,PH",
        "-u", sandbox.url, "--chunk-size", 50, limit="ulimit -f 300",
    )  # fmt: skip
    assert done.code == 5
    assert "300 of 300 rows finished" in done.err
    assert f"pingdata-async resume {tmp_path / 'o.jsonl.run'}" in done.err
    kept = [path.name for path in (tmp_path / "o.jsonl.run" / "spool").iterdir()]
    assert kept == ["000000.json.gz"]
    assert [path.name for path in tmp_path.glob("*o.jsonl*")] == ["o.jsonl.run"]


@pytest.mark.parametrize(
    ("number", "code"),
    sampled([(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)], 1),
)
async def test_a_signal_stops_cleanly(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """All is kept, the resume command is shown and works; the exit code names the signal.

    In development mode, in which asyncio checks more of what it is asked.
    """
    output = tmp_path / "out.jsonl"
    async with SandboxServer(workers=1, locations_per_s=200.0, queue_delay_s=0.0) as sandbox:
        process = await anyio.open_process(
            [*COMMAND, "enhance", str(ADDRESSES), "-o", str(output), "-s", "PG", "-v",
             "-u", sandbox.url, "--chunk-size", "20", "--max-jobs", "2"],
            env={**os.environ, "PING_DATA_AUTH_TOKEN": "any", "PYTHONDEVMODE": "1"},
        )  # fmt: skip
        async with process:
            assert process.stderr is not None
            said = ""
            async for block in process.stderr:
                said += block.decode()
                if " ok, " in said and "Stopping" not in said:
                    process.send_signal(number)
                    break
            async for block in process.stderr:
                said += block.decode()
        assert process.returncode == code
        assert "Traceback" not in said
        assert f"  pingdata-async resume {output}.run --api-url {sandbox.url} --verbose\n" in said
        assert [path.name for path in tmp_path.glob("out*")] == ["out.jsonl.run"]
        done = await run("resume", f"{output}.run", "-u", sandbox.url)
        assert done.code == 0
        assert sandbox.stats.locations_accepted == 100
    assert [line["row"] for line in lines(output.read_bytes())] == list(range(100))


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """Even while it waits for something that does not end."""
    async with SandboxServer(workers=1, locations_per_s=1.0, queue_delay_s=0.0) as sandbox:
        process = await anyio.open_process(
            [*COMMAND, "enhance", str(ADDRESSES), "-o", str(tmp_path / "out.jsonl"), "-s", "PG",
             "-u", sandbox.url],
            env={**os.environ, "PING_DATA_AUTH_TOKEN": "any"},
        )  # fmt: skip
        async with process:
            assert process.stderr is not None
            said = ""
            async for block in process.stderr:
                said += block.decode()
                if "to be sent" in said:
                    # Both before it can do anything about the first.
                    process.send_signal(signal.SIGSTOP)
                    process.send_signal(signal.SIGINT)
                    process.send_signal(signal.SIGTERM)
                    process.send_signal(signal.SIGCONT)
                    break
            await process.wait()
    assert process.returncode in {130, 143}


@pytest.mark.parametrize("command", ["enhance", "plan"])
async def test_an_idle_pipe_can_be_interrupted(tmp_path: Path, command: str) -> None:
    """Ctrl-C while the input says nothing ends it, and leaves nothing."""
    process = await anyio.open_process(
        [*COMMAND, command, "-", "-o", str(tmp_path / "out.jsonl"), "-s", "PG", "-e", "sandbox"]
    )
    async with process:
        assert process.stdin is not None
        await process.stdin.send(b"address\n1 Main St\n")
        await until((tmp_path / "out.jsonl.run" / "journal.sqlite3").exists)
        process.send_signal(signal.SIGINT)
        await process.wait()
    assert process.returncode == 130
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("end", sampled(["2>/dev/full", "2> >(head -c 1 >/dev/null)", "2>&-"], 1))
async def test_nobody_has_to_read_what_it_says(
    sandbox: SandboxServer, tmp_path: Path, end: str
) -> None:
    """Standard error that goes away is no reason to stop a run that costs money."""
    output = tmp_path / "out.jsonl"
    words = f'"{ADDRESSES}" -o "{output}" -s PG -v -u {sandbox.url} --chunk-size 10'
    assert (await in_shell(f"pingdata-async enhance {words} {end}")).code == 0
    assert len(output.read_bytes().splitlines()) == 100


async def test_a_progress_bar_on_a_terminal(sandbox: SandboxServer, tmp_path: Path) -> None:
    """A person at a terminal sees how far it is."""
    said = await on_a_terminal(
        "enhance", ADDRESSES, "-o", tmp_path / "out.jsonl", "-s", "PG",
        "-u", sandbox.url, "--chunk-size", "10", stream="stderr", columns=100,
    )  # fmt: skip
    assert "Sending" in said
    assert "of 100" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--summary", "{input}"], "--summary"),
        (["--log-file", "{input}"], "--log-file"),
        (["--summary", "{output}"], "--summary"),
        (["--summary", "{output}.x", "--log-file", "{output}.x"], "--log-file"),
        (["--run-dir", "{output}"], "cannot be both"),
    ],
)
async def test_no_file_has_two_uses(
    sandbox: SandboxServer, tmp_path: Path, options: list[str], says: str
) -> None:
    """A slip of the hand must not cost the input, or the answers."""
    source = tmp_path / "in.csv"
    source.write_bytes(ADDRESSES.read_bytes())
    output = tmp_path / "out.jsonl"
    given = [option.format(input=source, output=output) for option in options]
    done = await run(
        "enhance", source, "-o", output, "-s", "PG", "-u", sandbox.url, "--overwrite", *given
    )
    assert done.code == 2
    assert says in done.err
    assert source.read_bytes() == ADDRESSES.read_bytes()
    assert not sandbox.stats.requests


async def test_a_closed_pipe_on_standard_output_ends_quietly(sandbox: SandboxServer) -> None:
    """`| head -n 1` is no error."""
    words = f'"{ADDRESSES}" -o - -s PG,PH -u {sandbox.url} -q'
    done = await in_shell(f"pingdata-async enhance {words} | head -c 10; exit ${{PIPESTATUS[0]}}")
    assert (done.code, done.err) == (0, "")


async def test_help_and_version() -> None:
    """Both answer at once; help documents the exit codes."""
    assert (await run("--version")).out.strip().endswith(pingdata_async.__version__)
    assert "enhance" in (await run("--help")).out
    assert "Exit codes" in (await run("enhance", "--help-all")).out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--callback-url", "ftp://example.com", "callback_url must be an http or https url"),
        ("--callback-url", "hook", "callback_url must be an http or https url"),
        ("--max-requests-per-second", "0", "x>0"),
        ("--max-wait", "-1", "is not a duration above 0"),
        ("--job-timeout", "nan", "is not a duration above 0"),
    ],
)
async def test_a_pace_that_cannot_work_is_exit_2(
    sandbox: SandboxServer, tmp_path: Path, option: str, value: str, says: str
) -> None:
    """Refused before anything is sent, in one line that names what is wrong."""
    done = await run(
        "enhance", ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url,
        option, value,
    )  # fmt: skip
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err
    assert sandbox.stats.jobs_accepted == 0


async def test_a_quota_of_the_day_is_exit_5_and_says_until_when(tmp_path: Path) -> None:
    """Nobody waits until tomorrow, and the command to go on is given."""
    async with SandboxServer(
        locations_per_s=math.inf, queue_delay_s=0.0, limits={"PG": {"daily": 60}}
    ) as sandbox:
        out = tmp_path / "o.jsonl"
        done = await run(
            "enhance", ADDRESSES, "-o", out, "-s", "PG", "-u", sandbox.url, "--chunk-size", 20,
            "--no-preflight",
        )  # fmt: skip
    assert done.code == 5
    assert "it can go on at 2" in done.err
    assert " UTC" in done.err
    assert "pingdata-async resume" in done.err
    assert sandbox.stats.locations_accepted == 60


async def test_what_repeats_is_said_and_can_be_sent_all_the_same(tmp_path: Path) -> None:
    """Before anything is sent, at the end, and by `plan`; `--no-dedupe` pays for every row."""
    source = tmp_path / "in.csv"
    source.write_text("address\n" + "".join(f"{row % 20} Main St\n" for row in range(50)))
    words = [source, "-s", "PG", "-e", "sandbox"]
    planned = await run("plan", *words, "-o", tmp_path / "planned.jsonl")
    assert "50 rows, 20 distinct locations to be sent; 30 repeated rows" in planned.out
    once = await run("enhance", *words, "-o", tmp_path / "once.jsonl", "--pay-again")
    assert "50 rows, 20 to be sent in 1 job; 30 repeated rows at no cost." in once.err
    assert "20 locations charged" in once.err
    assert "30 locations saved: these rows repeat others" in once.err
    each = await run("enhance", *words, "-o", tmp_path / "each.jsonl", "--pay-again", "--no-dedupe")
    assert "50 locations charged" in each.err
    assert "saved" not in each.err
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "each.jsonl").read_bytes()
