"""One request about a chunk, and what is to be done next.

Nothing here moves a chunk along: each method sends a request, makes sense of the answer, and
says what follows from it; the runner does that.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from pingdata_async.bodies import OutputBody, too_large
from pingdata_async.bulk import clock, notices
from pingdata_async.bulk.checking import Checked, check_output
from pingdata_async.bulk.chunks import Chunk, encode_body
from pingdata_async.bulk.job_progress import JobProgress
from pingdata_async.bulk.job_slots import JobSlots
from pingdata_async.bulk.passage import Passage, json_outputs
from pingdata_async.bulk.polling import PollPlanner
from pingdata_async.bulk.protocols import BulkAPI
from pingdata_async.bulk.request_gate import GateClosedError, RequestGate
from pingdata_async.bulk.request_pacer import NoteIntent, RequestPacer, StepPacer
from pingdata_async.bulk.retrying import (
    GiveUp,
    Health,
    RetryPolicy,
    Verdict,
    judge_question,
    judge_submission,
    refuses_access,
    retry_after_s,
)
from pingdata_async.bulk.steps import (
    Accepted,
    Again,
    Answered,
    Done,
    Fatal,
    Fetched,
    HeldBack,
    InDoubt,
    Kept,
    Lost,
    Rejected,
    Unreachable,
    Unreadable,
)
from pingdata_async.events import Event
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    DecodeError,
    NotFoundError,
    OutputUnavailableError,
    PauseTooLongError,
    PingDataError,
    RateLimitError,
)
from pingdata_async.job_phases import JobPhase
from pingdata_async.models import JobStatus
from pingdata_async.one_thread import OneThread
from pingdata_async.refusals import one_line, saying_when

LARGE_BODY_BYTES = 32 * 1024 * 1024  # what is larger, packed or not, is held one at a time
CHECK_IN_THREAD_FROM_BYTES = 64 * 1024
ASK_AGAIN_S = 5.0  # about a job that the API does not know, at the longest: it holds a slot
REFETCHES = 2  # of an output that leaves out rows
SAME_TWICE = 2  # what is as useless twice in a row is taken to be so for ever, at the latest
MAX_MESSAGE_CHARACTERS = 300  # of a failed job's: it stands in each of its rows
TOO_LARGE_ADVICE = "; where that is right, allow for more: --max-answer-mb, or `max_body_bytes`"
NOT_FOUND = 404
JITTER = 0.1  # of a poll interval, so that jobs submitted together drift apart


class Requests:
    """Sends the requests of one run.

    Args:
        api: The endpoints.
        sources: The run's sources.
        with_results: Whether outcomes will be wanted one by one.
        options: The rest of each job's body, as `encode_options()` makes it.
        gate: Lets them out.
        slots: Told of what is seen of the API.
        planner: Says when jobs are asked about.
        policy: How often things are tried.
        announce: Told of everything that happens.
        rng: The source of jitter.
    """

    def __init__(
        self,
        *,
        api: BulkAPI,
        sources: tuple[str, ...],
        with_results: bool,
        options: bytes,
        gate: RequestGate,
        slots: JobSlots,
        planner: PollPlanner,
        policy: RetryPolicy,
        announce: Callable[[Event], None],
        rng: random.Random,
    ) -> None:
        self._api = api
        self._sources = sources
        self._with_results = with_results
        self._options = options
        self._gate = gate
        self._slots = slots
        self._planner = planner
        self._policy = policy
        self._announce = announce
        self._rng = rng
        self._pacer = RequestPacer(
            gate=gate, slots=slots, policy=policy, announce=announce, rng=rng
        )

    def begin(self, inflater: OneThread, checker: OneThread) -> None:
        """Take the present time for the beginning of the run; these do what takes a while."""
        self._inflater, self._checker = inflater, checker
        self._health = Health(self._policy)

    async def submit(
        self, passage: Passage, note_intent: NoteIntent
    ) -> Accepted | Again | HeldBack | Rejected | InDoubt | Fatal:
        """Submit a chunk. Cancelled after `note_intent`, it may have made a job.

        Args:
            passage: The chunk.
            note_intent: Awaited when it may be sent, with a connection at hand: the last thing
                before that. Returns whether it still may be.
        """
        body = encode_body(passage.chunk, self._options)
        pacer = StepPacer(self._pacer, passage, note_intent)
        try:
            job_id = await self._api.submit_body(body, pacer=pacer)
        except GateClosedError as closed:
            return HeldBack(closed.opens_in_s)
        except PauseTooLongError as error:
            return Fatal(error, is_for_all=self._is_closed_for_long("poll"))
        except PingDataError as error:
            return self._submission_failed(passage, error)
        self._succeeded(passage, "submit")
        return Accepted(job_id)

    def _submission_failed(
        self, passage: Passage, error: PingDataError
    ) -> Again | Rejected | InDoubt | Fatal:
        self._note_answer(error)
        verdict = judge_submission(error)
        if self._is_final(verdict):
            return Fatal(saying_when(error))
        if verdict is Verdict.REJECTED:
            return Rejected(error)
        give_up = self._note_failure(passage, "submit", error)
        if verdict is Verdict.IN_DOUBT:
            return InDoubt(
                error,
                is_pause_too_long=self._is_too_long(error),
                has_lasted=give_up is GiveUp.RUN,
            )
        is_refused = verdict is Verdict.NO_ACCESS and give_up is GiveUp.CHUNK
        if give_up is GiveUp.RUN or is_refused:
            return Fatal(saying_when(error), is_for_all=self._is_closed_for_long("poll"))
        # While others pass it goes on: nothing was refused for what it holds.
        return self._again(passage, "submit", error)

    def next_poll_in_s(self, passage: Passage) -> float:
        """Seconds until a job is asked about."""
        interval_s = self._planner.next_poll_in_s(
            passage.present_job,
            clock.now(),
            price_s=self._gate.price_s(self._slots.in_flight),
        )
        return interval_s * self._rng.uniform(1.0, 1.0 + JITTER)

    async def poll(
        self, passage: Passage
    ) -> Again | HeldBack | Done | Kept | Lost | Unreachable | Unreadable:
        """Ask about a chunk's job.

        Raises:
            PingDataError: When no question can be answered any more.
        """
        pacer = StepPacer(self._pacer, passage)
        try:
            status = await self._api.status(passage.job_id, pacer=pacer)
        except GateClosedError as closed:
            return HeldBack(closed.opens_in_s)
        except PingDataError as error:
            if passage.outputs and judge_question(error) is Verdict.UNKNOWN_JOB:
                self._note_answer(error)
                return Done()  # an earlier run was told of its outputs, which may outlive it
            return self._question_failed(passage, "poll", error)
        self._succeeded(passage, "poll")
        passage.no_longer_unknown()
        self._announce(notices.polled(passage, status))
        self._heard(passage.present_job, status)
        match status.phase:
            case JobPhase.COMPLETE:
                passage.seems_failed, passage.was_complete = False, True
                return self._complete(passage, status)
            case JobPhase.FAILED if passage.seems_failed:
                return _failed(passage, status)
            case JobPhase.FAILED:  # another job would be paid for: perhaps it changes its mind
                passage.seems_failed = True
                return Again(self.next_poll_in_s(passage))
            case JobPhase.BROKEN_OFF | JobPhase.UNKNOWN if passage.was_complete:
                return self._complete(passage, status)
            case JobPhase.BROKEN_OFF | JobPhase.UNKNOWN:
                return self._undocumented(passage, status)
            case _:
                passage.no_longer_late()
                passage.seems_failed = passage.was_complete = False
                return self._going_on(passage)

    def _going_on(self, passage: Passage) -> Again | Lost:
        idle_s = passage.present_job.idle_s
        timeout_s = self._policy.job_timeout_s
        if timeout_s is not None and idle_s > timeout_s:
            return Lost(
                f"job {passage.job_id} made no progress for {idle_s:,.0f} s",
                is_forgotten=False,
                has_timed_out=True,
            )
        if idle_s >= passage.warn_after_idle_s:
            passage.warn_after_idle_s = 2.0 * idle_s
            self._announce(notices.stalled(passage, idle_s))
        delay_s = self.next_poll_in_s(passage)
        return Again(delay_s if timeout_s is None else min(delay_s, timeout_s))

    def _heard(self, job: JobProgress, status: JobStatus) -> None:
        now = clock.now()
        had_ended = job.ended_at is not None
        job.hear(status, now)
        if not had_ended:
            self._slots.note_job(job, now)
            if status.is_finished and not status.is_failed:
                self._planner.learn(job)

    def _complete(self, passage: Passage, status: JobStatus) -> Again | Done | Unreadable:
        passage.outputs = json_outputs(status.outputs) or passage.outputs
        if passage.outputs:
            passage.no_longer_late()
            odd = notices.odd_counts(passage, status)
            if odd is not None:
                self._announce(odd)
            return Done()
        said = f"job {passage.job_id} is complete, but names no output"
        if self._late_for_s(passage, said) > self._policy.patience_s:
            return Unreadable(said, [])
        return Again(self.next_poll_in_s(passage))

    def _undocumented(self, passage: Passage, status: JobStatus) -> Again | Lost:
        """A word for an end is believed after a while; any other may mean that it is at work."""
        job = passage.present_job
        if passage.late_since is not None and job.changed_at > passage.late_since:
            passage.no_longer_late()
        said = f"job {passage.job_id} is {status.status}, without a result"
        late_s = self._late_for_s(passage, said)
        is_end = status.phase is JobPhase.BROKEN_OFF
        if late_s > (self._policy.patience_s if is_end else self._policy.give_up_after_s):
            return Lost(f"{said}, for {late_s:,.0f} s", is_forgotten=False)
        return Again(self.next_poll_in_s(passage))

    def _late_for_s(self, passage: Passage, said: str) -> float:
        """How long the API has said what cannot stay so; that is told after a while."""
        late_s = passage.late_for_s(clock.now())
        self._say_if_late(passage, late_s, said)
        return late_s

    def _say_if_late(self, passage: Passage, late_s: float, said: str) -> None:
        if late_s > self._policy.forgotten_after_s and not passage.says_late:
            passage.says_late = True
            self._announce(notices.overdue(passage, late_s, said))

    async def fetch(
        self, passage: Passage
    ) -> Again | HeldBack | Fetched | Kept | Lost | Unreachable | Unreadable:
        """Fetch the output of a chunk's job; raises as `poll()` does.

        One that turns out to be large is not fetched, unless the passage says so already.
        """
        try:
            return Fetched(await self._fetch_all(passage))
        except GateClosedError as closed:
            return HeldBack(closed.opens_in_s)
        except DecodeError as error:
            if self._turns_out_large(passage, error):
                return Again(0.0)
            return self._unread(passage, error, [])
        except PingDataError as error:
            return self._question_failed(passage, "fetch", error)

    async def check(
        self, passage: Passage, fetched: Fetched
    ) -> Again | Answered | Kept | Lost | Unreachable | Unreadable:
        """Find the answers in what was fetched; raises as `poll()` does.

        In one that turns out to be large they are not looked for, as in `fetch()`.
        """
        bodies = fetched.bodies
        if not passage.is_large:
            bodies = [body.at_most(LARGE_BODY_BYTES) for body in bodies]
        try:
            checked = await self._checked(passage.chunk, bodies)
        except DecodeError as error:
            if self._turns_out_large(passage, error):
                return Again(0.0)
            return self._unread(passage, error, fetched.bodies)
        self._succeeded(passage, "fetch")
        missing, rows = checked.missing, len(passage.chunk.rows)
        if missing and passage.refetches < REFETCHES:  # that is free, and they may be late
            passage.refetches += 1
            passage.note_failure(clock.now())
            left_out = DecodeError(f"{missing} of {rows} locations are missing from the output")
            return self._again(passage, "fetch", left_out)
        for oddity in checked.oddities:
            self._announce(notices.unexpected(passage, f"of its output's locations, {oddity}"))
        return Answered(checked)

    def _turns_out_large(self, passage: Passage, error: DecodeError) -> bool:
        was_large = passage.is_large
        passage.is_large = was_large or error.is_too_large
        return passage.is_large and not was_large

    def _unread(
        self, passage: Passage, error: DecodeError, bodies: list[OutputBody]
    ) -> Again | Kept | Lost | Unreachable | Unreadable:
        """An output came that cannot be read: fetched again, it may be another one.

        One that is the very same each time will be so for ever, and another job would be paid
        for. What is cut off, or a page that something else has put in its place, may be as it
        should another time.
        """
        times = enough = 0
        if error.is_too_large:
            times, enough = passage.note_unread(hash(str(error))), SAME_TWICE
        elif bodies and not error.is_page:
            content = tuple((body.encoding, body.wire) for body in bodies)
            times, enough = passage.note_unread(hash(content)), self._policy.fetch_attempts
        advice = TOO_LARGE_ADVICE if error.is_too_large else ""
        lasting = Unreadable(f"the output of job {passage.job_id}: {error}{advice}", bodies)
        if times and times >= enough:
            return lasting
        step = self._question_failed(passage, "fetch", error)
        has_lasted = isinstance(step, Kept | Unreachable) and times >= SAME_TWICE
        return lasting if has_lasted else step

    async def _fetch_all(self, passage: Passage) -> list[OutputBody]:
        bodies: list[OutputBody] = []
        pacer = StepPacer(self._pacer, passage)
        limit = None if passage.is_large else LARGE_BODY_BYTES
        for output in passage.outputs:
            body = await self._api.fetch_body(passage.job_id, output, pacer=pacer, max_bytes=limit)
            bodies.append(body)
            most = body.max_bytes if limit is None else min(limit, body.max_bytes)
            if sum(len(body.wire) for body in bodies) > most:
                raise too_large("its outputs together", most)
        return bodies

    async def _checked(self, chunk: Chunk, bodies: list[OutputBody]) -> Checked:
        if sum(body.likely_bytes for body in bodies) < CHECK_IN_THREAD_FROM_BYTES:
            return self._check(chunk, bodies, OutputBody.content)
        inflater = self._inflater
        # The usual one is inflated while another is checked.
        ahead = inflater.submit(bodies[0].content) if len(bodies) == 1 else None

        def content_of(body: OutputBody) -> bytes:
            return (ahead or inflater.submit(body.content)).result()

        return await self._checker.run(lambda: self._check(chunk, bodies, content_of))

    def _check(
        self,
        chunk: Chunk,
        bodies: list[OutputBody],
        content_of: Callable[[OutputBody], bytes],
    ) -> Checked:
        return check_output(
            chunk,
            bodies,
            self._sources,
            self._policy.location_attempts,
            with_results=self._with_results,
            content_of=content_of,
        )

    def _succeeded(self, passage: Passage, kind: str) -> None:
        self._health.note_success(kind, clock.now())
        passage.failures = 0

    def _question_failed(
        self, passage: Passage, kind: str, error: PingDataError
    ) -> Again | Kept | Lost | Unreachable:
        if isinstance(error, PauseTooLongError):
            return Unreachable(error)
        self._note_answer(error)
        verdict = judge_question(error)
        if self._is_final(verdict):
            raise error
        if verdict is Verdict.UNKNOWN_JOB:
            if passage.was_complete:
                unknown_s = passage.note_unknown(clock.now(), ASK_AGAIN_S)
                if unknown_s > self._policy.patience_s:
                    return Kept(_no_longer_known(passage, error))
            elif self._is_forgotten(passage, error):
                said = f"the API no longer has job {passage.job_id}: {error}"
                return Lost(said, is_forgotten=True)
            passage.note_failure(clock.now())  # of this job alone: the API did answer
            return self._again(passage, kind, error, ceiling_s=ASK_AGAIN_S)
        if isinstance(error, OutputUnavailableError) and error.job_status is not None:
            passage.no_longer_unknown()
            status = error.job_status
            if status.is_failed and passage.seems_failed:  # it has changed its mind
                return _failed(passage, status)
            passage.seems_failed = status.is_failed
            passage.outputs = json_outputs(status.outputs) or passage.outputs
        give_up = self._note_failure(passage, kind, error)
        # A 403 may be about that one job, and so is the time that it names: others do not wait.
        is_of_job = isinstance(error, AccessDeniedError)
        if self._is_too_long(error):
            return Kept(saying_when(error)) if is_of_job else Unreachable(saying_when(error))
        self._say_if_overdue(passage, kind, error)
        # Any other pause that the API asks for says nothing of the job.
        is_pause = isinstance(error, RateLimitError) or (retry_after_s(error) and not is_of_job)
        if give_up is GiveUp.RUN and (is_pause or verdict is Verdict.NO_ACCESS):
            raise saying_when(error)  # or each job would have to wait for one more to learn of it
        # Whether the token is refused, submissions will show.
        if give_up is GiveUp.RUN and not is_of_job:
            return Unreachable(error)
        if give_up is not GiveUp.NOTHING and not is_pause:
            self._pacer.is_shut_out = False  # this one is asked no more, and others may pass
            return Kept(error)
        return self._again(passage, kind, error)

    def _is_final(self, verdict: Verdict) -> bool:
        """Whether it is of no use to ask again: a token that was right may soon be so again."""
        if verdict is Verdict.NO_ACCESS:
            return not self._health.has_let_in
        return verdict is Verdict.STOP

    def _say_if_overdue(self, passage: Passage, kind: str, error: PingDataError) -> None:
        if kind == "fetch":
            said = f"the output of job {passage.job_id} cannot be had: {error}"
            self._say_if_late(passage, clock.now() - passage.failing_since, said)

    def _is_too_long(self, error: PingDataError) -> bool:
        return (retry_after_s(error) or 0.0) > self._policy.max_wait_s

    def _is_closed_for_long(self, kind: str) -> bool:
        return self._gate.asked_in_s(kind) > self._policy.max_wait_s

    def _note_answer(self, error: PingDataError) -> None:
        if isinstance(error, APIStatusError):
            self._health.note_answer()

    def _is_forgotten(self, passage: Passage, error: PingDataError) -> bool:
        unknown_s = passage.note_unknown(clock.now(), ASK_AGAIN_S)
        said = f"the API does not know job {passage.job_id}: {error}"
        self._say_if_late(passage, unknown_s, said)
        if unknown_s > self._policy.patience_s:
            return True
        # Sooner, where it is this job and not the API: others are answered all the while.
        since = clock.now() - unknown_s + self._policy.forgotten_after_s
        return unknown_s > self._policy.forgotten_after_s and self._health.answered_since(
            "poll", since
        )

    def _note_failure(self, passage: Passage, kind: str, error: PingDataError) -> GiveUp:
        now = clock.now()
        passage.note_failure(now, is_refusal=refuses_access(error))
        return self._health.judge(
            kind,
            passage.failing_since,
            retry_after_s(error),
            now,
            refused_since=passage.refused_since,
        )

    def _again(
        self, passage: Passage, kind: str, error: PingDataError, ceiling_s: float | None = None
    ) -> Again:
        delay_s = self._policy.delay_s(passage.failures, retry_after_s(error), self._rng)
        if ceiling_s is not None and not retry_after_s(error):
            delay_s = min(delay_s, ceiling_s)
        delay_s = max(delay_s, self._gate.opens_in_s(kind))
        self._announce(notices.retried(kind, passage, error, delay_s))
        return Again(delay_s)

    def again_after_doubt(self, passage: Passage, error: PingDataError, doubts: int) -> Again:
        """A submission in doubt is sent again, the later the more of them came in a row."""
        attempts = max(doubts, passage.failures)
        delay_s = self._policy.delay_s(attempts, retry_after_s(error), self._rng)
        self._announce(notices.retried("submit", passage, error, delay_s))
        return Again(delay_s)


def _no_longer_known(passage: Passage, error: PingDataError) -> NotFoundError:
    return NotFoundError(
        f"the API called job {passage.job_id} complete, and no longer knows it ({error}); no other "
        "one is sent and charged for it, unless by the `retry` of a run",
        status_code=NOT_FOUND,
    )


def _failed(passage: Passage, status: JobStatus) -> Lost:
    said = one_line(status.message)[:MAX_MESSAGE_CHARACTERS] or "without a message"
    return Lost(f"job {passage.job_id} failed: {said}", is_forgotten=False)
