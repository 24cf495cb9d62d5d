"""`pingdata-async sandbox`, in a process of its own."""

from __future__ import annotations

import dataclasses
import re
import signal
import sys
from typing import Any

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.cli.sandbox import sandbox
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.sandbox import SandboxServer
from pingdata_async.sandbox.settings import SandboxSettings
from tests.support.commands import run

COMMAND = [sys.executable, "-W", "error", "-m", "pingdata_async", "sandbox"]


async def test_it_serves_until_it_is_told_to_stop() -> None:
    """It says where it is, answers there, and ends with the signal's exit code."""
    process = await anyio.open_process([*COMMAND, "--port", "0", "--fault", "rate-limit=0"])
    async with process:
        assert process.stdout is not None
        said = (await process.stdout.receive()).decode()
        found = re.search(r"http://\S+", said)
        assert found is not None
        async with ping.PingDataClient(api_url=found[0], auth_token="any") as client:
            answer = await client.enhance(address="1 Main St, Boston, MA", sources=["PG"])
        assert answer["PG"].worker_name == "sandbox"
        process.send_signal(signal.SIGINT)
        await process.wait()
    assert process.returncode == 130


@pytest.mark.parametrize(
    "options",
    [
        ["--fault", "nope=1"],
        ["--fault", "drop=2"],
        ["--workers", "0"],
        ["--workers-at", "soon=4"],
        ["--workers-at", "4=0"],
        ["--requests-per-second", "2.5"],
        ["--limit", "PH"],
        ["--limit", "PH=5/yearly"],
    ],
)
async def test_options_that_cannot_work_are_exit_2(options: list[str]) -> None:
    """One clear line, no traceback."""
    done = await run("sandbox", *options)
    assert done.code == 2
    assert "Traceback" not in done.err


def settings_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> SandboxSettings:
    """What the command makes its server with."""
    made: list[SandboxSettings] = []

    def make(**settings: Any) -> None:
        made.append(SandboxServer(**settings))
        raise ValueError("seen enough")

    monkeypatch.setattr("pingdata_async.sandbox.SandboxServer", make)
    with pytest.raises(ConfigurationError, match="seen enough"):
        sandbox.main([*words], standalone_mode=False)
    return made[0]


def test_without_options_it_is_the_sandbox_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults of the command are those of the settings."""
    served = settings_of(monkeypatch)
    for field in dataclasses.fields(SandboxSettings):
        if field.name == "worker_schedule":
            assert not served.worker_schedule
        else:
            assert getattr(served, field.name) == getattr(SandboxServer(), field.name), field.name


def test_each_option_sets_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limit and every unevenness can be had from the command line."""
    words = (
        "--workers-at 60=4 --workers-at 30=1 --job-seconds 6 --job-spread 0.3 --progress uneven"
        " --no-dates --requests-per-second 30 --rate-window bucket --max-jobs-in-flight 9"
        " --max-jobs-status 503 --retry-after 7 --retry-after-form date --date-skew -90"
        " --quota 1000 --quota-window monthly --quota-retry-after"
        " --limit PH=500 --limit PG=7/monthly --limit PH=9000/monthly --allowed-source PG"
    )
    served = settings_of(monkeypatch, *words.split())
    expected = {
        "worker_schedule": [(30, 1), (60, 4)],
        "job_s": 6,
        "job_spread": 0.3,
        "progress": "uneven",
        "dates": False,
        "requests_per_s": 30,
        "rate_window": "bucket",
        "max_jobs_in_flight": 9,
        "max_jobs_status": 503,
        "retry_after_s": 7,
        "retry_after_form": "date",
        "date_skew_s": -90,
        "quota": 1000,
        "quota_window": "monthly",
        "quota_retry_after": True,
        "limits": {"PH": {"daily": 500, "monthly": 9000}, "PG": {"monthly": 7}},
        "allowed_sources": ("PG",),
    }
    assert {name: getattr(served, name) for name in expected} == expected
