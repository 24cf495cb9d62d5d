"""BatchSpec: all that a task of a distributed engine is told; `settle()` makes it on the driver.

It holds no token and no key of a store: each task finds these where it runs, in environment
variables, in the ini file, or in a file that a secret is mounted as.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Unpack

import msgspec
from anyio.from_thread import start_blocking_portal

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import SANDBOX, Environment, find_api
from pingdata_async.api.wire import JobOptions
from pingdata_async.engine.flow_control.budget import Amount, Caps, checked_caps
from pingdata_async.engine.flow_control.polling import PollSchedule
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.engines.store import Manifest, SharedStore
from pingdata_async.events import EventEmitter, new_run_id
from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.chunk import MAX_CHUNK_BYTES
from pingdata_async.locations.chunk_builder import ChunkBuilder, checked_sources
from pingdata_async.options import EnhancerOptions
from pingdata_async.runs.directory.settings import RunSettings, api_origin
from pingdata_async.runs.preflight import Preflight
from pingdata_async.tables.mapping.columns import ColumnMapping
from pingdata_async.tables.mapping.headers import shown_headers
from pingdata_async.tables.readers.open import is_arrow_object, open_input, require
from pingdata_async.tables.rows import IN_MEMORY, ReadOptions
from pingdata_async.tables.schema.types import NOTHING, ColumnType, narrowest_type, promoted
from pingdata_async.util.validation import check_amount, check_count

DOUBT_MARGIN_S: Final = 10.0
"""How much longer than the time-out of a submission one may have been under way."""

_SECRET = re.compile(r"key|secret|token|password|credential|sas|signature", re.IGNORECASE)
_OF_ONE_PROCESS = ("on_event", "rng")  # options that cannot be sent to workers


class AnswerField(msgspec.Struct, frozen=True):
    """A field of the answers that becomes a typed column."""

    name: str  # of the column, such as "pg_latitude"
    source: str  # its code
    field: str
    type: ColumnType


@dataclass(frozen=True, kw_only=True)
class BatchSpec:
    """What each task of a distributed engine does; made by `settle()`, and pickled to the workers.

    Attributes:
        settings: The run's settings; numbers are those of all tasks together.
        headers: The columns of the input.
        mapping: Which of them hold which field.
        tasks: The number of tasks that run at once, each with an equal share of the limits.
        key: The columns that the rows of a task are sorted by; () if nobody says.
        columns: Fields of the answers that become columns.
        store: The url of the store; None for none, and a task that dies pays again.
        store_options: Options of the store, none of them secret.
        token_file: A file with the token, on each worker; None for the usual places.
        max_chunk_bytes: As of `BulkEnhancer`.
        submit_timeout_s: As of `PingDataClient`.
        doubt_margin_s: Added to that: a submission that another task has begun counts as in doubt
            when it is older.
        policy: How often requests, jobs and rows are tried.
        schedule: How often jobs are polled.

    Raises:
        ConfigurationError: For numbers that cannot be shared, or a secret among the options.
    """

    settings: RunSettings
    headers: tuple[str, ...]
    mapping: ColumnMapping
    tasks: int
    key: tuple[str, ...] = ()
    columns: tuple[AnswerField, ...] = ()
    store: str | None = None
    store_options: tuple[tuple[str, str], ...] = ()
    token_file: str | None = None
    max_chunk_bytes: int = MAX_CHUNK_BYTES
    submit_timeout_s: float = 120.0
    doubt_margin_s: float = DOUBT_MARGIN_S
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    schedule: PollSchedule = field(default_factory=PollSchedule)

    def __post_init__(self) -> None:
        check_count("tasks", self.tasks)
        check_count("max_jobs", self.settings.max_jobs)
        check_amount("submit_timeout_s", self.submit_timeout_s)
        if self.tasks > self.settings.max_jobs:
            raise ConfigurationError(
                f"{self.tasks} tasks cannot share max_jobs={self.settings.max_jobs}, as each needs "
                "one: give fewer tasks, or a higher max_jobs"
            )
        for name, cap in self._caps():
            if cap < self.tasks:
                raise ConfigurationError(
                    f"{self.tasks} tasks cannot share {name}={cap}: give fewer tasks, or a higher "
                    "budget"
                )
        for what, may_be_secret in (
            ("the store's url", _may_hold_secret(self.store or "")),
            *(
                (f"the store option {name}", _SECRET.search(name) or _may_hold_secret(value))
                for name, value in self.store_options
            ),
        ):
            if may_be_secret:
                raise ConfigurationError(
                    f"{what} may hold a secret, which would be seen in plans and logs of the "
                    "engine: set it in the environment of the workers instead"
                )
        for column in self.key:
            if column not in self.headers:
                raise ConfigurationError(f"the key {column!r} is no column of the input")
        self.builder()  # refuses sizes that cannot work

    @property
    def max_jobs(self) -> int:
        """A task's share of the jobs in flight."""
        return self.settings.max_jobs // self.tasks

    @property
    def max_requests_per_s(self) -> float | None:
        """A task's share of the requests; None where the account's rate is not known."""
        rate = self.settings.max_requests_per_s
        return None if rate is None else rate / self.tasks

    @property
    def caps(self) -> Caps:
        """A task's share of the budget."""
        caps = self.settings.caps
        return Caps(
            locations=None if caps.locations is None else caps.locations // self.tasks,
            by_source={code: cap // self.tasks for code, cap in caps.by_source.items()},
        )

    @property
    def options(self) -> bytes:
        """The rest of each job's body, as `JobOptions.encode()` makes it."""
        return self.settings.options.encode(self.settings.sources)

    @property
    def question(self) -> bytes:
        """What of that changes the answers: neither the order of sources nor who is told."""
        options = msgspec.structs.replace(self.settings.options, callback_url=None)
        return options.encode(sorted(self.settings.sources))

    @property
    def doubt_after_s(self) -> float:
        """The age from which a submission that another task has begun is in doubt."""
        return self.submit_timeout_s + self.doubt_margin_s

    @property
    def manifest(self) -> Manifest:
        """Of which run the store is."""
        return Manifest(
            settings=self.settings,
            tasks=self.tasks,
            key=self.key,
            max_chunk_bytes=self.max_chunk_bytes,
            location_retries=self.policy.location_retries,
        )

    def builder(self) -> ChunkBuilder:
        """A builder of a task's chunks."""
        return ChunkBuilder(
            chunk_size=self.settings.chunk_size,
            max_chunk_bytes=self.max_chunk_bytes - len(self.options),
            sources=self.settings.sources,
        )

    def client(self) -> PingDataClient:
        """A client with the token of where this runs; a ConfigurationError if its file is gone."""
        settings = self.settings
        return PingDataClient(
            environment=settings.environment,
            api_url=settings.api_url,
            auth_token=None if self.token_file is None else _token_in(self.token_file),
            submit_timeout_s=self.submit_timeout_s,
        )

    async def shared_store(self) -> SharedStore | None:
        """The store, checked and taken for this run; raises as the methods of `SharedStore` do."""
        if self.store is None:
            return None
        shared = SharedStore.open(self.store, **dict(self.store_options))
        await shared.probe()
        await shared.take(self.manifest)
        return shared

    def _caps(self) -> list[tuple[str, int]]:
        caps = self.settings.caps
        own = [("max_locations", caps.locations)] if caps.locations is not None else []
        return own + [(f"the budget of {code}", cap) for code, cap in caps.by_source.items()]


def _may_hold_secret(url: str) -> bool:
    """Whether a url has a user's name, a password or a query, as signed urls do."""
    _, has_scheme, rest = url.partition("://")
    return bool(has_scheme) and ("@" in rest.partition("/")[0] or "?" in rest)


def _token_in(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(f"the token file {path} cannot be read: {said}") from None


def settle(
    sample: Any,
    sources: Sequence[str] | str,
    *,
    tasks: int,
    store: str | None = None,
    store_options: Mapping[str, str] | None = None,
    key: Sequence[str] = (),
    columns: Sequence[str] = (),
    locations: int | None = None,
    preflight: bool = True,
    reading: ReadOptions | None = None,
    environment: Environment | None = None,
    api_url: str | None = None,
    token_file: str | None = None,
    submit_timeout_s: float = 120.0,
    max_locations: int | None = None,
    budget: Mapping[str, int] | None = None,
    **options: Unpack[EnhancerOptions],
) -> BatchSpec:
    """Settle what is the same for all tasks, once, before any of them begins; blocks.

    Maps the columns, asks the API about the account's limits and the types of fields, and takes
    the store for this run.

    Args:
        sample: Some rows of the input as a pyarrow Table or RecordBatch, or none with its schema.
        sources: Source codes such as PG and PH; a row's own take precedence.
        tasks: How many tasks run at once: partitions, and shares of the limits.
        store: The url of the shared store (`file://`, `s3://`, `gs://`, `az://`); None for none,
            and whatever a task had paid for when it dies is paid for again.
        store_options: Options of the store, such as `endpoint`; none of them secret.
        key: The columns that partitions are sorted by; each task checks it.
        columns: Fields of the answers to have as typed columns, such as `pg_latitude`.
        locations: How many rows there are; None if that is unknown, and limits are not compared.
        preflight: Whether to ask the API about the account's limits.
        reading: How to read the columns; None to find out.
        environment: As of `PingDataClient`; so are `api_url` and `submit_timeout_s`.
        api_url: See there.
        token_file: A file that holds the token, on each worker; None for the usual places.
        submit_timeout_s: See there.
        max_locations: At most so many in all; a task may send its share of that. With a store, what
            earlier attempts at the task have sent counts.
        budget: The same for single sources, by code.
        **options: Those of `BulkEnhancer`, for all tasks together; but no `on_event` and no `rng`.

    Raises:
        InputError: When the columns cannot be used.
        ConfigurationError: For a setting that cannot work, or a store that belongs to another run.
        LimitsExceededError: When the rows would exceed the account's limits.
        AuthenticationError: When the API does not accept the token.
        RunError: When the store cannot be used.
    """
    require("a distributed engine", "pyarrow", "lake")
    for name in _OF_ONE_PROCESS:
        if options.get(name) is not None:
            raise ConfigurationError(f"{name} cannot be sent to workers: leave it out")
    given: dict[str, Any] = {**options}
    job_options = JobOptions(
        **{name: given[name] for name in _JOB_OPTIONS if given.get(name) is not None}
    )
    named, url = find_api(environment, api_url)
    client = PingDataClient(environment=named, api_url=url)
    headers, mapping = _columns_of(sample, reading or ReadOptions())
    settings = RunSettings(
        sources=checked_sources(sources if isinstance(sources, str) else list(sources)),
        options=job_options,
        environment=client.environment,
        api_url=url,
        api=SANDBOX if client.environment == SANDBOX else api_origin(client.api_url),
        chunk_size=options.get("chunk_size", 1000),
        max_jobs=options.get("max_jobs", 64),
        source=IN_MEMORY,
        output="",
        max_requests_per_s=options.get("max_requests_per_second"),
        reading=reading or ReadOptions(),
        caps=checked_caps(max_locations, budget),
    )
    spec = BatchSpec(
        settings=settings,
        headers=headers,
        mapping=mapping,
        tasks=tasks,
        key=(key,) if isinstance(key, str) else tuple(key),
        store=store,
        store_options=tuple((store_options or {}).items()),
        token_file=token_file,
        max_chunk_bytes=options.get("max_chunk_bytes", MAX_CHUNK_BYTES),
        submit_timeout_s=submit_timeout_s,
        policy=options.get("retry_policy") or RetryPolicy(),
        schedule=options.get("poll_schedule") or PollSchedule(),
    )
    if columns or (preflight and locations):
        with start_blocking_portal() as portal:
            fields = portal.call(_ask, spec, columns, locations if preflight else None)
        spec = replace(spec, columns=fields)
    if spec.store is not None:
        with start_blocking_portal() as portal:
            portal.call(spec.shared_store)
    return spec


def _columns_of(sample: Any, reading: ReadOptions) -> tuple[tuple[str, ...], ColumnMapping]:
    """The headers of the input, and what they mean; checks the rows of the sample."""
    if not is_arrow_object(sample):
        raise InputError(f"a {type(sample).__name__} is no sample: give a pyarrow Table")
    with open_input(sample, options=reading) as reader:
        for _ in reader:
            pass
        return reader.headers, reader.mapping


async def _ask(
    spec: BatchSpec, columns: Sequence[str], locations: int | None
) -> tuple[AnswerField, ...]:
    """Compare the account's limits with the rows; returns the fields for the typed columns."""
    settings = spec.settings
    async with spec.client() as client:
        asking = Preflight(client, settings, EventEmitter(run_id=new_run_id()))
        if locations:
            wanted = Amount(
                locations=locations, by_source=dict.fromkeys(settings.sources, locations)
            )
            await asking.check(wanted, Amount())
        declared = await asking.field_types() if columns else {}
    known = {
        f"{code}_{name}".lower(): AnswerField(
            f"{code.lower()}_{name}", code, name, narrowest_type(promoted(NOTHING, said))
        )
        for code, fields in declared.items()
        for name, said in fields.items()
    }
    unknown = [name for name in columns if name.lower() not in known]
    if unknown:
        raise ConfigurationError(
            f"the API declares no field for the column {shown_headers(unknown)} (`pingdata-async "
            "datasources --json` lists all); what is not declared is in enhance_json"
        )
    return tuple(known[name.lower()] for name in columns)


_JOB_OPTIONS = tuple(JobOptions.__struct_fields__)
