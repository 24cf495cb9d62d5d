"""The command `sandbox`: the imitation of the API as a server."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import anyio
import click

from pingdata_async.cli.options import option, read_token_file
from pingdata_async.cli.signals import run_until_signal
from pingdata_async.exceptions import ConfigurationError


def _changes(
    context: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> list[tuple[float, int]]:
    """What `SECONDS=N` words say, in the order of their times."""
    changes = []
    for word in words:
        after_s, _, workers = word.partition("=")
        try:
            changes.append((float(after_s), int(workers)))
        except ValueError:
            raise click.BadParameter(
                f"{word!r} is not SECONDS=N, as in 60=4", context, parameter
            ) from None
    return sorted(changes)


def _limits(
    context: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> dict[str, dict[str, int]] | None:
    """What `CODE=N` and `CODE=N/monthly` words say."""
    limits: dict[str, dict[str, int]] = {}
    for word in words:
        code, _, rest = word.partition("=")
        number, _, window = rest.partition("/")
        if not code or not number.isdigit() or window not in {"", "daily", "monthly"}:
            raise click.BadParameter(
                f"{word!r} is not CODE=N or CODE=N/monthly, as in PH=500", context, parameter
            )
        limits.setdefault(code, {})[window or "daily"] = int(number)
    return limits or None


@click.command()
@option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
    help="Port to listen on; 0 for any free one.",
)  # fmt: skip
@option(
    "--auth-token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Accept only the token in this file.  [default: any]",
)  # fmt: skip
@option(
    "--workers", type=click.IntRange(min=1), default=4, show_default=True,
    help="Jobs worked on at once.",
)  # fmt: skip
@option(
    "--workers-at", "worker_schedule", metavar="SECONDS=N", multiple=True, callback=_changes,
    help="Have N workers from so many seconds after the start. Can be given several times.",
)  # fmt: skip
@option(
    "--locations-per-second", "locations_per_s", type=click.FloatRange(min=0, min_open=True),
    default=500.0, show_default=True, help="Of each worker.",
)  # fmt: skip
@option(
    "--job-seconds", "job_s", type=click.FloatRange(min=0),
    help="Seconds of work of each job, whatever its size.  [default: by its locations]",
)  # fmt: skip
@option(
    "--job-spread", type=click.FloatRange(min=0), default=0.0, show_default=True,
    help="Sigma of a lognormal factor, of median 1, on the work time of each job.",
)  # fmt: skip
@option(
    "--progress", type=click.Choice(["even", "uneven", "stall", "fast_start", "steps", "batches"]),
    default="even", show_default=True,
    help="How a job's count of completed locations grows; uneven: each job in one of the last "
    "four ways.",
)  # fmt: skip
@option(
    "--dates/--no-dates", default=True, show_default=True,
    help="Whether the status of a job has dates, or nulls.",
)  # fmt: skip
@option(
    "--requests-per-second", "requests_per_s", type=click.FloatRange(min=0, min_open=True),
    help="Answer bulk requests above that 429.  [default: no limit]",
)  # fmt: skip
@option(
    "--rate-window", type=click.Choice(["second", "bucket"]), default="second", show_default=True,
    help="Count them in each second of the clock, or in a bucket that is filled evenly.",
)  # fmt: skip
@option(
    "--max-jobs-in-flight", type=click.IntRange(min=1),
    help="Refuse submissions above that.  [default: no limit]",
)  # fmt: skip
@option(
    "--max-jobs-status", type=click.Choice(["429", "503"]), default="429", show_default=True,
    callback=lambda _context, _option, value: int(value), help="What those are answered.",
)  # fmt: skip
@option(
    "--retry-after", "retry_after_s", type=click.IntRange(min=0), default=1, show_default=True,
    help="Seconds that such refusals name.",
)  # fmt: skip
@option(
    "--retry-after-form", type=click.Choice(["seconds", "date"]), default="seconds",
    show_default=True, help="How all refusals name it.",
)  # fmt: skip
@option(
    "--date-skew", "date_skew_s", type=float, default=0.0, show_default=True,
    help="Seconds by which the clock of the Date header, and of such a date, is fast.",
)  # fmt: skip
@option(
    "--limit", "limits", metavar="CODE=N[/monthly]", multiple=True, callback=_limits,
    help="Let a source be asked about so many locations a day, or month, and no more. Can be given "
    "several times.",
)  # fmt: skip
@option(
    "--allowed-source", "allowed_sources", metavar="CODE", multiple=True,
    callback=lambda _context, _option, values: values or None,
    help="Refuse all other sources. Can be given several times.",
)  # fmt: skip
@option(
    "--quota", type=click.IntRange(min=1),
    help="Answer submissions above so many locations a day or month 429.  [default: no quota]",
)  # fmt: skip
@option(
    "--quota-window", type=click.Choice(["daily", "monthly"]), default="daily", show_default=True,
    help="Which of them.",
)  # fmt: skip
@option(
    "--quota-retry-after/--no-quota-retry-after", default=False, show_default=True,
    help="Whether that 429 names the end of the day or month in its Retry-After.",
)  # fmt: skip
@option(
    "--seed", type=int, default=0, show_default=True,
    help="Of faults, job ids, and what differs from job to job.",
)  # fmt: skip
@option(
    "--fault", "faults", metavar="NAME=VALUE", multiple=True,
    help="Let that share (0 to 1) of requests, jobs, locations or answers go wrong, such as "
    "rate_limit=0.05, lost_answer=0.02, or all=0.02; or refuse rows that hold a word: "
    "poison=WORD. Can be given several times; a wrong name lists them all.",
)  # fmt: skip
@option(
    "--spacing", type=click.Choice(["spaced", "compact"]), default="spaced", show_default=True,
    help="The look of the JSON.",
)  # fmt: skip
@option(
    "--shape", type=click.Choice(["list", "object"]), default="list", show_default=True,
    help="How outputs and sources of a result are drawn.",
)  # fmt: skip
# Not from a variable: that of the same name is a run's budget.
@click.option(
    "--max-locations", type=click.IntRange(min=1), help="Refuse jobs of more.  [default: any]"
)
def sandbox(auth_token_file: Path | None, faults: tuple[str, ...], **settings: Any) -> int:
    """Serve an imitation of the API on this machine; its answers are made up.

    What it was asked is at /sandbox/stats. Ctrl-C ends it.
    """
    # Only now: no other command pays for loading a web server.
    from pingdata_async.sandbox import FaultPlan, SandboxServer  # noqa: PLC0415

    try:
        # Each option is called like its setting.
        server = SandboxServer(
            token=read_token_file(auth_token_file),
            faults=FaultPlan.parse(list(faults)),
            **settings,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    host, port = server.host, server.port

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(server)
            except OSError as error:
                raise ConfigurationError(
                    f"{host}:{port} cannot be listened on: {error.strerror or error}"
                ) from error
            with contextlib.suppress(BrokenPipeError):  # it serves all the same
                click.echo(f"Serving made-up answers at {server.url} (Ctrl-C ends it)")
            await anyio.sleep_forever()

    anyio.run(run_until_signal, serve)
    return 0
