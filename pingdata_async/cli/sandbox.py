"""The command `sandbox`: the imitation of the API as a server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import anyio
import click

from pingdata_async.cli.help import Panel, command, in_panel
from pingdata_async.cli.main import run_until_signal
from pingdata_async.cli.options import option, read_token_file
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.sandbox.settings import SandboxSettings


def _worker_schedule(words: tuple[str, ...]) -> list[tuple[float, int]]:
    """Parse `SECONDS=N` words, in the order of their times."""
    changes = []
    for word in words:
        after_s, _, workers = word.partition("=")
        try:
            changes.append((float(after_s), int(workers)))
        except ValueError:
            raise click.BadParameter(f"{word!r} is not SECONDS=N, as in 60=4") from None
    return sorted(changes)


def _limits(words: tuple[str, ...]) -> dict[str, dict[str, int]] | None:
    """Parse `CODE=N` and `CODE=N/monthly` words."""
    limits: dict[str, dict[str, int]] = {}
    for word in words:
        code, _, rest = word.partition("=")
        number, _, window = rest.partition("/")
        if not code or not number.isdigit() or window not in {"", "daily", "monthly"}:
            raise click.BadParameter(f"{word!r} is not CODE=N or CODE=N/monthly, as in PH=500")
        limits.setdefault(code, {})[window or "daily"] = int(number)
    return limits or None


# Settings that are given by several words: how these are called in the help, and parsed.
_REPEATED: dict[str, tuple[str, Callable[[tuple[str, ...]], Any]]] = {
    "worker_schedule": ("SECONDS=N", _worker_schedule),
    "limits": ("CODE=N[/monthly]", _limits),
    "allowed_sources": ("CODE", lambda words: words or None),
    "faults": ("NAME=VALUE", lambda words: words),
}


def _setting_options() -> Iterator[Callable[[Any], Any]]:
    """An option for each setting that names one."""
    hints = get_type_hints(SandboxSettings)
    for field in dataclasses.fields(SandboxSettings):
        name = field.metadata.get("option")
        if name is None:
            continue
        attributes: dict[str, Any] = {"help": field.metadata["help"]}
        if field.name in _REPEATED:
            metavar, parse = _REPEATED[field.name]
            attributes |= {"multiple": True, "metavar": metavar, "callback": _parsed(parse)}
        else:
            attributes |= {"default": field.default, **_kind(name, hints[field.name])}
            name = attributes.pop("name", name)
        yield option(name, field.name, **attributes)


def _kind(name: str, hint: Any) -> dict[str, Any]:
    """What an option needs to know to take values of a type, which may be None."""
    if get_origin(hint) is Literal:
        by_text = {str(choice): choice for choice in get_args(hint)}
        return {
            "type": click.Choice(list(by_text)),
            "callback": _parsed(lambda text: by_text[str(text)]),
        }
    if hint is bool:
        return {"name": f"{name}/--no-{name.removeprefix('--')}"}
    kind = next(each for each in (hint, *get_args(hint)) if each in {int, float})
    return {"type": kind, "metavar": "N"}


def _parsed(parse: Callable[[Any], Any]) -> Callable[..., Any]:
    """A callback of click that parses the option's value."""
    return lambda _context, _parameter, value: parse(value)


@command(
    examples="""
        pingdata-async sandbox --port 8080
        pingdata-async sandbox --fault all=0.02
    """
)
@option("--host", default="127.0.0.1", help="Listen on this address.")
@option(
    "--port", type=click.IntRange(0, 65535), metavar="N", default=8080,
    help="Listen on this port; 0 picks a free one.",
)  # fmt: skip
@option(
    "--auth-token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Accept only the token in this file.  [default: any token]",
)  # fmt: skip
@in_panel(Panel.OTHER, *_setting_options())
def sandbox(auth_token_file: Path | None, faults: tuple[str, ...], **settings: Any) -> int:
    """Serve an imitation of the API, with made-up answers.

    /sandbox/stats reports the requests that it received. Ctrl-C stops it.
    """
    # Only now: nothing else pays for loading a web server.
    from pingdata_async.sandbox import FaultPlan, SandboxServer  # noqa: PLC0415

    try:
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
                    f"cannot listen on {host}:{port}: {error.strerror or error}"
                ) from error
            with contextlib.suppress(BrokenPipeError):  # it serves all the same
                click.echo(f"Serving made-up answers at {server.url} (Ctrl-C stops it)")
            await anyio.sleep_forever()

    anyio.run(run_until_signal, serve)
    return 0
