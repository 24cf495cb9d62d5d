"""Spans and metrics, as the OpenTelemetry SDK gets them."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pingdata_async import (
    ConfigurationError,
    HTTPOptions,
    JobOutput,
    PingDataClient,
    PingDataError,
    RetryPolicy,
    Telemetry,
)
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.runs import enhancer, read_addresses, write_rows
from tests.support.servers import TOKEN, LocalApi, always, by_path, client_of, redirect

QUICK = RetryPolicy(base_delay_s=0.001, max_delay_s=0.01)


class Seen:
    """A telemetry, and what the SDK has got of it."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        meters = MeterProvider([self._reader])
        self.telemetry = Telemetry(meters.get_meter("test"), self.tracers.get_tracer("test"))

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        (scope,) = data.resource_metrics[0].scope_metrics
        return [
            point
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def by(self, name: str, label: str) -> dict[Any, int]:
        """The values of a counter by a label; those that are 0 are left out."""
        counts: Counter[Any] = Counter()
        for point in self.points(name):
            counts[point.attributes.get(label)] += point.value
        return dict(+counts)

    def total(self, name: str) -> int:
        return sum(point.value for point in self.points(name))

    def everything(self) -> str:
        """All that leaves the process."""
        spans = "".join(span.to_json() for span in self._exporter.get_finished_spans())
        data = self._reader.get_metrics_data()
        return spans + (data.to_json() if data is not None else "")


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    span_id: int = span.context.span_id
    return span_id


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_spans_of_a_call() -> None:
    """The call stands below the caller's span, its jobs below it, and requests below their job."""
    seen = Seen()
    async with (
        SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0) as sandbox,
        client_of(sandbox.url, telemetry=seen.telemetry) as client,
    ):
        with seen.tracers.get_tracer("app").start_as_current_span("app") as app:
            results = await enhancer(client, chunk_size=30).enhance(read_addresses()[:60])
        await client.limits()
        url = sandbox.url
    (call,) = seen.spans("pingdata.enhance")
    assert parent_of(call) == app.get_span_context().span_id
    assert call.status.status_code is StatusCode.UNSET
    jobs = seen.spans("pingdata.job")
    assert [parent_of(job) for job in jobs] == [id_of(call)] * 2
    told = [attributes_of(job) for job in jobs]
    assert {each["pingdata.chunk"] for each in told} == {0, 1}
    assert [each["pingdata.locations"] for each in told] == [30, 30]
    ok = sum(result.status == "ok" for result in results)
    assert sum(each["pingdata.rows.ok"] for each in told) == ok
    submissions = seen.spans("POST /api/v1/bulk_enhance")
    assert {parent_of(each) for each in submissions} == {id_of(job) for job in jobs}
    polled = {parent_of(each) for each in seen.spans("GET /api/v1/bulk_enhance/{id}")}
    assert polled == {id_of(job) for job in jobs}
    assert all(each.kind is SpanKind.CLIENT for each in submissions)
    (limits,) = seen.spans("GET /api/v1/limits")
    assert parent_of(limits) is None
    assert attributes_of(limits) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int(url.rpartition(":")[2]),
        "url.scheme": "http",
        "url.full": f"{url}/api/v1/limits",
        "url.template": "/api/v1/limits",
    }


async def test_metrics_are_what_the_summary_says() -> None:
    """Also where requests are refused, and answers are lost: nothing is counted twice, or not."""
    seen = Seen()
    faults = FaultPlan(rate_limit=0.15, retry_after_s=0, lost_answer=0.3)
    async with (
        SandboxServer(
            locations_per_s=math.inf, queue_delay_s=0.0, retry_after_s=None, faults=faults, seed=5
        ) as sandbox,
        client_of(sandbox.url, telemetry=seen.telemetry) as client,
    ):
        many = enhancer(client, sources=["PG", "PH"], chunk_size=4, max_jobs=25, retry_policy=QUICK)
        results = await many.enhance(read_addresses()[:100])
    summary = results.summary
    by_status = {"ok": summary.ok, "partial": summary.partial, "failed": summary.failed}
    assert seen.by("pingdata.rows", "status") == {k: v for k, v in by_status.items() if v}
    assert seen.by("pingdata.locations.charged", "source") == summary.charged_by_source
    assert seen.total("pingdata.submissions.in_doubt") == summary.submissions_in_doubt > 0
    assert seen.total("pingdata.locations.in_doubt") == summary.locations_in_doubt
    assert seen.total("pingdata.refusals") == summary.refused > 0
    assert seen.total("pingdata.jobs.in_flight") == 0
    (queued,) = seen.points("pingdata.queue.duration")
    assert queued.count == summary.jobs
    requests = seen.points("http.client.request.duration")
    assert sum(point.count for point in requests) == summary.requests
    assert {point.attributes.get("http.response.status_code") for point in requests} >= {200, 429}
    again = [span for span in seen.spans("") if "http.request.resend_count" in attributes_of(span)]
    assert len(again) == summary.retries
    refused = [
        span
        for span in seen.spans("")
        if attributes_of(span).get("http.response.status_code") == 429
    ]
    assert refused
    for span in refused:
        assert attributes_of(span)["error.type"] == "429"
        assert span.status.status_code is StatusCode.ERROR


async def test_a_run_and_its_resumption(tmp_path: Path) -> None:
    """A run that stops has a span with the error, and its jobs are not in flight any more."""
    write_rows(tmp_path / "in.csv", 60)
    seen = Seen()
    async with (
        SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0) as sandbox,
        client_of(sandbox.url, telemetry=seen.telemetry) as client,
    ):
        with pytest.raises(PingDataError):
            await enhancer(client).run(
                tmp_path / "in.csv", tmp_path / "out.jsonl", max_locations=40
            )
        (stopped,) = seen.spans("pingdata.run")
        assert attributes_of(stopped)["error.type"] == "BudgetSpentError"
        summary = await enhancer(client).resume(tmp_path / "out.jsonl.run", max_locations=1000)
    (_, resumed) = seen.spans("pingdata.run")
    assert attributes_of(resumed) == {"pingdata.run_id": summary.run_id}
    assert sum(parent_of(job) == id_of(resumed) for job in seen.spans("pingdata.job")) >= 1
    (preflight, *_) = seen.spans("GET /api/v1/limits")
    assert parent_of(preflight) in {id_of(stopped), id_of(resumed)}
    assert seen.total("pingdata.rows") == 60
    assert seen.total("pingdata.jobs.in_flight") == 0


async def test_calls_that_share_jobs() -> None:
    """The job is below no call; each links to it. Every row is counted once, sent or not."""
    seen = Seen()
    async with (
        SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0) as sandbox,
        client_of(sandbox.url, telemetry=seen.telemetry) as client,
        anyio.create_task_group() as tasks,
    ):
        many = enhancer(client)
        app = seen.tracers.get_tracer("app")
        for row in range(3):
            with app.start_as_current_span(f"app{row}"):
                tasks.start_soon(many.enhance, [read_addresses()[row], {"id": "nothing"}])
    calls = seen.spans("pingdata.enhance")
    assert {parent_of(call) for call in calls} == {id_of(span) for span in seen.spans("app")}
    jobs = seen.spans("pingdata.job")
    assert {parent_of(job) for job in jobs} == {None}
    linked = {link.context.span_id for call in calls for link in call.links}
    assert linked == {id_of(job) for job in jobs}
    assert all(len(call.links) == 1 for call in calls)
    by_status = seen.by("pingdata.rows", "status")
    assert sum(by_status.values()) == 6
    assert by_status["failed"] >= 3
    assert seen.by("pingdata.locations.charged", "source") == {"PG": 3}
    assert seen.total("pingdata.jobs.in_flight") == 0


async def test_jobs_that_are_abandoned() -> None:
    """They are no longer counted, and their spans end."""
    seen = Seen()
    async with (
        SandboxServer(job_s=3600.0, queue_delay_s=0.0) as sandbox,
        client_of(sandbox.url, telemetry=seen.telemetry) as client,
    ):
        stream = enhancer(client, chunk_size=30).stream(read_addresses()[:40])
        async with stream:
            while seen.total("pingdata.jobs.in_flight") < 2:
                await client.limits()
    assert seen.total("pingdata.jobs.in_flight") == 0
    left = [attributes_of(span) for span in seen.spans("pingdata.job")]
    assert [each["pingdata.job.abandoned"] for each in left] == [True, True]
    (call,) = seen.spans("pingdata.enhance")
    assert call.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("moment", ["on_request_start", "on_request_end"])
async def test_a_request_that_is_cancelled_in_a_hook(moment: str) -> None:
    """It is counted once, and its span ends once."""
    seen, reached = Seen(), anyio.Event()

    async def hang(*_: Any) -> None:
        reached.set()
        await anyio.sleep_forever()

    hooks = aiohttp.TraceConfig()
    getattr(hooks, moment).append(hang)
    http = HTTPOptions(trace_configs=[hooks])
    async with (
        LocalApi(always({})) as api,
        client_of(api.url, telemetry=seen.telemetry, http=http) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.limits)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert len(seen.spans("GET")) == 1
    assert sum(point.count for point in seen.points("http.client.request.duration")) == 1


async def test_nothing_secret_is_told() -> None:
    """Neither token, nor address, nor query, nor paths elsewhere, which may be keys."""
    key = f"key{random.randrange(10**9)}"
    bucket = LocalApi(always({}))
    async with bucket:
        elsewhere = f"{bucket.url}/{key}/o.json?signature={key}"
        answers = {
            "/api/v1/enhance": always({"message": "no Dexter Avenue"}, status=400),
            "/api/v1/sov/J/output/o.json": redirect(elsewhere),
        }
        async with LocalApi(by_path(answers)) as api:
            seen = Seen()
            async with client_of(api.url, telemetry=seen.telemetry) as client:
                with pytest.raises(PingDataError):
                    await client.enhance("600 Dexter Avenue", sources=["PG"])
                results = enhancer(client, retry_policy=QUICK).enhance(["600 Dexter Avenue"])
                with pytest.raises(PingDataError):
                    await results
                output = f"{api.url}/api/v1/sov/J/output/o.json?key={key}"
                job = await client.fetch_output("J", JobOutput(url=output, filename="o.json"))
                assert job == b"{}"
    told = seen.everything()
    assert "/REDACTED" in told
    assert "/api/v1/enhance" in told
    for secret in (TOKEN, "Dexter", "address=", key):
        assert secret not in told


async def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said how to get it; a client without telemetry needs none."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"pip install \"pingdata-async\[otel\]\""):
        PingDataClient(telemetry=True)
    PingDataClient()


async def test_global_providers() -> None:
    """Without a provider, OpenTelemetry's own do nothing, at no harm."""
    async with PingDataClient(environment="sandbox", telemetry=True) as client:
        assert len(await enhancer(client).enhance(read_addresses()[:2])) == 2
