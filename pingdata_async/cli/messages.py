"""What a command says on standard error, where loading anything else would take too long."""

from __future__ import annotations

import contextlib

import click


def say(message: str) -> None:
    """Say it, also where nobody reads it any more: the work goes on, with its own exit code."""
    with contextlib.suppress(OSError):
        click.echo(message, err=True)
