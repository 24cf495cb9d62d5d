"""What the API takes and gives, and what is handed to users.

Facts about the API come from its published reference ("Check Bulk Enhance Job Status")
and from the vendor's own client (PyPI `pingintel-api`). Where they disagree, every reading
is accepted: lists or objects, nulls, unknown fields, unknown statuses.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, overload

import msgspec

from pingdata_async.exceptions import DecodeError
from pingdata_async.value_notes import ValueNote


class JobPhase(enum.Enum):
    """The stage of a job."""

    WAITING = enum.auto()  # in the API's queue
    WORKING = enum.auto()
    COMPLETE = enum.auto()  # it is paid for, and has its outputs, or is about to
    FAILED = enum.auto()  # it will never have any
    BROKEN_OFF = enum.auto()  # an undocumented word for an end, and no result
    UNKNOWN = enum.auto()  # any other word, and no result: it may be at work


_DOCUMENTED = {
    "PENDING": JobPhase.WAITING,
    "QUEUED": JobPhase.WAITING,
    "IN_PROGRESS": JobPhase.WORKING,
    "COMPLETE": JobPhase.COMPLETE,
    "FAILED": JobPhase.FAILED,
}
_ENDS = frozenset(
    {
        "ABORTED",
        "CANCELED",
        "CANCELLED",
        "DELETED",
        "ERROR",
        "ERRORED",
        "EXPIRED",
        "FAILURE",
        "KILLED",
        "REJECTED",
        "REVOKED",
        "TERMINATED",
        "TIMED_OUT",
        "TIMEOUT",
    }
)


def phase_of(status: str, result_status: str | None, *, names_outputs: bool) -> JobPhase:
    """The stage of a job, by what the API says of it.

    Args:
        status: The request's, in capitals.
        result_status: The result's, likewise; None while there is no result.
        names_outputs: Whether the result names any.
    """
    documented = _DOCUMENTED.get(status)
    if documented is JobPhase.COMPLETE and result_status == "FAILED":
        return JobPhase.FAILED
    if documented is not None:
        return documented
    if result_status == "FAILED":
        return JobPhase.FAILED
    if result_status == "SUCCESS" or names_outputs:
        return JobPhase.COMPLETE
    return JobPhase.BROKEN_OFF if status in _ENDS else JobPhase.UNKNOWN


T = TypeVar("T")


class Location(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One property to be enhanced. Everything is optional; None means "not known".

    At least something to look up is needed: an address, a street line, a city, a postal
    code, both coordinates, or one of the Lightbox references. `id` is yours: it comes back
    in the result and is never sent (ids on the wire are the row numbers), so it may repeat
    or be missing.
    """

    id: str | None = None
    address: str | None = None
    address_line_1: str | None = None
    address_line_2: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    county: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    bldg_name: str | None = None
    sources: list[str] | None = None
    datasource_config: dict[str, Any] | None = None
    lightbox_assessment_id: str | None = None
    lightbox_building_id: str | None = None
    lightbox_parcel_id: str | None = None
    lightbox_parcel_wkt: str | None = None
    occupancy__type_desc: str | None = None
    occupancy__desc_ping: str | None = None
    occupancy__code_air: str | None = None
    occupancy__code_atc: str | None = None
    const__desc_ping: str | None = None
    const__code_rms: str | None = None
    const__code_air: str | None = None
    const__roof_covering: str | None = None
    const__wall_type: str | None = None
    const__bldg_year_built: int | None = None
    const__num_stories: int | None = None
    const__num_stories_below_gnd: int | None = None
    const__bldg_area: int | None = None
    limits__building_limit: float | None = None
    limits__bpp_limit: float | None = None
    limits__bi_limit: float | None = None
    limits__signs_and_other_limit: float | None = None
    dtc_include_coastline_within_miles: float | None = None
    dtc_return_connected_coastlines: bool | None = None


class _Field(Generic[T]):
    """A typed attribute over a source's own object, read when asked for."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> _Field[T]: ...
    @overload
    def __get__(self, instance: SourceResult, owner: type) -> T | None: ...
    def __get__(self, instance: SourceResult | None, owner: type) -> _Field[T] | T | None:
        if instance is None:
            return self
        value = instance.get(self.name)
        if value is None:
            return None
        try:
            return msgspec.convert(value, self.kind, strict=False)
        except msgspec.ValidationError as error:
            raise DecodeError(
                f"{self.name} is {value!r}, not a {self.kind.__name__}; "
                f'read it as it came with ["{self.name}"]'
            ) from error


class SourceResult(Mapping[str, Any]):
    """What one source says about one location.

    The fields that all sources share, and those of a geocoder, are typed attributes (None
    where absent or null); every field the API sent is there by item access, as it came:
    `result["PH"]["fema_flood_zone"]`.

    Raises:
        DecodeError: When a typed attribute is read whose value does not fit its type.
    """

    __slots__ = ("_fields",)

    is_success = _Field(bool)
    error_message = _Field(str)
    confidence = _Field(float)  # 0 to 100
    status_code = _Field(int)
    fetch_time = _Field(float)  # seconds
    is_cache_hit = _Field(bool)
    worker_name = _Field(str)
    street_number = _Field(str)
    route = _Field(str)
    location_type = _Field(str)  # such as ROOFTOP
    precision = _Field(str)
    latitude = _Field(float)
    longitude = _Field(float)
    formatted_address = _Field(str)
    place_id = _Field(str)
    address_line_1 = _Field(str)
    address_line_2 = _Field(str)
    city = _Field(str)
    postal_code = _Field(str)
    county = _Field(str)
    state = _Field(str)
    country = _Field(str)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"SourceResult({dict(self._fields)!r})"


class RowStatus(enum.StrEnum):
    """How a row ended."""

    OK = "ok"  # every source asked for succeeded
    PARTIAL = "partial"  # some of them did
    FAILED = "failed"  # none did, or there is no answer


class Reason(enum.StrEnum):
    """Why a row is not ok."""

    NO_MATCH = "no_match"  # the API answered: the source has nothing for it
    SOURCE_ERROR = "source_error"  # a source failed for a passing reason
    TIME_OUT = "time_out"  # a source ran out of time
    MISSING = "missing"  # the answer left out the location, or one of its sources
    REJECTED = "rejected"  # the API refused the request that held it
    JOB_FAILED = "job_failed"  # its job failed, as often as it was tried
    UNREADABLE = "unreadable"  # its job is complete, but its output can never be read
    IN_DOUBT = "in_doubt"  # its submissions were lost, as often as they were tried
    INVALID_INPUT = "invalid_input"  # nothing in it to look up; never sent
    SKIPPED = "skipped"  # a source was not asked, as it would surely fail and be charged


ANSWERED_REASONS = frozenset({Reason.NO_MATCH})
"""Reasons under which a failed row was answered all the same."""

NO_DATA = msgspec.Raw(b"{}")


class EnhancedLocation(msgspec.Struct, frozen=True, weakref=True):
    """One row with its answer.

    Attributes:
        id: The user's own id; where no location had one, the row number as text. None where only
            this one had none. (A stream knows of the locations read so far: those before the chunk
            with the first id have their row numbers.)
        row: The record's place in the input, from 0.
        status: ok, partial or failed.
        reason: Why it is not ok; None where it is.
        error: The same as a sentence; None where the status is ok.
        data: The API's object for this location, `{SOURCE: {...}}`, as undecoded JSON.
    """

    id: str | None
    row: int
    status: RowStatus
    reason: Reason | None = None
    error: str | None = None
    data: msgspec.Raw = NO_DATA

    @property
    def location_data(self) -> dict[str, SourceResult]:
        """Every source's answer, decoded anew; what is no object, or empty, is left out.

        Raises:
            DecodeError: When the API's object cannot be read.
        """
        try:
            decoded = msgspec.json.decode(self.data, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(f"row {self.row}: {error}") from error
        return {
            code: SourceResult(fields)
            for code, fields in decoded.items()
            if isinstance(fields, dict) and fields
        }

    def __getitem__(self, source: str) -> SourceResult:
        """The answer of one source; upper and lower case are the same where only one is there.

        Raises:
            KeyError: When that source did not answer for this location.
        """
        answers = self.location_data
        if source not in answers:
            folded = {code.casefold(): code for code in answers}
            source = folded.get(source.casefold(), source)
        return answers[source]

    def __contains__(self, source: object) -> bool:
        """Whether that source answered for this location."""
        return source in self.location_data

    @property
    def is_answered(self) -> bool:
        """Whether the API gave an answer for this row, also where it is "no match"."""
        return self.status is not RowStatus.FAILED or self.reason in ANSWERED_REASONS


class JobOutput(msgspec.Struct, frozen=True):
    """A file that a job made.

    Attributes:
        url: Where the API says it can be fetched, absolute or relative.
        filename: Its name on the server; not a path to be trusted. "" if unknown.
        description: What the API says it is; may be "".
    """

    url: str
    filename: str = ""
    description: str = ""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the API says about a job.

    Attributes:
        status: PENDING, QUEUED, IN_PROGRESS, COMPLETE, FAILED, or whatever the API sends.
        num_requested: Locations asked for; None if not said. Likewise the other counts.
        result_status: SUCCESS or FAILED once there is a result; None before.
        message: The result's message; "" if none.
        total_processing_time: Seconds the API says it took; None if not said.
        outputs: The files made, none before the job is done.
        sources: Statistics by source, as the API sent them.
    """

    status: str
    num_requested: int | None = None
    num_completed: int | None = None
    num_problems: int | None = None
    num_canceled: int | None = None
    requested_at: str | None = None
    progress_started_at: str | None = None
    completed_at: str | None = None
    result_status: str | None = None
    message: str = ""
    total_processing_time: float | None = None
    outputs: tuple[JobOutput, ...] = ()
    sources: tuple[Mapping[str, Any], ...] = ()

    @property
    def phase(self) -> JobPhase:
        """The stage that this status stands for."""
        return phase_of(self.status, self.result_status, names_outputs=bool(self.outputs))

    @property
    def is_finished(self) -> bool:
        """Whether polling can end. An unknown status with a result counts as finished."""
        return self.phase in {JobPhase.COMPLETE, JobPhase.FAILED}

    @property
    def is_failed(self) -> bool:
        """Whether the job ended without success (COMPLETE with a result FAILED included)."""
        return self.phase is JobPhase.FAILED


class RunSummary(msgspec.Struct, kw_only=True):
    """What a run did and what it took.

    Jobs and charges are of the whole run, however often it was stopped and gone on with;
    requests, retries, refusals and seconds are those of the present process.

    Attributes:
        rows: Data records of the input; ok + partial + failed.
        no_answer: Rows without an answer by the API (of those that failed).
        reasons: Rows by reason, of those that are not ok.
        values_left_out: Values that were unreadable, or codes for unknown, and so not sent.
        value_notes: These, and others that were not sent as they stood, by column.
        jobs: Jobs that the API accepted.
        locations_charged: Locations in accepted jobs.
        locations_saved: Rows that repeat others, and so were not sent.
        charged_by_source: About how many of these each source was asked, by its code, as far as
            that was noted.
        locations_in_doubt: Locations in POSTs that may have made a job whose id never arrived;
            they may be charged as well.
        skipped_by_source: Rows that a source was not asked about, as it would surely fail,
            by its code.
        locations_possibly_charged_again: Locations sent again although an earlier job that
            held them was, or may have been, accepted.
        submissions_in_doubt: POSTs that may have made a job whose id never arrived.
        unfinished_jobs: Of a run in memory, the ids of accepted jobs whose answers have not come:
            where it ended early, `PingDataClient` can still ask for them. A run on disk keeps them
            itself.
        requests: HTTP requests of the bulk endpoints.
        retries: Of those, requests sent again after a failure.
        refused: Answers 429 and 503.
        seconds: Wall time.
        output: Where the rows were written.
        failures: Where the rows without an answer were written; None if there are none.
        run_dir: Where the run is kept; None if it was discarded.
        environment: The API's environment ("sandbox": every answer is made up); None where
            only a url was given.
    """

    rows: int = 0
    ok: int = 0
    partial: int = 0
    failed: int = 0
    no_answer: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    values_left_out: int = 0
    value_notes: tuple[ValueNote, ...] = ()
    jobs: int = 0
    locations_charged: int = 0
    locations_saved: int = 0
    charged_by_source: dict[str, int] = msgspec.field(default_factory=dict)
    locations_in_doubt: int = 0
    skipped_by_source: dict[str, int] = msgspec.field(default_factory=dict)
    locations_possibly_charged_again: int = 0
    submissions_in_doubt: int = 0
    unfinished_jobs: list[str] = msgspec.field(default_factory=list)
    requests: int = 0
    retries: int = 0
    refused: int = 0
    seconds: float = 0.0
    output: str | None = None
    failures: str | None = None
    run_dir: str | None = None
    environment: str | None = None


class EnhancedLocations(list[EnhancedLocation]):
    """What `BulkEnhancer.enhance()` returns: a list of results, in input order.

    Attributes:
        summary: What was done for them, and what it took. Look at `locations_in_doubt` and
            `locations_possibly_charged_again`.
    """

    def __init__(
        self, results: Iterable[EnhancedLocation] = (), *, summary: RunSummary | None = None
    ) -> None:
        super().__init__(results)
        self.summary = RunSummary() if summary is None else summary


class DataSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source, as `GET /api/v1/datasources` tells of it.

    Attributes:
        code: Such as PG; what `sources` takes.
        name: For people; "" if not said.
        required_attrs: Fields of a location that it cannot do without.
        optional_attrs: Fields of a location that it can use.
        requires_credentials: Whether it needs an account of its own; None if not said.
        non_supported_input_values: Values it cannot do anything with, as the API sent them.
        supported_countries: None for all.
        supported_us_states: None for all.
        excluded_us_states: None for none.
        geocode_confidence_required: As the API sent it; None if not said.
        geocode_precision_required: As the API sent it; None if not said.
        output_fields: By name of a field of its answers, the type that the API says it has;
            "" where it says none. The fields that all sources share are among them.
        as_sent: All of it, as the API sent it: with what each field means, for example.
    """

    code: str
    name: str = ""
    required_attrs: tuple[str, ...] = ()
    optional_attrs: tuple[str, ...] = ()
    requires_credentials: bool | None = None
    non_supported_input_values: Any = None
    supported_countries: tuple[str, ...] | None = None
    supported_us_states: tuple[str, ...] | None = None
    excluded_us_states: tuple[str, ...] | None = None
    geocode_confidence_required: Any = None
    geocode_precision_required: Any = None
    output_fields: Mapping[str, str] = {}
    as_sent: Mapping[str, Any] = {}
