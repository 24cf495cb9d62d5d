"""Exit codes, as the README and `--help` document them."""

from __future__ import annotations

from pingdata_async.exceptions import (
    AuthenticationError,
    ConfigurationError,
    InputError,
    MissingTokenError,
    PingDataError,
    UnknownSourceError,
)
from pingdata_async.models import RunSummary

ANSWERED = 0
UNFORESEEN = 1
BAD_INPUT = 2
NO_ANSWER_FOR_SOME = 3
NO_ACCESS = 4
STOPPED = 5
INTERRUPTED = 130


def exit_code_for(error: PingDataError) -> int:
    """The exit code of a command that an error ended."""
    if isinstance(error, InputError | ConfigurationError | UnknownSourceError):
        return BAD_INPUT
    if isinstance(error, MissingTokenError | AuthenticationError):
        return NO_ACCESS
    return STOPPED


def exit_code_of(summary: RunSummary) -> int:
    """The exit code of a run that came to its end."""
    return NO_ANSWER_FOR_SOME if summary.no_answer else ANSWERED
