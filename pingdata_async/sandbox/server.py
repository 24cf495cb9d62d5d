"""The sandbox as a server: its endpoints, its socket.

Each endpoint has one handler; a middleware counts, injects faults and checks the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import random
import ssl
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Self, cast

import aiohttp
from aiohttp import web

from pingdata_async.sandbox.account import BULK_KINDS, Account, Throttle, iso
from pingdata_async.sandbox.answers import NAMES, SOURCES, answer_location
from pingdata_async.sandbox.downloads import encode, send_output
from pingdata_async.sandbox.faults import AnswerFault, FaultInjector, JobFate, RequestFault
from pingdata_async.sandbox.jobs import Job, JobQueue, Order, SubmissionReview, describe
from pingdata_async.sandbox.settings import SandboxSettings
from pingdata_async.sandbox.stats import Recorder, SandboxStats
from pingdata_async.sandbox.validation import (
    Refusal,
    check_locations,
    read_enhance_query,
    read_submission,
    source_config,
    unzip,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CALLBACK_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_CALLBACKS_AT_ONCE: Final = 8
# The jobs follow a clock that tests may turn by hand, so it has to be polled.
_CLOCK_INTERVAL_S: Final = 0.05
_STATS_ROUTE: Final = "stats"
_NO_SUCH_JOB: Final = "There is no such job"
# A job of thousands of locations must not hold up everybody else's requests.
_LOCATIONS_AT_ONCE: Final = 250
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SERVER_ERRORS: Final = (500, 502, 503, 504)
_BUSY: Final = (429, 503)
# From accepting a connection to aiohttp's knowing it; one round is left to spare.
_ROUNDS_TO_ACCEPT: Final = 5
_HTML_PAGE: Final = """<!DOCTYPE html>
<html><head><title>{status} {phrase}</title></head>
<body><center><h1>{status} {phrase}</h1></center><hr><center>nginx</center></body></html>
"""


class SandboxAPI:
    """The sandbox without its socket: the state, and the handlers that work on it."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        started_at_s = settings.wall_clock()
        clock_s = settings.clock()
        self._wall_offset_s = started_at_s - clock_s
        # The start time is mixed in because the API never gives an id twice: a sandbox that is
        # started again must not take a poll for an old job for one of its own. Not a secret.
        self._ids = random.Random(f"ids {settings.seed} {started_at_s}")  # noqa: S311
        self._injector = FaultInjector(settings.faults, settings.seed)
        self._account = Account(settings.limits, settings.allowed_sources)
        self._recorder = Recorder(clock_s)
        self._review = SubmissionReview(
            self._injector, self._recorder.counts.faults, settings.no_match_share
        )
        self._throttle = Throttle(settings, self._recorder.counts, self._wall_offset_s)
        self._jobs = JobQueue(settings, self._new_id, self._recorder.ended)
        self._callbacks: set[asyncio.Task[None]] = set()
        self._callback_permits = asyncio.Semaphore(_CALLBACKS_AT_ONCE)

    def make_app(self) -> web.Application:
        """The web application, new for each start."""
        # The body's size is checked when it is unpacked; aiohttp's own limit is on the packed one.
        app = web.Application(
            middlewares=[self._around], client_max_size=self._settings.max_body_bytes
        )
        app.on_response_prepare.append(self._date_it)
        app.on_cleanup.append(self._stop_callbacks)
        get = app.router.add_get
        app.router.add_post("/api/v1/bulk_enhance", self._submit, name="submit")
        get("/api/v1/bulk_enhance/{id}", self._status, name="status", allow_head=False)
        output = "/output/{filename}"
        get("/api/v1/sov/{id}" + output, self._output, name="output", allow_head=False)
        get("/api/v1/bulk_enhance/{id}" + output, self._output, name="output_2", allow_head=False)
        get("/api/v1/enhance", self._enhance, name="enhance", allow_head=False)
        get("/api/v1/limits", self._limits, name="limits", allow_head=False)
        get("/api/v1/usage", self._usage, name="usage", allow_head=False)
        get("/api/v1/datasources", self._datasources, name="datasources", allow_head=False)
        get("/api/v1/datasources/{code}", self._datasource, name="datasource", allow_head=False)
        get("/sandbox/stats", self._stats, name=_STATS_ROUTE, allow_head=False)
        return app

    def stats(self) -> SandboxStats:
        """The counts at this moment."""
        return self._recorder.snapshot(self._jobs, self._settings.clock())

    # -- around every request

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        route = (request.match_info.route.name or "unknown").removesuffix("_2")
        if route == _STATS_ROUTE:
            return await handler(request)
        kind = route if route in BULK_KINDS else "other"
        self._recorder.request(kind, request.transport)
        self._throttle.arrived(kind, self._settings.clock())
        try:
            response = await self._inject(request)
            if response is None:
                self._authorize(request)
                if kind in BULK_KINDS:
                    self._throttle.admit(self._settings.clock())
                response = await handler(request)
        except Refusal as refusal:
            response = self._json(
                {"message": refusal.message, **refusal.details},
                status=refusal.status,
                headers=refusal.headers,
            )
        except web.HTTPException as error:
            # aiohttp's own: no such path, wrong method, body too large
            response = self._json({"message": error.reason}, status=error.status)
        if response.status >= HTTPStatus.BAD_REQUEST:
            self._recorder.counts.refusals[response.status] += 1
        if response.status in _BUSY:
            self._recorder.counts.refused[kind] += 1
        return response

    async def _date_it(self, request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG002 - a signal
        if date := self._throttle.date_header(self._settings.clock()):
            response.headers["Date"] = date

    def _authorize(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        expected = self._settings.token
        problem = None
        if scheme != "Token" or not token:
            problem = "Authentication credentials were not provided."
        elif expected is not None and not hmac.compare_digest(token.encode(), expected.encode()):
            problem = "Invalid token."
        if problem:
            raise Refusal(HTTPStatus.UNAUTHORIZED, problem, id=self._new_id())

    async def _inject(self, request: web.Request) -> web.StreamResponse | None:
        """The answer of a fault; None if the request goes through."""
        faults = self._recorder.counts.faults
        if self._injector.slow():
            faults["slow_answer"] += 1
            await (self._settings.sleep or asyncio.sleep)(self._injector.plan.slow_answer_s)
        fault = self._injector.on_request()
        if fault is None:
            return None
        faults[fault.plan_name] += 1
        # The whole request is read first: a client that is still sending when the connection
        # closes may never see the answer.
        if fault is not RequestFault.DROP or self._injector.choose((True, False)):
            await request.read()
        if fault is RequestFault.DROP:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if fault is RequestFault.RATE_LIMIT:
            retry_after_s = self._injector.retry_after_s()
            headers = self._throttle.hold_back(retry_after_s, self._settings.clock())
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "Request was throttled.", headers=headers)
        if fault is RequestFault.HTML_ERROR:
            status = self._injector.choose((HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE))
            page = _HTML_PAGE.format(status=status.value, phrase=status.phrase)
            return web.Response(status=status, text=page, content_type="text/html")
        return self._error(
            self._injector.choose(tuple(HTTPStatus(code) for code in _SERVER_ERRORS))
        )

    # -- jobs

    async def _submit(self, request: web.Request) -> web.Response:
        body = unzip(
            await request.read(),
            request.headers.get("Content-Encoding", "").strip().lower(),
            self._settings.max_body_bytes,
        )
        self._admit_job()
        submission = read_submission(body)
        self._review.refuse(submission.locations)
        order = Order(submission.options, submission.callback_url)
        locations, prints = [], []
        for index, location in enumerate(check_locations(submission)):
            locations.append(location)
            prints.append(self._review.survey(order, index, location))
            if index % _LOCATIONS_AT_ONCE == _LOCATIONS_AT_ONCE - 1:
                await asyncio.sleep(0)
        asked = {code: tally.successes + tally.fails for code, tally in order.tallies.items()}
        # Once more: others may have been accepted since.
        self._admit_job()
        self._throttle.admit_locations(len(locations), self._settings.clock())
        self._account.charge(asked, self._now())
        self._throttle.charge(len(locations))
        self._review.settle(order, locations)
        job = self._jobs.accept(order, locations, self._settings.clock())
        self._recorder.accepted(prints)
        if order.callback_url is not None:
            task = asyncio.create_task(self._call_back(job, order.callback_url))
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)
        return self._accepted(request, job)

    def _admit_job(self) -> None:
        now_s = self._settings.clock()
        self._throttle.admit_job(self._jobs.num_in_flight(now_s), now_s)

    async def _call_back(self, job: Job, url: str) -> None:
        """POST once to ``callback_url`` that a job has ended, unless it was lost.

        The real API's payload is not documented; this one is ``{"id": ..., "status": ...}``.
        """
        while self._settings.clock() < job.leaves_at_s:  # noqa: ASYNC110 - a clock has no event
            await asyncio.sleep(_CLOCK_INTERVAL_S)
        if job.is_lost:
            return
        payload = {"id": job.id, "status": job.status(job.ended_at_s)}
        is_taken = False
        # time-outs are OSErrors
        with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
            async with (
                self._callback_permits,
                aiohttp.ClientSession(timeout=_CALLBACK_TIMEOUT) as session,
                session.post(url, json=payload, allow_redirects=False) as response,
            ):
                is_taken = response.status < HTTPStatus.MULTIPLE_CHOICES
        self._recorder.counts.callbacks["delivered" if is_taken else "failed"] += 1

    async def _stop_callbacks(self, app: web.Application) -> None:  # noqa: ARG002 - a signal
        for task in self._callbacks:
            task.cancel()
        await asyncio.gather(*self._callbacks, return_exceptions=True)

    def _accepted(self, request: web.Request, job: Job) -> web.Response:
        """The answer to an accepted submission, which may not name the job."""
        fault = self._injector.on_answer()
        if fault is None:
            return self._json({"id": job.id, "message": "OK"}, status=HTTPStatus.CREATED)
        self._recorder.counts.faults[fault.plan_name] += 1
        if fault is AnswerFault.CLOSED:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if fault is AnswerFault.NO_ID:
            nothing: tuple[dict[str, Any], ...] = ({}, {"id": None}, {"id": ""})
            if self._injector.choose((True, False)):
                return web.Response(status=HTTPStatus.CREATED)
            answer = self._injector.choose(nothing) | {"message": "OK"}
            return self._json(answer, status=HTTPStatus.CREATED)
        return self._error(HTTPStatus(int(fault.value.rpartition(":")[2])))

    def _error(self, status: HTTPStatus) -> web.Response:
        """An error of the API itself, with JSON or with no body."""
        if self._injector.choose((True, False)):
            return web.Response(status=status)
        return self._json({"message": status.phrase}, status=status)

    async def _status(self, request: web.Request) -> web.Response:
        now_s = self._settings.clock()
        job = self._job(request, now_s)
        if job.order.fate is JobFate.LOST_ONCE_TOLD and job.is_told:
            raise Refusal(HTTPStatus.NOT_FOUND, _NO_SUCH_JOB)
        path = f"/api/v1/sov/{job.id}/output/{job.filename}"
        origin = "" if self._settings.relative_urls else f"{request.scheme}://{request.host}"
        self._recorder.counts.polls += 1
        job.is_told = job.is_told or now_s >= job.ended_at_s
        answer = describe(
            job,
            now_s,
            timestamp=lambda at_s: iso(self._date(at_s)) if self._settings.dates else None,
            output_url=origin + path,
            as_objects=self._settings.shape == "object",
        )
        return self._json(answer)

    async def _output(self, request: web.Request) -> web.StreamResponse:
        now_s = self._settings.clock()
        job = self._job(request, now_s)
        if request.match_info["filename"] != job.filename or not job.has_output(now_s):
            raise Refusal(HTTPStatus.NOT_FOUND, "There is no such output")
        fault = self._injector.on_output()
        faults = self._recorder.counts.faults
        left_out = {
            index for index in range(job.num_locations) if self._injector.loses_location_once()
        } - job.order.gaps.locations
        if left_out:
            faults["missing_location"] += len(left_out)
        response, is_complete = await send_output(request, job, self._settings, fault, left_out)
        if fault is not None:
            faults[fault.plan_name] += 1
        self._recorder.counts.outputs_served += is_complete
        return response

    def _job(self, request: web.Request, now_s: float) -> Job:
        job = self._jobs.get(request.match_info["id"], now_s)
        if job is None:
            raise Refusal(HTTPStatus.NOT_FOUND, _NO_SUCH_JOB)
        return job

    # -- the rest of the account

    async def _enhance(self, request: web.Request) -> web.Response:
        location, options = read_enhance_query(request.query.items())
        self._account.charge(Counter(location.sources), self._now())
        share, edition = self._settings.no_match_share, self._settings.edition
        answers = answer_location(location.fields, location.sources, options, share, edition)
        return self._json({"id": self._new_id(), "location_data": answers})

    async def _limits(self, request: web.Request) -> web.Response:  # noqa: ARG002 - a handler
        self._refuse_unserved("limits")
        return self._json(self._account.limits(self._now()))

    async def _usage(self, request: web.Request) -> web.Response:
        return self._json(self._account.usage(request.query, self._now()))

    async def _datasources(self, request: web.Request) -> web.Response:  # noqa: ARG002 - a handler
        self._refuse_unserved("datasources")
        return self._json({"configs": {code: self._config(code) for code, _ in SOURCES}})

    async def _datasource(self, request: web.Request) -> web.Response:
        code = request.match_info["code"].upper()
        if code not in NAMES:
            raise Refusal(HTTPStatus.NOT_FOUND, f"There is no data source {code!r}")
        return self._json({"config": self._config(code)})

    def _config(self, code: str) -> dict[str, Any]:
        return {**source_config(code), **(self._settings.source_configs or {}).get(code, {})}

    def _refuse_unserved(self, name: str) -> None:
        status = (self._settings.not_served or {}).get(name)
        if status is not None:
            raise Refusal(HTTPStatus(status), f"{name} is not served")

    async def _stats(self, request: web.Request) -> web.Response:  # noqa: ARG002 - a handler
        return self._json(self.stats().as_json())

    # -- small things that need the settings

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))

    def _date(self, moment_s: float) -> datetime:
        return _EPOCH + timedelta(seconds=moment_s + self._wall_offset_s)

    def _now(self) -> datetime:
        return self._date(self._settings.clock())

    def _json(
        self, data: object, *, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> web.Response:
        return web.Response(
            status=status,
            headers=headers,
            body=encode(data, self._settings.spacing),
            content_type="application/json",
        )


# Closing the sandbox does not wait for its clients; aiohttp's default is a minute.
_SHUTDOWN_TIMEOUT_S = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class SandboxServer(SandboxSettings):
    """An imitation of the Ping.Data API on a local port.

    Use it as ``async with SandboxServer() as sandbox:``. Leaving the block closes every
    connection and cancels what is being answered; the counts stay readable. The same object can
    be entered again: it still knows its jobs.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0: any free one.
        ssl_context: Serve https with it; None: http.

    Raises:
        ValueError: A setting is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 0
    ssl_context: ssl.SSLContext | None = None
    _api: SandboxAPI = field(init=False, repr=False)
    # A list because the settings around it are frozen: empty while the server is stopped.
    _runners: list[web.AppRunner] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_api", SandboxAPI(self))

    async def __aenter__(self) -> Self:
        if self._runners:
            raise RuntimeError("this sandbox is running already")
        # Bodies are unpacked by the handler, which can say what is wrong with them.
        runner = web.AppRunner(
            self._api.make_app(),
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
        )
        await runner.setup()
        try:
            site = LeaklessSite(runner, self.host, self.port, ssl_context=self.ssl_context)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runners.append(runner)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runners.pop().cleanup()

    @property
    def url(self) -> str:
        """The base url, without a slash at its end.

        Raises:
            RuntimeError: The server is not running.
        """
        if not self._runners:
            raise RuntimeError("the sandbox has a url only while it runs")
        host, port, *_ = cast("tuple[str, int]", self._runners[0].addresses[0])
        scheme = "https" if self.ssl_context else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def stats(self) -> SandboxStats:
        """What was asked of this sandbox so far."""
        return self._api.stats()


class LeaklessSite(web.TCPSite):
    """A listening socket that leaves no connection open as it closes."""

    async def stop(self) -> None:
        """Accept nothing more, hand on what is accepted, and close."""
        if self._server is not None:
            await stop_accepting(cast("asyncio.Server", self._server))
        await super().stop()


async def stop_accepting(server: asyncio.Server) -> None:
    """Have a server accept nothing more, and wait until what it accepted is handed on.

    asyncio takes some rounds of its loop to hand an accepted connection on. One that is on its
    way as the server closes is closed by nobody.
    """
    for listening in server.sockets:
        # Not every loop works by readers; there a connection may stay open.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().remove_reader(listening)
    for _ in range(_ROUNDS_TO_ACCEPT):
        await asyncio.sleep(0)
