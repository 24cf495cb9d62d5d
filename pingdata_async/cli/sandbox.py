"""`pingdata-async sandbox`: the imitation of the API as a server."""

from __future__ import annotations

import contextlib
from pathlib import Path

import anyio
import click

from pingdata_async.cli.options import option, read_token_file
from pingdata_async.cli.signals import run_until_signal
from pingdata_async.exceptions import ConfigurationError


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
    "--locations-per-second", type=click.FloatRange(min=0, min_open=True), default=500.0,
    show_default=True, help="Of each worker.",
)  # fmt: skip
@option("--seed", type=int, default=0, show_default=True, help="Of faults and job ids.")
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
@option("--max-locations", type=click.IntRange(min=1), help="Refuse jobs of more.  [default: any]")
def sandbox(
    host: str,
    port: int,
    auth_token_file: Path | None,
    workers: int,
    locations_per_second: float,
    seed: int,
    faults: tuple[str, ...],
    spacing: str,
    shape: str,
    max_locations: int | None,
) -> int:
    """Serve an imitation of the API on this machine; its answers are made up.

    What it was asked is at /sandbox/stats. Ctrl-C ends it.
    """
    # Only now: no other command pays for loading a web server.
    from pingdata_async.sandbox import FaultPlan, SandboxServer  # noqa: PLC0415

    try:
        server = SandboxServer(
            host=host,
            port=port,
            token=read_token_file(auth_token_file),
            workers=workers,
            locations_per_s=locations_per_second,
            seed=seed,
            faults=FaultPlan.parse(list(faults)),
            spacing="compact" if spacing == "compact" else "spaced",
            shape="object" if shape == "object" else "list",
            max_locations=max_locations,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error

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
