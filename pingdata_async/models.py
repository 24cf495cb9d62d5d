"""What the API takes and returns, and what users get.

Facts about the API come from its published reference ("Check Bulk Enhance Job Status")
and from the vendor's own client (PyPI `pingintel-api`). Where they disagree, both readings
are accepted: lists or objects, nulls, unknown fields, unknown statuses.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import msgspec

from pingdata_async.exceptions import DecodeError, NoAnswerError, PingDataError, RunError
from pingdata_async.util.text import counted
from pingdata_async.value_notes import ValueNote

if TYPE_CHECKING:
    from pydantic_core import CoreSchema


class RequestKind(enum.StrEnum):
    """What a request about a job is for."""

    SUBMIT = "submit"
    POLL = "poll"
    FETCH = "fetch"


class JobPhase(enum.Enum):
    """The stage of a job."""

    WAITING = enum.auto()  # in the API's queue
    WORKING = enum.auto()
    COMPLETE = enum.auto()  # paid for; it has its outputs, or soon will
    FAILED = enum.auto()  # it will never have any
    BROKEN_OFF = enum.auto()  # an undocumented word for an end, and no result
    UNKNOWN = enum.auto()  # any other word, and no result: it may be running


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
    """The stage of a job.

    Args:
        status: Of the request, in capitals.
        result_status: Of the result, in capitals; None while there is no result.
        names_outputs: Whether the result names any outputs.
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


class _InPydantic:
    """Lets pydantic, and so FastAPI, take a class for a field, an argument or an answer."""

    __slots__ = ()
    __struct_encode_fields__: ClassVar[tuple[str, ...]]

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        from pydantic_core import core_schema as schema  # noqa: PLC0415 - called by pydantic alone

        def read(value: Any) -> Any:
            if isinstance(value, cls):
                return value
            for name in value if isinstance(value, dict) else ():
                if name not in cls.__struct_encode_fields__:  # what it holds would be lost
                    raise ValueError(f"{name!r} is no field of {cls.__name__}")
            try:  # by way of JSON, as an answer is kept in it
                return msgspec.json.decode(msgspec.json.encode(value), type=cls)
            except (msgspec.MsgspecError, TypeError) as error:
                raise ValueError(str(error)) from error

        return schema.json_or_python_schema(
            schema.no_info_after_validator_function(read, schema.dict_schema()),
            schema.no_info_plain_validator_function(read),
            serialization=schema.plain_serializer_function_ser_schema(
                lambda value: msgspec.json.decode(msgspec.json.encode(value)),
                return_schema=schema.dict_schema(),
            ),
        )


class Location(_InPydantic, msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        described: dict[str, Any] = msgspec.json.schema(cls)["$defs"][cls.__name__]
        return described


class _Field(Generic[T]):
    """A typed attribute of a source's object, converted on access."""

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
    """The answer of one source for one location.

    The fields that all sources share, and those of geocoders, are typed attributes, None if absent
    or null. Item access gives every field as the API sent it: `result["PH"]["fema_flood_zone"]`.

    Raises:
        DecodeError: When the value of a typed attribute does not fit its type.
    """

    __slots__ = ("_fields",)

    is_success: _Field[bool] = _Field(bool)
    error_message: _Field[str] = _Field(str)
    confidence: _Field[float] = _Field(float)  # 0 to 100
    status_code: _Field[int] = _Field(int)
    fetch_time: _Field[float] = _Field(float)  # seconds
    is_cache_hit: _Field[bool] = _Field(bool)
    worker_name: _Field[str] = _Field(str)
    street_number: _Field[str] = _Field(str)
    route: _Field[str] = _Field(str)
    location_type: _Field[str] = _Field(str)  # such as ROOFTOP
    precision: _Field[str] = _Field(str)
    latitude: _Field[float] = _Field(float)
    longitude: _Field[float] = _Field(float)
    formatted_address: _Field[str] = _Field(str)
    place_id: _Field[str] = _Field(str)
    address_line_1: _Field[str] = _Field(str)
    address_line_2: _Field[str] = _Field(str)
    city: _Field[str] = _Field(str)
    postal_code: _Field[str] = _Field(str)
    county: _Field[str] = _Field(str)
    state: _Field[str] = _Field(str)
    country: _Field[str] = _Field(str)

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

    NO_MATCH = "no_match"  # the API answered: the source has nothing for this location
    SOURCE_ERROR = "source_error"  # a source failed temporarily
    TIME_OUT = "time_out"  # a source ran out of time
    MISSING = "missing"  # the answer left out the location, or one of its sources
    REJECTED = "rejected"  # the API refused the request that held it
    JOB_FAILED = "job_failed"  # each of its jobs failed
    UNREADABLE = "unreadable"  # its job is complete, but the output can never be read
    IN_DOUBT = "in_doubt"  # the answer to each of its submissions was lost
    INVALID_INPUT = "invalid_input"  # there is nothing to look up; never sent
    SKIPPED = "skipped"  # not sent to a source that would surely fail and be charged


ANSWERED_REASONS = frozenset({Reason.NO_MATCH})
"""Reasons for which a failed row has an answer all the same."""

NO_DATA = msgspec.Raw(b"{}")
SHOWN_RESULTS = 20  # of a list


class EnhancedLocation(
    _InPydantic,
    msgspec.Struct,
    frozen=True,
    weakref=True,
    dict=True,
    rename={"data": "location_data"},
):
    """One row with its answer.

    `result["PG"]` is the answer of a source, `list(result)` the sources that answered. A line of
    JSONL output becomes one by `msgspec.json.decode(line, type=EnhancedLocation)`, and one becomes
    such a line by `msgspec.json.encode(result)` or, for other encoders, `to_dict()`.

    Attributes:
        id: Your own id; the row number as text if no location has an id; None if only this one has
            none. (A stream knows only the locations read so far: those before the chunk with the
            first id have their row numbers.)
        row: The number of the record in the input, from 0.
        status: ok, partial or failed.
        reason: Why it is not ok; None if it is.
        error: The reason as a sentence; None if the status is ok.
        data: The API's object for this location, `{SOURCE: {...}}`, as undecoded JSON.
        reused: Of a run that reuses answers of earlier ones: by source, from which run and when;
            None if none of the answers is.
    """

    id: str | None
    row: int
    status: RowStatus
    reason: Reason | None = None
    error: str | None = None
    data: msgspec.Raw = NO_DATA
    reused: Mapping[str, str] | None = None

    @functools.cached_property
    def location_data(self) -> dict[str, SourceResult]:
        """Each source's answer, decoded once; what is empty or no object is left out.

        Raises:
            DecodeError: When the API's object cannot be read.
        """
        return {
            code: SourceResult(fields)
            for code, fields in self._decoded().items()
            if isinstance(fields, dict) and fields
        }

    def __getitem__(self, source: str) -> SourceResult:
        """The answer of one source; case does not matter if only one source has that name.

        Raises:
            NoAnswerError: When that source did not answer for this location. It says why, and is
                a KeyError.
        """
        answer = self.get(source)
        if answer is None:
            there_are = f"answers are of {', '.join(self)}" if list(self) else "it has no answers"
            why = self.error or f"{there_are}; was it asked for?"
            raise NoAnswerError(f"row {self.row} has no answer of {source}: {why}")
        return answer

    def get(self, source: str) -> SourceResult | None:
        """The same; None when that source did not answer for this location."""
        answers = self.location_data
        if source not in answers:
            folded = {code.casefold(): code for code in answers}
            source = folded.get(source.casefold(), source)
        return answers.get(source)

    def __contains__(self, source: object) -> bool:
        """Whether that source answered for this location."""
        return isinstance(source, str) and self.get(source) is not None

    def __iter__(self) -> Iterator[str]:
        """The codes of the sources that answered."""
        return iter(self.location_data)

    def keys(self) -> Iterable[str]:
        """The same, so that `dict(result)` has each source's answer."""
        return self.location_data.keys()

    def __hash__(self) -> int:
        return hash((self.id, self.row, self.status))

    def __repr__(self) -> str:
        with_error = "" if self.error is None else f", error={self.error!r}"
        try:
            sources = ", ".join(self) or "no source"
        except DecodeError:
            sources = "unreadable"
        return (
            f"<EnhancedLocation row {self.row}, id {self.id!r}, {self.status.value}{with_error}: "
            f"{sources}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """The row as plain objects, as its line of JSONL output has it.

        Raises:
            DecodeError: When the API's object cannot be read.
        """
        fields: dict[str, Any] = {"id": self.id, "row": self.row, "status": self.status.value}
        fields["location_data"] = self._decoded()
        if self.reason is not None:
            fields |= {"reason": self.reason.value, "error": self.error}
        return fields

    def _decoded(self) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self.data, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise DecodeError(f"row {self.row}: {error}") from error

    @property
    def is_answered(self) -> bool:
        """Whether the API answered for this row; "no match" is an answer too."""
        return self.status is not RowStatus.FAILED or self.reason in ANSWERED_REASONS


class JobOutput(msgspec.Struct, frozen=True):
    """An output file of a job.

    Attributes:
        url: Where it can be fetched, absolute or relative.
        filename: Its name on the server, "" if unknown; never to be trusted as a path.
        description: What the API says it is; may be "".
    """

    url: str
    filename: str = ""
    description: str = ""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the API says about a job.

    Attributes:
        status: PENDING, QUEUED, IN_PROGRESS, COMPLETE, FAILED, or whatever the API sends.
        num_requested: Locations in the job; this and the other counts are None if not given.
        result_status: SUCCESS or FAILED once there is a result; None before.
        message: The result's message; "" if none.
        total_processing_time: The API's own count of seconds; None if not given.
        outputs: The output files; none before the job is done.
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
        """The stage of the job."""
        return phase_of(self.status, self.result_status, names_outputs=bool(self.outputs))

    @property
    def is_finished(self) -> bool:
        """Whether polling can end. A job with an unknown status and a result is finished."""
        return self.phase in {JobPhase.COMPLETE, JobPhase.FAILED}

    @property
    def is_failed(self) -> bool:
        """Whether the job ended without success (COMPLETE with a result FAILED included)."""
        return self.phase is JobPhase.FAILED


class RunSummary(_InPydantic, msgspec.Struct, kw_only=True):
    """What a run did and charged.

    Jobs and charges count the whole run, however often it was resumed; requests, retries,
    refusals and seconds count this process.

    Attributes:
        rows: Data records in the input: ok + partial + failed.
        no_answer: Failed rows that the API did not answer.
        reasons: Rows that are not ok, by reason.
        values_left_out: Values not sent because they are unreadable or codes for "unknown".
        value_notes: These, and others that were not sent as they stand, by column.
        jobs: Jobs that the API accepted.
        locations_charged: Locations in accepted jobs.
        locations_saved: Rows not sent because they are duplicates; `repeated` of the plan.
        locations_reused: Locations not sent because earlier runs had all of their answers.
        reused_by_source: Answers of earlier runs by source, those of locations that were sent to
            other sources included.
        oldest_reused_at: When the oldest of these was given (UTC); None if there are none.
        charged_by_source: About how many of the charged locations were sent to each source.
        locations_in_doubt: Locations in submissions in doubt, which may be charged in addition.
        skipped_by_source: Rows not sent to a source because it surely cannot answer them.
        locations_possibly_charged_again: Locations sent again although an earlier job with them
            was, or may have been, accepted.
        submissions_in_doubt: Submissions that may have created a job whose id never arrived.
        unfinished_jobs: Ids of accepted jobs whose answers did not arrive, if a run in memory
            ended early: `PingDataClient` can still fetch them. A run on disk keeps them itself.
        requests: HTTP requests of the bulk endpoints.
        retries: Of those, requests sent again after a failure.
        refused: Answers 429 and 503.
        seconds: Wall time.
        output: The output file.
        failures: The file of the rows without an answer; None if there are none.
        run_dir: The run directory; None if it was discarded.
        environment: The API's environment ("sandbox": all answers are made up); None if only a
            url was given.
        run_id: The id that the events of the call have.
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
    locations_reused: int = 0
    reused_by_source: dict[str, int] = msgspec.field(default_factory=dict)
    oldest_reused_at: dt.datetime | None = None
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
    run_id: str | None = None

    def report(self, path: str | Path | None = None, *, rows: bool = True) -> Path:
        """Write the run's report, one HTML file; it costs nothing.

        It blocks, some two minutes for a million rows; in a coroutine, call it by
        `anyio.to_thread.run_sync(summary.report)`.

        Args:
            path: The file, which is replaced; None for the name of the output and ".html".
            rows: Whether addresses, ids and points of single rows are in it.

        Returns:
            The file.

        Raises:
            ConfigurationError: When the package that draws is not installed.
            RunError: When there is no run directory, or the file cannot be written.
        """
        from pingdata_async.report.page import write_report  # noqa: PLC0415 - only here, and late

        if self.run_dir is None:
            raise RunError("a report reads the run directory, and this run has none")
        return write_report(self.run_dir, path, rows=rows)


class EnhancedLocations(list[EnhancedLocation]):
    """The list of results that `BulkEnhancer.enhance()` returns, in input order.

    Attributes:
        summary: What the call did and charged. Look at `locations_in_doubt` and
            `locations_possibly_charged_again`.
    """

    def __init__(
        self, results: Iterable[EnhancedLocation] = (), *, summary: RunSummary | None = None
    ) -> None:
        super().__init__(results)
        self.summary: RunSummary = RunSummary() if summary is None else summary

    def __repr__(self) -> str:
        shown = list(map(repr, self[:SHOWN_RESULTS]))
        if len(self) > SHOWN_RESULTS:
            shown.append(f"... and {len(self) - SHOWN_RESULTS:,} more")
        return f"<EnhancedLocations, {counted(len(self), 'row')}:\n" + "\n".join(shown) + ">"

    def carried_by(self, error: BaseException) -> BaseException:
        """The error to raise in place of this one, with these results."""
        if isinstance(error, PingDataError):
            error.results, error.summary = self, self.summary
            return error
        # Not by getattr: a property may raise, and hide all of this.
        theirs = vars(error).get("results", self)
        if hasattr(type(error), "results") or not isinstance(theirs, EnhancedLocations):
            return self.carried_by(PingDataError(f"{type(error).__name__}: {error}"))
        vars(error)["results"] = self
        if isinstance(error, Exception):
            error.add_note(f"in its `results`: {counted(len(self), 'answered location')}")
        return error


class DataSource(msgspec.Struct, frozen=True, kw_only=True):
    """A data source, as `GET /api/v1/datasources` describes it.

    Attributes:
        code: The code that `sources` takes, such as PG.
        name: Its name for people; "" if not given.
        required_attrs: Fields of a location that it needs.
        optional_attrs: Fields of a location that it can use.
        requires_credentials: Whether it needs credentials of its own; None if not given.
        non_supported_input_values: Values that it does not accept, as the API sent them.
        supported_countries: None for all.
        supported_us_states: None for all.
        excluded_us_states: None for none.
        geocode_confidence_required: As the API sent it; None if not given.
        geocode_precision_required: As the API sent it; None if not given.
        output_fields: The type of each field of its answers, by name, those that all sources share
            included; "" for a type that the API does not give.
        as_sent: The whole description as the API sent it, with what each field means.
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
