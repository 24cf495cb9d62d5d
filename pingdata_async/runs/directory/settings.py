"""What a run keeps of its settings, what differs between two runs, and what a run may do (pure)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async.api.config import Environment, origin
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.flow_control.budget import Caps, checked_caps, folded
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.rows import ReadOptions
from pingdata_async.util.files import absolute


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that a run was begun with; kept in its journal, so that it can go on.

    Attributes:
        sources: The run's sources.
        options: The API's own options of each job.
        environment: The API's environment; None where only a url was given.
        api_url: The API's url; None for a named environment.
        api: What its answers depend on: the API's origin, or "sandbox", whatever its port.
        chunk_size: Locations a job, at most.
        max_jobs: Jobs in flight, at most.
        source: The input, as an absolute path; "-" for standard input, or a few words for what
            is no file.
        output: The output, likewise; "-" for standard output. In the journal both are without
            their folder where they are beside the run directory, so that all can be moved
            together.
        max_requests_per_s: That the account is known to be allowed; None where that is not known.
        overwrite: Whether the output may replace a file that was there before.
        reading: How the input is understood.
        writing: How the output is written.
        caps: What may be spent.
    """

    sources: tuple[str, ...]
    options: JobOptions
    environment: Environment | None
    api_url: str | None
    api: str
    chunk_size: int
    max_jobs: int
    source: str
    output: str
    overwrite: bool = False
    max_requests_per_s: float | None = None
    reading: ReadOptions = ReadOptions()
    writing: WriteOptions = WriteOptions()
    caps: Caps = Caps()


def api_origin(url: str) -> str:
    """The origin of a url, the same however it is written."""
    scheme, host, port = origin(url)
    shown = f"[{host}]" if host and ":" in host else host
    return f"{scheme}://{shown}" + ("" if port in {None, _PORTS.get(scheme)} else f":{port}")


_PORTS = {"http": 80, "https": 443}


def differences(old: RunSettings, new: RunSettings) -> list[str]:
    """What makes answers under the new settings others than under the old; a few words each.

    How many jobs at once, how large, what may be spent, and where to and how the output goes make
    no difference.
    """
    found = []
    if set(old.sources) != set(new.sources):
        found.append(f"sources {_listed(old.sources)} instead of {_listed(new.sources)}")
    if old.api != new.api:
        found.append(f"the API {old.api} instead of {new.api}")
    old_options, new_options = old.options.given(), new.options.given()
    for name in sorted(old_options.keys() | new_options.keys()):
        was, now = old_options.get(name), new_options.get(name)
        if name != "callback_url" and was != now:
            found.append(f"{name} {_shown(was)} instead of {_shown(now)}")
    for name in ReadOptions.__struct_fields__:
        was, now = getattr(old.reading, name), getattr(new.reading, name)
        if was != now:
            found.append(f"{name} {_shown(was)} instead of {_shown(now)}")
    return found


def with_caps(
    settings: RunSettings, max_locations: int | None, budget: Mapping[str, int] | None
) -> RunSettings:
    """Settings with those caps that are given; the others stay, also those of other sources.

    Raises:
        ConfigurationError: When they are no numbers of locations.
    """
    given = checked_caps(max_locations, budget)
    kept = settings.caps
    named = folded(given.by_source)
    others = {code: cap for code, cap in kept.by_source.items() if code.casefold() not in named}
    caps = Caps(
        locations=kept.locations if given.locations is None else given.locations,
        by_source={**others, **given.by_source},
    )
    return msgspec.structs.replace(settings, caps=caps)


def _listed(sources: tuple[str, ...]) -> str:
    return ",".join(sources) or "none"


def _shown(value: Any) -> str:
    return "not given" if value is None else msgspec.json.encode(value).decode()


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """What a run may do with what is there.

    Attributes:
        overwrite: Replace an output that exists.
        restart: Set a run of the same output aside, and begin a new one.
        pay_again: Begin even if another run beside it has the same input and settings.
        discard_run: Remove the run directory when every row has been answered.
        check_space: Refuse to begin where the answers will not fit on the disk.
        dedupe: Send once what is the same location; what is planned already stays as it is.
        preflight: Refuse to send what the account's limits are known to refuse.
        reuse: Earlier runs, and folders of them, whose answers are not asked for again.
        max_age: How old these may be; None for any age.
    """

    overwrite: bool = False
    restart: bool = False
    pay_again: bool = False
    discard_run: bool = False
    check_space: bool = True
    dedupe: bool = True
    preflight: bool = True
    reuse: tuple[Path, ...] = ()
    max_age: dt.timedelta | None = None


def flags_of(options: Mapping[str, Any]) -> RunFlags:
    """What a run may do, from the options of a call."""
    return RunFlags(**{name: options[name] for name in RunFlags.__annotations__ if name in options})


def with_reuse(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call, with the runs to be reused as absolute paths.

    Raises:
        ConfigurationError: When they are no paths, or their age is no time.
    """
    reuse, max_age = options.get("reuse") or (), options.get("max_age")
    paths = (reuse,) if isinstance(reuse, str | Path) else tuple(reuse)
    if not all(isinstance(path, str | Path) for path in paths):
        raise ConfigurationError(f"reuse takes run directories and folders, not {reuse!r}")
    if max_age is not None and not (isinstance(max_age, dt.timedelta) and max_age > _NO_TIME):
        raise ConfigurationError(f"max_age must be a timedelta above 0, not {max_age!r}")
    return {**options, "reuse": tuple(map(absolute, paths))}


_NO_TIME = dt.timedelta(0)
