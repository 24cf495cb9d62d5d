"""The command that goes on with a run that stopped, ready to be pasted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pingdata_async.runs.output_files import STDOUT, shown_path
from pingdata_async.shell_words import quoted_option, quoted_path

# Which API it is, how it is reached, and whom else it tells: also where a variable says it, which
# is set in this shell.
_ALWAYS = frozenset({"environment", "api_url", "auth_token_file", "ca_bundle", "callback_url"})
# How patient it is, and what is said of it: of the command alone. What else there is to be said of
# a run is kept in its directory.
_OF_THE_COMMAND = frozenset(
    {
        "in_doubt",
        "in_doubt_attempts",
        "job_attempts",
        "location_attempts",
        "job_timeout_s",
        "max_answer_mb",
        "max_wait_s",
        "give_up_after_s",
        "no_preflight",
        "no_space_check",
        "discard_run",
        "summary_path",
        "log_file",
        "quiet",
        "verbose",
    }
)
# Kept with a run by `enhance`; to `resume` and `retry` they are for the one time.
_OF_A_RUN = frozenset(
    {
        "output",
        "overwrite",
        "output_format",
        "columns",
        "safe_csv",
        "geocode_source",
        "max_jobs",
        "max_requests_per_second",
    }
)


def resume_command(context: click.Context, run_dir: str, needs: str) -> str:
    """The command that goes on where a command stopped.

    Args:
        context: Of the command that stopped.
        run_dir: Where the run is kept, for people.
        needs: Options without which it would stop at once again; "" for none.
    """
    values = context.params
    needed = {word.partition("=")[0] for word in needs.split()}
    words = ["pingdata-async resume", quoted_path(_given_run_dir(values, run_dir))]
    is_begun_before = "source" not in values
    for parameter in context.command.params:
        name = parameter.name or ""
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        wanted = is_given and (name in _OF_THE_COMMAND or (is_begun_before and name in _OF_A_RUN))
        is_needed = not needed.isdisjoint(parameter.opts)  # with another value
        if values.get(name) is not None and (wanted or name in _ALWAYS) and not is_needed:
            words.append(_option(parameter, values[name]))
    return " ".join(words + [needs] * bool(needs))


def _given_run_dir(values: Mapping[str, Any], shown: str) -> str | Path:
    """The run directory itself: what is shown of a name that is no text is not its name."""
    given = Path(values.get("run_dir") or f"{values.get('output')}.run")
    try:
        given = given.absolute()
    except OSError:  # the present folder is gone
        return shown
    return given if shown_path(given) == str(Path(shown).absolute()) else shown


def _option(parameter: click.Parameter, value: Any) -> str:
    name = next(name for name in parameter.opts if name.startswith("--"))
    if value is True:
        return name
    if isinstance(value, Path) or (parameter.name == "output" and value != STDOUT):
        return f"{name} {quoted_path(value)}"
    return quoted_option(name, str(value))
