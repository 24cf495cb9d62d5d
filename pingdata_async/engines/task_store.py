"""What a task records of its chunks: nothing (`HandingOver`), or in a shared store.

`RecordingStore` writes each step into the log of the chunk, and finds there what other attempts
have done. `StoredOutputs` gives the engine their answers as if the API had them.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import Pacer
from pingdata_async.engine.context import (
    ChunkStore,
    ChunkTakenError,
    Delivery,
    FinishedChunk,
    Known,
)
from pingdata_async.engines.protocol import (
    Claim,
    Cost,
    Doubt,
    Follow,
    Poll,
    Record,
    State,
    Wait,
    cost_of,
    digest_of,
    is_own_doubt,
    last_state,
    may_follow,
    next_step,
)
from pingdata_async.engines.spec import BatchSpec
from pingdata_async.engines.store import MOST_ERROR_CHARACTERS, AnswerHead, SharedStore
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import JobOutput
from pingdata_async.results.validation import Failure
from pingdata_async.util.encoding import EncodedBody

STORED = "stored:"  # the scheme of the url of an answer in the store
MOST_HELD = (
    4  # finished chunks that nobody has taken yet, besides those that wait to be handed over
)
LOOK_EVERY_S = 2.0  # at a chunk that another attempt may be submitting

NextIndex = Callable[[], int]
HandOver = Callable[[FinishedChunk, Delivery], None]


class HandingOver(ChunkStore):
    """Hands over finished chunks, and records nothing.

    Args:
        next_index: Gives the number of a later chunk.
        hand_over: Takes a finished chunk, and what is held of it until its rows are taken.
    """

    def __init__(self, next_index: NextIndex, hand_over: HandOver) -> None:
        super().__init__(next_index)
        self._hand_over = hand_over
        self._held: deque[Delivery] = deque()

    async def deliver(self, finished: FinishedChunk) -> Delivery | None:
        """Hand over the results; waits while very many are not taken."""
        rows = finished.chunk.total_rows - len(finished.retry_rows)
        if not rows:
            return None
        while len(self._held) >= MOST_HELD:
            await self._held[0].taken.wait()
            if self._held and self._held[0].taken.is_set():  # nobody else has seen it
                self._held.popleft()
        delivery = Delivery(rows)
        self._held.append(delivery)
        self._hand_over(finished, delivery)
        return delivery


class _Attempted(msgspec.Struct):
    """A chunk that this attempt works on."""

    digest: str
    log: list[Record]
    is_answered: bool = False  # the store has its answer


class RecordingStore(HandingOver):
    """Records each step of a chunk in its log, and says what other attempts have recorded.

    Rows of several chunks are not retried together, so that another attempt asks the same again.

    Args:
        next_index: As of `HandingOver`.
        hand_over: Likewise.
        shared: The store, which was taken for this run.
        spec: The task's spec.
        task: The name of its partition.
    """

    is_durable = True
    joins_retry_rows = False

    def __init__(
        self,
        next_index: NextIndex,
        hand_over: HandOver,
        shared: SharedStore,
        spec: BatchSpec,
        task: str,
    ) -> None:
        super().__init__(next_index, hand_over)
        self._shared = shared
        self._spec = spec
        self._task = task
        self._attempt = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._written = 0  # records
        self._chunks: dict[int, _Attempted] = {}
        self._seen: dict[str, tuple[int, float]] = {}  # claims: the length of the log, since when

    async def look_up(self, chunk: Chunk) -> Known | None:
        """What other attempts know of it."""
        while True:
            own = self._chunks.get(chunk.index)
            age_s = 0.0
            if own is None:
                digest = digest_of(self._spec.settings.api, self._spec.question, chunk)
                head = await self._shared.answer_head(digest)
                log, age_s = ([], 0.0) if head else await self._shared.log(digest)
                own = self._chunks[chunk.index] = _Attempted(digest, log, head is not None)
                if head is not None:
                    outputs = (JobOutput(STORED + digest),) if head.failure is None else ()
                    return replace(_known(head.cost), outputs=outputs, failure=head.failure)
            if last_state(own.log) is State.SUBMITTING:
                age_s = max(age_s, self._seen_for_s(own))
            known = _known(cost_of(own.log))
            step = next_step(
                own.log,
                age_s=age_s,
                doubt_after_s=self._spec.doubt_after_s,
                look_every_s=LOOK_EVERY_S,
            )
            match step:
                case Doubt():
                    await self._append(chunk, State.DOUBT, error="the task that sent it has ended")
                case Wait(seconds):
                    del self._chunks[chunk.index]
                    return replace(known, wait_s=seconds)
                case Poll(job_id):
                    return replace(known, job_id=job_id, job_age_s=age_s)
                case Follow(sizes, failed):
                    return replace(known, sizes=sizes, because_jobs_failed=failed)
                case Claim():
                    in_doubt = last_state(own.log) is State.DOUBT
                    return replace(known, is_held=in_doubt and self._spec.policy.hold_in_doubt)

    def _seen_for_s(self, own: _Attempted) -> float:
        """For how long this attempt has seen a claim.

        One that was written when the storage's clock was ahead would be young for ever.
        """
        length, since = self._seen.get(own.digest, (0, 0.0))
        if length != len(own.log):
            length, since = self._seen[own.digest] = len(own.log), time.monotonic()
        return time.monotonic() - since

    async def submitting(
        self,
        chunk: Chunk,
        *,
        charged_before: bool,  # noqa: ARG002 - the log says so
        asked: Mapping[str, int],  # noqa: ARG002
    ) -> None:
        """Claim it; another attempt may have it."""
        if not await self._append(chunk, State.SUBMITTING, locations=len(chunk.rows)):
            raise ChunkTakenError

    async def refused(self, chunk: Chunk) -> None:
        """Record it, also after another attempt has had its doubts."""
        await self._tell(chunk, State.REFUSED)

    async def submitted(self, chunk: Chunk, job_id: str) -> None:
        """Record it, likewise; if others went on meanwhile, this attempt alone polls it."""
        await self._tell(chunk, State.SUBMITTED, job_id=job_id)

    async def doubted(self, chunk: Chunk, error: str, *, hold: bool) -> None:  # noqa: ARG002
        """Record it, unless another attempt has."""
        await self._append(chunk, State.DOUBT, error=error)

    async def job_lost(self, chunk: Chunk, error: str) -> None:
        """Record it, unless another attempt has."""
        await self._append(chunk, State.ABANDONED, error=error)

    async def split(self, chunk: Chunk, parts: Sequence[Chunk]) -> None:
        """Record the parts, unless others have begun with the chunk or split it otherwise."""
        sizes = tuple(len(part.rows) for part in parts)
        own = self._chunks.get(chunk.index)
        is_split = own is not None and last_state(own.log) is State.SPLIT
        if own is not None and is_split and own.log[-1].sizes == sizes:
            del self._chunks[chunk.index]
            return
        failed = own is not None and last_state(own.log) is State.ABANDONED
        if not await self._append(chunk, State.SPLIT, sizes=sizes, because_jobs_failed=failed):
            raise ChunkTakenError
        del self._chunks[chunk.index]

    async def deliver(self, finished: FinishedChunk) -> Delivery | None:
        """Keep the answer, or why there is none, then hand over the results.

        Another attempt's answer may be there, and have other rows asked again: it counts for all.
        """
        own = self._chunks.pop(finished.chunk.index, None)
        is_kept = not finished.chunk.rows or (own is not None and own.is_answered)
        if not is_kept and not await self._keep(finished, own):
            raise ChunkTakenError
        return await super().deliver(finished)

    async def _keep(self, finished: FinishedChunk, own: _Attempted | None) -> bool:
        chunk, checked, failure = finished.chunk, finished.checked, finished.failure
        if own is None:  # others are ahead with it
            digest = digest_of(self._spec.settings.api, self._spec.question, chunk)
            own = _Attempted(digest, (await self._shared.log(digest))[0])
        if failure is not None:
            failure = Failure(failure.reason, failure.error[:MOST_ERROR_CHARACTERS])
        head = AnswerHead(
            task=self._task,
            job_id=finished.job_id,
            locations=len(chunk.rows),
            counts=finished.counts,
            cost=cost_of(own.log),
            records=len(own.log),
            failure=failure if checked is None else None,
        )
        body = None if checked is None else checked.body
        return await self._shared.keep_answer(own.digest, head, chunk, body)

    async def _tell(self, chunk: Chunk, state: State, **what: Any) -> None:
        """Record what became of this attempt's submission."""
        own = self._chunks.get(chunk.index)
        if own is None or await self._append(chunk, state, **what):
            return
        log, _ = await self._shared.log(own.digest)
        if is_own_doubt(log, own.log[-1].by):
            self._chunks[chunk.index] = _Attempted(own.digest, log)
            await self._append(chunk, state, **what)

    async def _append(self, chunk: Chunk, state: State, **what: Any) -> bool:
        """Write the next record; where another attempt is ahead, forget what the log was."""
        own = self._chunks.get(chunk.index)
        if own is None:
            return False
        self._written += 1
        record = Record(
            state=state,
            by=f"{self._attempt}:{self._written}",
            at=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            task=self._task,
            **what,
        )
        is_legal = may_follow(own.log, state)
        if is_legal and await self._shared.append(own.digest, len(own.log) + 1, record):
            own.log.append(record)
            return True
        del self._chunks[chunk.index]
        return False


def _known(cost: Cost) -> Known:
    return Known(jobs=cost.jobs, in_doubt=cost.doubts, failed_jobs=cost.failed_jobs)


class StoredOutputs:
    """The API, with the answers in the store beside its own outputs; see `BulkAPI`."""

    def __init__(self, client: PingDataClient, shared: SharedStore) -> None:
        self.submit_body = client.submit_body
        self.status = client.status
        self._client = client
        self._shared = shared

    async def fetch_body(
        self, job_id: str, output: JobOutput, *, pacer: Pacer, max_bytes: int | None = None
    ) -> EncodedBody:
        """Fetch an output, or read an answer."""
        if output.url.startswith(STORED):
            answer = await self._shared.answer(output.url.removeprefix(STORED))
            return answer.body
        return await self._client.fetch_body(job_id, output, pacer=pacer, max_bytes=max_bytes)
