"""What commands print: on standard output, and of a run on standard error."""

from __future__ import annotations

import logging
import threading

import pytest
from msgspec import structs

from pingdata_async.cli.console import (
    Table,
    events_unlogged,
    fitted,
    mapped_lines,
    narrate,
    plain_lines,
    show,
)
from pingdata_async.cli.main import say
from pingdata_async.cli.screen import StatusConsole, live
from pingdata_async.events import (
    EventEmitter,
    InputPlanned,
    JobStalled,
    JobSubmitted,
    PauseAsked,
    RequestRetried,
    UnexpectedAnswer,
)
from pingdata_async.models import RequestKind


def test_what_belongs_together_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns stand below their heading, also where a line break came with a value."""
    show(
        *mapped_lines(('city <- "Town": Boston\n | Bath',)), Table(("source", "left"), [("PG", 3)])
    )
    assert capsys.readouterr().out == (
        'Columns sent:\n  city <- "Town": Boston | Bath\nsource\tleft\nPG\t3\n'
    )


def stalled(chunk: int) -> JobStalled:
    return JobStalled(chunk=chunk, job_id=f"job-{chunk}", idle_s=300.0)


def test_faults_of_a_kind_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    """The first is told as it happens, the others as a number at the end."""
    with narrate(StatusConsole(), verbose=False) as watch:
        for chunk in range(5):
            watch(stalled(chunk))
        watch(UnexpectedAnswer(chunk=1, job_id="a", message="2 requested"))
    assert capsys.readouterr().err.splitlines() == [
        "chunk 0: job job-0 has made no progress for 5 minutes; still polling it",
        "chunk 1, job a: 2 requested",
        "4 more jobs made no progress; --log-file has all",
    ]


def test_long_lines_are_wrapped_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further lines stand below the text, and what fits or has no space stays as it is."""
    monkeypatch.setenv("COLUMNS", "30")
    url = "http://127.0.0.1:8471/api/v1/bulk_enhance"
    assert fitted(["  chunks:   2", "  sov.csv -> o.csv, sources PG,PH", url]) == [
        "  chunks:   2",
        "  sov.csv -> o.csv, sources",
        "    PG,PH",
        url,
    ]


def test_verbose_tells_each_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is summed up then."""
    with narrate(StatusConsole(), verbose=True) as watch:
        for chunk in range(3):
            watch(stalled(chunk))
    assert capsys.readouterr().err.count("no progress for 5 minutes") == 3


def test_an_api_out_of_reach_is_told_once_until_it_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With until when it is tried; an output that came damaged is no silence."""
    silence = RequestRetried(
        kind=RequestKind.SUBMIT,
        chunk=0,
        job_id=None,
        attempt=1,
        error="no route to host",
        delay_s=1.0,
        gives_up_in_s=60.0,
    )
    with narrate(StatusConsole(), verbose=False) as watch:
        watch(structs.replace(silence, kind=RequestKind.FETCH, error="the output is cut off"))
        watch(silence)
        watch(silence)
        watch(JobSubmitted(chunk=0, job_id="a", locations=1, charged_before=False))
        watch(silence)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("The API does not answer: no route to host; trying until ")


def test_a_log_gets_lines_also_while_nothing_happens() -> None:
    """A scheduler's log shows that the run is alive, and what it waits for."""
    printed: list[str] = []
    has_printed = threading.Event()

    class Log(StatusConsole):
        def print(self, *objects: object, **_options: object) -> None:
            printed.extend(map(str, objects))
            has_printed.set()

    with plain_lines(Log(), interval_s=0.01) as watch:
        watch(InputPlanned(rows=7, locations=7, chunks=1, jobs=1))
        has_printed.clear()
        assert has_printed.wait(60.0)
    assert printed[-1].startswith("Sending: 0%; 0 of 7 rows in ")


def test_messages_stand_above_the_display(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not come from the display begins on a line that was cleared for it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with live(StatusConsole()) as watch:
        watch(InputPlanned(rows=7, locations=7, chunks=1, jobs=1))
        say("A warning.")
        say("Stopping.")
    shown = capsys.readouterr().err
    clear, _, after = shown.partition("Stopping.\n")
    assert clear.endswith("\x1b[2K")
    assert "0 of 7 rows" in after


def test_the_command_leaves_events_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """They are narrated, and would be printed twice; other warnings are logged."""
    emit = EventEmitter(run_id="x")
    with events_unlogged():
        emit(PauseAsked(kind=RequestKind.POLL, pause_s=60.0))
        logging.getLogger("pingdata_async").warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    emit(PauseAsked(kind=RequestKind.POLL, pause_s=60.0))
    assert len(caplog.records) == 2
