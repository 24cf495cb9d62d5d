"""The configuration file with its profiles, and the command `config`, which shows it.

An option on the command line comes first, then its variable, then the file, then the default. What
is read from the file is given to click as defaults, so that all else is as if it had been typed.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from pingdata_async.cli.console import Table, show, show_json
from pingdata_async.cli.help import Option, Panel, command, in_panel
from pingdata_async.cli.main import ANSWERED
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.util.text import shown_path, shown_url

MOST_BYTES = 1024 * 1024
PROFILES: Final = "profiles"

OF_THE_COMMAND = frozenset(
    {
        "profile",
        "in_doubt",
        "in_doubt_retries",
        "job_attempts",
        "location_retries",
        "job_timeout_s",
        "max_answer_mb",
        "max_wait_s",
        "give_up_after_s",
        "no_preflight",
        "no_space_check",
        "discard_run",
        "summary_path",
        "log_file",
        "metrics_port",
        "quiet",
        "verbose",
        "notify",
    }
)
"""How persistent a command is, and what it reports. All else is stored in the run directory."""

# What the file may say of a run that exists. Its sources, budget, columns and API are its own.
_OF_A_RUN = OF_THE_COMMAND | {"auth_token_file", "ca_bundle"}
# These name files of one call, so that a second one would replace them.
_OF_ONE_CALL = frozenset({"output", "run_dir", "summary_path", "profile", "callback_url"})

EXAMPLE = """
sources = ["PG", "PH"]
max-locations = 10000
columns = ["Loc #", "enhance_*", "pg_*"]

[profiles.trial]
environment = "sandbox"
"""


class Setting(msgspec.Struct, frozen=True):
    """A value of an option, and where it comes from."""

    name: str
    value: str
    origin: str


# -- The file ----------------------------------------------------------------------------------


def config_path() -> Path:
    """Where the file is looked for, in the user's own folder or that of XDG_CONFIG_HOME."""
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path("~/.config").expanduser()
        except RuntimeError:  # nobody's home
            base = Path("/nonexistent")
    return base / "pingdata-async" / "config.toml"


def read_config(path: Path) -> dict[str, Any]:
    """What the file says; nothing if there is none.

    Raises:
        ConfigurationError: When it cannot be read, or names what does not belong there.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigurationError(f"{shown_path(path)} is not a file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigurationError(f"{shown_path(path)} cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise ConfigurationError(f"{shown_path(path)} is larger than {MOST_BYTES:,} bytes")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{shown_path(path)} is not TOML: {error}") from error


def settings_of(path: Path, profile: str | None) -> Iterator[tuple[str, str, Any]]:
    """Each setting that holds with a profile: the table it stands in, its key and its value.

    The later one of two with the same key wins.

    Raises:
        ConfigurationError: As `read_config()`, or when there is no such profile.
    """
    whole = read_config(path)
    profiles = whole.pop(PROFILES, {})
    if not isinstance(profiles, dict) or not all(map(_is_table, profiles.values())):
        raise ConfigurationError(f"{shown_path(path)}: {PROFILES} is not tables, as [profiles.eu]")
    _refuse_tokens(path, {"": whole, **profiles})
    yield from (("", key, value) for key, value in whole.items())
    if profile is None:
        return
    if profile not in profiles:
        near = difflib.get_close_matches(profile, profiles, n=3)
        there = " or ".join(near) if near else ", ".join(profiles) or "none"
        raise ConfigurationError(
            f"{shown_path(path)} has no profile {profile!r}; "
            f"{'did you mean' if near else 'there is'} {there}{'?' if near else ''}"
        )
    yield from ((profile, key, value) for key, value in profiles[profile].items())


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _refuse_tokens(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> None:
    for table in tables.values():
        for key in table:
            if "token" in key.lower() and _name_of(key) != "auth_token_file":
                raise ConfigurationError(
                    f"{shown_path(path)}: {key}: a token does not belong in this file; name the "
                    "file that holds it (auth-token-file), or use a variable or ~/.pingintel.ini"
                )


def _name_of(key: str) -> str:
    return key.strip().replace("-", "_")


# -- The file as defaults of options -----------------------------------------------------------


def _settable(each: click.Command) -> dict[str, Option]:
    """The options of a command that the file may set, by their long names."""
    return {
        _key_of(option).replace("-", "_"): option
        for option in each.params
        if isinstance(option, Option) and option.envvar and option.name not in _OF_ONE_CALL
    }


def _key_of(option: click.Parameter) -> str:
    return next(name for name in option.opts if name.startswith("--")).removeprefix("--")


def _all_settable() -> dict[str, Option]:
    from pingdata_async.cli.main import cli  # noqa: PLC0415 - it loads all

    commands = cli.loaded().values()
    with_profiles = [each for each in commands if any(p.name == "profile" for p in each.params)]
    return {name: option for each in with_profiles for name, option in _settable(each).items()}


def _use(context: click.Context, _option: click.Parameter, profile: str | None) -> str | None:
    """Make what the file says the defaults of the command."""
    if context.resilient_parsing:
        return profile
    path = config_path()
    mine = _settable(context.command)
    is_of_a_run = any(each.name == "run_dir" for each in context.command.params[:1])
    everything: dict[str, Option] = {}
    defaults: dict[str, Any] = {}
    for _, key, value in settings_of(path, profile):
        name = _name_of(key)
        if name not in mine:
            everything = everything or _all_settable()
            if name not in everything:
                raise _unknown(path, key, everything)
            continue
        option = mine[name]
        if not is_of_a_run or option.name in _OF_A_RUN:
            defaults[str(option.name)] = _checked(context, path, key, option, value)
    context.default_map = defaults
    return profile


def _unknown(path: Path, key: str, known: Mapping[str, Option]) -> ConfigurationError:
    near = difflib.get_close_matches(_name_of(key), known, n=1)
    hint = f"did you mean {near[0].replace('_', '-')}?" if near else "`config --help` tells more"
    return ConfigurationError(
        f"{shown_path(path)}: {key}: not a setting of this file (switches and files of one call "
        f"are not); {hint}"
    )


def _checked(context: click.Context, path: Path, key: str, option: Option, value: Any) -> Any:
    """A value as the option takes it.

    Raises:
        ConfigurationError: When it does not take such a value.
    """
    try:
        given = _as_typed(path, option, value)
        option.process_value(context, given)
    except (click.UsageError, ConfigurationError) as error:
        said = error.message if isinstance(error, click.UsageError) else str(error)
        raise ConfigurationError(f"{shown_path(path)}: {key}: {said}") from error
    return given


def _as_typed(path: Path, option: Option, value: Any) -> Any:
    """A value of TOML as it would be typed on the command line."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise ConfigurationError("give true or false")
        return value
    if isinstance(value, dict) and option.name == "budget":
        value = ",".join(f"{code}={number}" for code, number in value.items())
    elif isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = ",".join(map(_quoted, value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigurationError("give a text, a number, or a list of texts")
    text = str(value)
    if "\0" in text:
        raise ConfigurationError("a text cannot contain a null character")
    if isinstance(option.type, click.Path):
        try:
            text = str(path.parent / Path(text).expanduser())
        except RuntimeError as error:
            raise ConfigurationError(f"{text}: there is no such user") from error
    return (text,) if option.multiple else text


def _quoted(text: str) -> str:
    """One of a list of texts, as a field of a line of CSV."""
    if set(text).isdisjoint(',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


def _complete_profiles(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    try:
        profiles = read_config(config_path()).get(PROFILES, {})
    except ConfigurationError:
        return []
    return [name for name in profiles if name.startswith(incomplete)]


profile_option = in_panel(
    Panel.CONNECTION,
    click.option(
        "--profile", cls=Option, metavar="NAME", envvar="PINGDATA_ASYNC_PROFILE", is_eager=True,
        callback=_use, shell_complete=_complete_profiles,
        help="Use this profile of the configuration file. `config` shows it.",
    ),
)  # fmt: skip


# -- The command -------------------------------------------------------------------------------


@command(examples="pingdata-async config --profile trial")
@click.option(
    "--profile",
    metavar="NAME",
    envvar="PINGDATA_ASYNC_PROFILE",
    help="Show this one.",
    shell_complete=_complete_profiles,
)
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
@click.pass_context
def config(context: click.Context, profile: str | None, as_json: bool) -> int:
    """Show the configuration file, and where each setting comes from.

    An option on the command line comes first, then its variable, then the profile (--profile NAME),
    then the rest of the file. A token never stands in it. `resume` and `retry` take only how to
    reach the API and how patient to be: a run keeps its own sources, budget and columns.
    """
    path = config_path()
    known = _all_settable()
    found: dict[str, Setting] = {}
    for table, key, value in settings_of(path, profile):
        name = _name_of(key)
        if name not in known:
            raise _unknown(path, key, known)
        typed = _checked(context, path, key, known[name], value)
        origin = f"profile {table}" if table else "the file"
        found[name] = Setting(_key_of(known[name]), _shown(known[name], typed), origin)
    for name, option in known.items():
        variable = str(option.envvar)
        if os.environ.get(variable):
            found[name] = Setting(_key_of(option), _shown(option, os.environ[variable]), variable)
    profiles = list(read_config(path).get(PROFILES, {}))
    if as_json:
        show_json({"file": str(path), "profiles": profiles, "settings": list(found.values())})
        return ANSWERED
    show(f"Configuration file: {shown_path(path)}{'' if path.exists() else ' (there is none)'}")
    show(f"Profiles: {', '.join(profiles) or 'none'}")
    if found:
        rows = [(each.name, each.value, each.origin) for each in found.values()]
        show(Table(("setting", "value", "from"), rows))
    elif not path.exists():
        show("It may say, for example:", *EXAMPLE.strip().splitlines())
    return ANSWERED


def _shown(option: Option, value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(value)
    return shown_url(str(value)) if _key_of(option).endswith("-url") else str(value)
