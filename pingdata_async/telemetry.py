"""Telemetry: the events and requests of a client as spans and metrics of OpenTelemetry.

    client = PingDataClient(telemetry=True)  # pip install "pingdata-async[otel]"

Spans: `pingdata.enhance` for a call in memory, `pingdata.run` for one from file to file, with the
`run_id` of its events; `pingdata.job` for each chunk of it that is sent; and below these one for
each HTTP request, with the attributes of the semantic conventions. Nothing is made for a single
row. No attribute holds a token, an address, a query or a message; of urls, only paths of the API
are shown.

Without it, neither this module nor OpenTelemetry is loaded.
"""

from __future__ import annotations

import contextvars
import re
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from pingdata_async._version import __version__
from pingdata_async.events import (
    ChunkFinished,
    ChunkHeld,
    ChunkSplit,
    Event,
    JobAbandoned,
    JobKept,
    JobPolled,
    JobSubmitted,
    RequestSent,
    SubmissionInDoubt,
)
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.models import JobPhase, RequestKind, phase_of

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

SCOPE = "pingdata_async"
REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""As the semantic conventions advise."""
JOB_BUCKETS_S = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
ERROR_FROM = 400
REFUSALS = (429, 503)

_API_PATH = re.compile(r"/api/v1/[a-z_]+(/[^/]+)?")
_ENDED = frozenset({JobPhase.COMPLETE, JobPhase.FAILED, JobPhase.BROKEN_OFF})

Attributes = Mapping[str, str | int]


class Counter(Protocol):
    """What counts, up, or up and down."""

    def add(self, amount: int, attributes: Attributes | None = None) -> None:
        """Add to it."""


class Histogram(Protocol):
    """What takes durations."""

    def record(self, amount: float, attributes: Attributes | None = None) -> None:
        """Take one."""


class Meter(Protocol):
    """What makes instruments, as `opentelemetry.metrics.Meter` does."""

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        """What counts up."""
        ...

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        """What counts up and down."""
        ...

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        """What takes durations."""
        ...


class Telemetry:
    """Where spans and metrics go; `telemetry=True` of a client is one of the global providers.

    One may be shared by clients of several event loops and threads.

    Args:
        meter: An OpenTelemetry meter.
        tracer: An OpenTelemetry tracer; None for no spans.
    """

    def __init__(self, meter: Meter, tracer: Tracer | None = None) -> None:
        self.spans: Spans | None = None if tracer is None else Spans(tracer)
        self.rows: Counter = meter.create_counter(
            "pingdata.rows", "{row}", "Rows that have an outcome, by status"
        )
        self.jobs_in_flight: Counter = meter.create_up_down_counter(
            "pingdata.jobs.in_flight", "{job}", "Jobs submitted that have not ended"
        )
        self.queue_time: Histogram = meter.create_histogram(
            "pingdata.queue.duration",
            "s",
            "From when a chunk could be sent until the request that made it a job",
            explicit_bucket_boundaries_advisory=JOB_BUCKETS_S,
        )
        self.job_time: Histogram = meter.create_histogram(
            "pingdata.job.duration",
            "s",
            "From when a job was accepted until it was seen to have ended",
            explicit_bucket_boundaries_advisory=JOB_BUCKETS_S,
        )
        self.request_time: Histogram = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "From when a request was begun until the head of its answer, or an error",
            explicit_bucket_boundaries_advisory=REQUEST_BUCKETS_S,
        )
        self.refusals: Counter = meter.create_counter(
            "pingdata.refusals", "{request}", "Requests answered with 429 or 503"
        )
        self.submissions_in_doubt: Counter = meter.create_counter(
            "pingdata.submissions.in_doubt", "{submission}", "Submissions that may have made a job"
        )
        self.locations_in_doubt: Counter = meter.create_counter(
            "pingdata.locations.in_doubt", "{location}", "Locations of submissions in doubt"
        )
        self.locations_charged: Counter = meter.create_counter(
            "pingdata.locations.charged", "{location}", "Locations of accepted jobs, by source"
        )

        # What will be counted is there from the start: else its first increase would go unseen.
        for counter in (self.submissions_in_doubt, self.locations_in_doubt, self.jobs_in_flight):
            counter.add(0)
        for status in ("ok", "partial", "failed"):
            self.rows.add(0, {"status": status})
        for code in REFUSALS:
            self.refusals.add(0, {"http.response.status_code": code})

    def call(self, name: str, run_id: str) -> CallTelemetry:
        """A call of an enhancer, such as "enhance"; to be entered, and told of its events."""
        return CallTelemetry(self, name, run_id)

    def shared_jobs(self) -> CallTelemetry:
        """The jobs that calls share, which are below none of them."""
        return CallTelemetry(self)

    def shared_call(self, run_id: str) -> SharedCallTelemetry:
        """A call whose rows are in shared jobs."""
        return SharedCallTelemetry(self, "enhance", run_id)

    # -- called by aiohttp, in the task that sends the request ---------------------------

    async def on_request_start(
        self, _session: object, context: SimpleNamespace, params: Any
    ) -> None:
        """A request begins."""
        context.began = time.perf_counter()
        if self.spans is not None:
            context.span = self.spans.request(params.method, params.url)

    async def on_request_end(self, _session: object, context: SimpleNamespace, params: Any) -> None:
        """The head of an answer has arrived."""
        status = params.response.status
        self._end_request(context, params, status, str(status) if status >= ERROR_FROM else None)

    async def on_request_exception(
        self, _session: object, context: SimpleNamespace, params: Any
    ) -> None:
        """There is no answer."""
        self._end_request(context, params, None, type(params.exception).__qualname__)

    def _end_request(
        self, context: SimpleNamespace, params: Any, status: int | None, error: str | None
    ) -> None:
        # Both an answer and an error, if what else hears of the answer was cancelled.
        began = context.__dict__.pop("began", None)
        if began is None:
            return
        attributes: dict[str, str | int] = {}
        if status is not None:
            attributes["http.response.status_code"] = status
        if status in REFUSALS:
            self.refusals.add(1, attributes)
        if error is not None:
            attributes["error.type"] = error
        if self.spans is not None:
            self.spans.end(context.span, attributes, error)
        self.request_time.record(
            time.perf_counter() - began,
            _target(params.method, params.url) | attributes,
        )


def global_telemetry() -> Telemetry:
    """One of OpenTelemetry's global providers.

    Raises:
        ConfigurationError: When OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise ConfigurationError(
            'telemetry=True needs opentelemetry-api: pip install "pingdata-async[otel]"'
        ) from error
    return Telemetry(metrics.get_meter(SCOPE, __version__), trace.get_tracer(SCOPE, __version__))


def _target(method: str, url: Any) -> dict[str, str | int]:
    return {
        "http.request.method": method,
        "server.address": url.host,
        "server.port": url.port,
        "url.scheme": url.scheme,
    }


class _NextRequest(NamedTuple):
    """What a request that is about to leave belongs to."""

    parent: Context
    attempt: int


_next_request: contextvars.ContextVar[_NextRequest | None] = contextvars.ContextVar(
    "pingdata_async_next_request", default=None
)


class Spans:
    """Starts and ends spans.

    Args:
        tracer: What makes them.
    """

    def __init__(self, tracer: Tracer) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - an optional package

        self._context, self._trace = context, trace
        self._tracer = tracer
        self.jobs: dict[str, Span] = {}  # that have not ended, by id

    def start(self, name: str, parent: Context | None = None) -> Span:
        """Start one below a parent; None for the one that is current."""
        return self._tracer.start_span(name, parent)

    def root(self) -> Context:
        """What has spans below it that are below no other."""
        return self._context.Context()

    def context_of(self, span: Span) -> Context:
        """What makes it the parent of others."""
        return self._trace.set_span_in_context(span)

    def enter(self, span: Span) -> Any:
        """Make it the current one; returns what `leave()` needs."""
        return self._context.attach(self.context_of(span))

    def leave(self, token: Any) -> None:
        """Make current again what was so before."""
        self._context.detach(token)

    def request(self, method: str, url: Any) -> Span:
        """Start the span of a request: of the chunk whose event came before, or the current one."""
        owner = _next_request.get()
        attributes = _target(method, url)
        found = _API_PATH.search(url.path)
        path = found[0] if found else "/REDACTED"  # elsewhere, a path may be a key
        port = "" if url.is_default_port() else f":{url.port}"
        attributes["url.full"] = f"{url.scheme}://{url.host}{port}{path}"
        name = method
        if found:
            template = found[0].removesuffix(found[1] or "") + ("/{id}" if found[1] else "")
            attributes["url.template"] = template
            name = f"{method} {template}"
        if owner is not None and owner.attempt > 1:
            attributes["http.request.resend_count"] = owner.attempt - 1
        return self._tracer.start_span(
            name,
            None if owner is None else owner.parent,
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
        )

    def end(
        self, span: Span | None, attributes: Attributes | None = None, error: str | None = None
    ) -> None:
        """End one.

        Args:
            span: The span; None for none.
            attributes: What else is known of it.
            error: The kind of what went wrong; None for nothing. Messages may hold addresses.
        """
        if span is None:
            return
        span.set_attributes(attributes or {})
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()


class _Job:
    """A chunk that is being sent, and its job."""

    def __init__(self, span: Span | None, parent: Context | None) -> None:
        self.span = span
        self.parent = parent  # of its requests
        self.id = ""
        self.accepted_at: float | None = None
        self.is_in_flight = False


class CallTelemetry:
    """The spans and metrics of one call, made from its events.

    Args:
        telemetry: Where they go.
        name: Of the call; "" for no span of its own.
        run_id: Of its events.
    """

    def __init__(self, telemetry: Telemetry, name: str = "", run_id: str = "") -> None:
        self._to = telemetry
        self._name, self._run_id = name, run_id
        self._span: Span | None = None
        self._token: Any = None
        self._parent: Context | None = None
        self._jobs: dict[int, _Job] = {}  # by chunk

    def __enter__(self) -> Self:
        """Start the span of the call, and make it the current one."""
        spans = self._to.spans
        if spans is not None and not self._name:
            self._parent = spans.root()
        elif spans is not None:
            self._span = spans.start(f"pingdata.{self._name}")
            self._span.set_attribute("pingdata.run_id", self._run_id)
            self._token = spans.enter(self._span)
            self._parent = spans.context_of(self._span)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it, with the jobs that are left to themselves."""
        for chunk in list(self._jobs):
            self._end_job(chunk, {"pingdata.job.abandoned": True})
        spans = self._to.spans
        if spans is not None and self._span is not None:
            spans.leave(self._token)
            spans.end(self._span, error=None if kind is None else kind.__qualname__)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        match event:
            case RequestSent():
                self._request(event)
            case JobSubmitted():
                self._submitted(event)
            case JobPolled():
                if phase_of(event.status.upper(), None, names_outputs=False) in _ENDED:
                    self._no_longer_in_flight(self._jobs.get(event.chunk))
            case SubmissionInDoubt():
                self._to.submissions_in_doubt.add(1)
                self._to.locations_in_doubt.add(event.locations)
            case ChunkFinished():
                self._finished(event)
            case JobAbandoned() | JobKept() | ChunkHeld():
                self._end_job(event.chunk, error=type(event).__name__)
            case ChunkSplit():
                self._end_job(event.chunk)
            case _:
                pass

    def _request(self, event: RequestSent) -> None:
        spans = self._to.spans
        job = self._jobs.get(event.chunk)
        if job is None:
            span = parent = None
            if spans is not None:
                span = spans.start("pingdata.job", self._parent)
                span.set_attribute("pingdata.chunk", event.chunk)
                parent = spans.context_of(span)
            job = self._jobs[event.chunk] = _Job(span, parent)
            if event.kind is not RequestKind.SUBMIT:  # an earlier process submitted it
                self._in_flight(job, event.job_id or "")
        if job.parent is not None:
            _next_request.set(_NextRequest(job.parent, event.attempt))

    def _submitted(self, event: JobSubmitted) -> None:
        to = self._to
        to.queue_time.record(event.queued_s)
        for source, locations in event.charged_by_source.items():
            to.locations_charged.add(locations, {"source": source})
        job = self._jobs.get(event.chunk)
        if job is not None:
            job.accepted_at = time.perf_counter()
            self._in_flight(job, event.job_id)
            if job.span is not None:
                job.span.set_attribute("pingdata.locations", event.locations)

    def _in_flight(self, job: _Job, job_id: str) -> None:
        job.is_in_flight = True
        self._to.jobs_in_flight.add(1)
        job.id = job_id
        if job.span is not None and self._to.spans is not None:
            job.span.set_attribute("pingdata.job.id", job_id)
            self._to.spans.jobs[job_id] = job.span

    def _no_longer_in_flight(self, job: _Job | None) -> None:
        if job is None or not job.is_in_flight:
            return
        job.is_in_flight = False
        self._to.jobs_in_flight.add(-1)
        if job.accepted_at is not None:
            self._to.job_time.record(time.perf_counter() - job.accepted_at)

    def _finished(self, event: ChunkFinished) -> None:
        counts = {"ok": event.ok, "partial": event.partial, "failed": event.failed}
        for status, rows in counts.items():
            if rows:
                self._to.rows.add(rows, {"status": status})
        self._end_job(event.chunk, {f"pingdata.rows.{name}": n for name, n in counts.items()})

    def _end_job(
        self, chunk: int, attributes: Attributes | None = None, error: str | None = None
    ) -> None:
        job = self._jobs.pop(chunk, None)
        if job is not None:
            self._no_longer_in_flight(job)
            if self._to.spans is not None:
                self._to.spans.end(job.span, attributes, error)
                self._to.spans.jobs.pop(job.id, None)


class SharedCallTelemetry(CallTelemetry):
    """The span of a call whose rows are in jobs that it shares; it links to theirs.

    Rows that are sent are counted with their job.
    """

    def __call__(self, event: Event) -> None:
        """Link to the span of a job."""
        spans = self._to.spans
        if isinstance(event, JobSubmitted) and spans is not None and self._span is not None:
            job = spans.jobs.get(event.job_id)
            if job is not None:
                self._span.add_link(job.get_span_context())

    def count_failed(self, rows: int) -> None:
        """Count rows that cannot be sent."""
        if rows:
            self._to.rows.add(rows, {"status": "failed"})
