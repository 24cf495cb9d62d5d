"""Options that several commands share. Each can also come from a variable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pingdata_async.config import ENVIRONMENTS
from pingdata_async.exceptions import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

PREFIX = "PINGDATA_ASYNC_"


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """A click option that is also read from `PINGDATA_ASYNC_<ITS LONG NAME>`."""
    long_name = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = PREFIX + long_name.removeprefix("--").upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


def api_options(command: F) -> F:
    """Where the API is and how to reach it."""
    for decorate in (
        option(
            "--ca-bundle",
            type=click.Path(exists=True, path_type=Path),
            help="Certificates to trust instead of the system's (PEM file or folder).",
        ),
        option(
            "--auth-token-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File that holds the auth token. Without it: the variables and the ini file "
            "that the vendor's client uses.",
        ),
        option("-u", "--api-url", help="Base url of the API, instead of an environment."),
        option(
            "-e",
            "--environment",
            type=click.Choice([*ENVIRONMENTS, "sandbox"]),
            help="Which API (default: prod). The sandbox is an imitation inside this process; "
            "it needs no token and costs nothing.",
        ),
    ):
        command = decorate(command)
    return command


def output_options(command: F) -> F:
    """How much is said, and where."""
    for decorate in (
        option(
            "--log-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Append every event to this file, a line of JSON each.",
        ),
        option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        option("-v", "--verbose", is_flag=True, help="Say what happens to each job."),
    ):
        command = decorate(command)
    return command


def read_token_file(path: Path | None) -> str | None:
    """The token in a file; None for no file.

    Raises:
        ConfigurationError: When it cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
