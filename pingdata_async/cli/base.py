"""What every command needs, at the least cost: exit codes, and messages on standard error.

The README and `--help` document the exit codes.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import click

from pingdata_async.exceptions import (
    AuthenticationError,
    ConfigurationError,
    InputError,
    MissingTokenError,
    PingDataError,
    UnknownSourceError,
)

if TYPE_CHECKING:
    from pingdata_async.models import RunSummary


ANSWERED = 0
UNFORESEEN = 1
BAD_INPUT = 2
NO_ANSWER_FOR_SOME = 3
NO_ACCESS = 4
STOPPED = 5
INTERRUPTED = 130


class InterruptedBySignalError(Exception):
    """Raised when a signal ended the work; carries the exit code for it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def exit_code_for(error: PingDataError) -> int:
    """The exit code of a command that an error ended."""
    if isinstance(error, InputError | ConfigurationError | UnknownSourceError):
        return BAD_INPUT
    if isinstance(error, MissingTokenError | AuthenticationError):
        return NO_ACCESS
    return STOPPED


def exit_code_of(summary: RunSummary) -> int:
    """The exit code of a finished run."""
    return NO_ANSWER_FOR_SOME if summary.no_answer else ANSWERED


def say(message: str) -> None:
    """Print a message on standard error; that nobody reads it changes no exit code."""
    with contextlib.suppress(OSError):
        click.echo(message, err=True)
