"""SharedStore: what all tasks know of each chunk, on storage that they share.

    manifest                 of which run it is
    chunks/<digest>/<n>      record n of a chunk's log (see `protocol.py`)
    chunks/<digest>/answer   its answer, or why there is none

Each object is written once, by whoever comes first. A put that is refused where the key is there
is all that is asked of the storage, and `probe()` makes sure of it, as some imitations of S3
ignore the condition without a word.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
import msgspec

from pingdata_async.engines.protocol import Cost, Log, Record, cost_of
from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import EnhancedLocation
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import Failure, fail_chunk, validate_output
from pingdata_async.runs.directory.settings import RunSettings, differences
from pingdata_async.tables.readers.open import require
from pingdata_async.util.encoding import EncodedBody, gzipped
from pingdata_async.util.redaction import masked

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

HEAD_BYTES: Final = 4096  # in which nearly every head of an answer fits
MOST_ERROR_CHARACTERS: Final = 1000
READERS: Final = 16  # threads that read at once, for those who look at a store
GIVE_UP_AFTER: Final = dt.timedelta(seconds=60)  # on a storage that does not answer
_SCHEMES: Final = "file, s3, gs, az"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Of which run a store is: what changes either the chunks or their answers.

    Attributes:
        settings: The run's settings; how many jobs and what may be spent make no difference.
        tasks: The number of partitions.
        key: The columns that they are sorted by.
        max_chunk_bytes: The largest body of a job.
        location_retries: How often a row is asked again.
    """

    settings: RunSettings
    tasks: int
    key: tuple[str, ...]
    max_chunk_bytes: int
    location_retries: int
    version: int = 1

    def differences(self, other: Manifest) -> list[str]:
        """What another run has otherwise; a few words each."""
        found = differences(self.settings, other.settings)
        for name, was, now in (
            ("chunk_size", self.settings.chunk_size, other.settings.chunk_size),
            *((name, getattr(self, name), getattr(other, name)) for name in _COMPARED),
        ):
            if was != now:
                found.append(f"{name} {_shown(was)} instead of {_shown(now)}")
        return found


_COMPARED: Final = ("tasks", "key", "max_chunk_bytes", "location_retries", "version")


class AnswerHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What stands before an answer, on a line of its own."""

    task: str = ""
    job_id: str = ""
    locations: int  # that were sent
    counts: Tally  # of the rows whose outcome this is; rows that are asked again are elsewhere
    cost: Cost = Cost()
    records: int = 0  # in the log when it was written
    failure: Failure | None = None  # why there is no answer
    encoding: str = ""  # of the answer
    chunk_bytes: int = 0  # between this line and the answer: the chunk, compressed


class Answer(NamedTuple):
    """An answer as it is kept."""

    head: AnswerHead
    packed_chunk: bytes
    body: EncodedBody

    @property
    def chunk(self) -> Chunk:
        """The chunk that was sent."""
        packed = EncodedBody(self.packed_chunk, "gzip")
        return msgspec.msgpack.decode(packed.content(), type=Chunk)


class StoredAnswer(NamedTuple):
    """The outcomes of a chunk, for an export."""

    task: str
    chunk: Chunk
    results: list[EnhancedLocation]  # in the order of the rows; without those asked again


class ChunkSummary(NamedTuple):
    """What a store says of one chunk."""

    digest: str
    state: str  # "answered", "failed", or the last `State` of its log
    task: str
    locations: int
    cost: Cost
    counts: Tally | None = None  # of the rows whose outcome is known
    job_id: str = ""
    error: str = ""


class SharedStore:
    """Objects on shared storage, each written once.

    Args:
        store: The storage, by obstore.
        name: Its url, for messages.
    """

    def __init__(self, store: ObjectStore, name: str = "the store") -> None:
        self._store = store
        self._name = name
        self._now: tuple[dt.datetime, float] | None = None  # the store's clock, and our own

    @classmethod
    def open(cls, url: str, **options: str) -> Self:
        """The store at a url such as `file:///mnt/run` or `s3://bucket/run`.

        Keys and tokens are looked up where the storage's own tools do.

        Args:
            url: The url.
            **options: Options of obstore, such as `endpoint` or `region`.

        Raises:
            ConfigurationError: When there can be no such store.
        """
        require("a shared store", "obstore", "lake")
        from obstore.exceptions import BaseError  # noqa: PLC0415 - optional
        from obstore.store import LocalStore, from_url  # noqa: PLC0415 - optional

        parts = urlsplit(url)
        if not parts.scheme:
            raise ConfigurationError(
                f"the store {url} is no url: one of {_SCHEMES}, as file://{url}"
            )
        of_client: Any = None  # an empty set would hide AWS_ALLOW_HTTP
        if options.pop("allow_http", "").lower() in {"true", "1", "yes"}:
            of_client = {"allow_http": True}
        try:
            if parts.scheme == "file":
                return cls(LocalStore(unquote(parts.path), mkdir=True), url)
            settings: Any = options
            retry: Any = {"retry_timeout": GIVE_UP_AFTER}
            opened: Any = from_url(url, client_options=of_client, retry_config=retry, **settings)
            return cls(opened, url)
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise ConfigurationError(f"the store {url} cannot be opened: {_said(error)}") from None

    # -- objects ---------------------------------------------------------------------------

    async def put_new(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; returns whether this one is there now.

        A cancellation waits until it is written. Also true where the storage has written it, and
        refuses it when its own client sends it again: no two objects are alike.
        """
        import obstore  # noqa: PLC0415 - optional

        with self._telling("written"), anyio.CancelScope(shield=True):
            try:
                await obstore.put_async(self._store, path, data, mode="create")
            except _already_exists():
                found = await self._get(path)
                return found is not None and found[0] == data
        return True

    async def _get(self, path: str) -> tuple[bytes, dt.datetime] | None:
        """An object, and when it was written; None if there is none."""
        import obstore  # noqa: PLC0415 - optional

        with self._telling("read"):
            try:
                found = await obstore.get_async(self._store, path)
                return bytes(await found.bytes_async()), found.meta["last_modified"]
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - optional

        try:
            yield
        except (FileExistsError, FileNotFoundError):
            raise
        except (BaseError, OSError, NotImplementedError) as error:
            raise RunError(f"the store {self._name} cannot be {what}: {_said(error)}") from None

    # -- a run -----------------------------------------------------------------------------

    async def probe(self) -> None:
        """Make sure that nothing is written twice, and learn the store's time.

        Raises:
            ConfigurationError: When a second put of a key is not refused.
            RunError: When the store cannot be used.
        """
        import obstore  # noqa: PLC0415 - optional

        path = f"probe/{uuid.uuid4().hex}"
        first = await self.put_new(path, b"first")
        at = time.monotonic()
        second = await self.put_new(path, b"second")
        found = await self._get(path)
        if not first or second or found is None or found[0] != b"first":
            raise ConfigurationError(
                f"the store {self._name} lets a key be written twice: two tasks would each pay for "
                "the same rows. It needs conditional writes (If-None-Match)"
            )
        self._now = found[1], at
        with contextlib.suppress(RunError), self._telling("written"):
            await obstore.delete_async(self._store, path)

    async def take(self, manifest: Manifest) -> None:
        """Take the store for a run, or make sure that it is of this run.

        Raises:
            ConfigurationError: When it is of another run.
            RunError: When the store cannot be used.
        """
        if await self.put_new("manifest", msgspec.json.encode(manifest)):
            return
        kept = await self._get("manifest")
        found = [] if kept is None else self._manifest_in(kept[0]).differences(manifest)
        if found:
            raise ConfigurationError(
                f"the store {self._name} is of a run with {'; '.join(found)}: give this one a "
                "store of its own"
            )

    def _manifest_in(self, data: bytes) -> Manifest:
        try:
            return msgspec.json.decode(data, type=Manifest)
        except msgspec.MsgspecError as error:
            raise RunError(f"the manifest in {self._name} cannot be read: {error}") from error

    def _age_s(self, written_at: dt.datetime) -> float:
        """The age of an object by the store's own clock; only `probe()` knows what it says."""
        if self._now is None:
            return 0.0
        then, at = self._now
        return (then - written_at).total_seconds() + time.monotonic() - at

    # -- chunks ----------------------------------------------------------------------------

    async def log(self, digest: str) -> tuple[list[Record], float]:
        """The log of a chunk, and the age of its last record in seconds."""
        log: list[Record] = []
        age_s = 0.0
        while (found := await self._get(_path(digest, len(log) + 1))) is not None:
            log.append(self._record_in(found[0], digest))
            age_s = self._age_s(found[1])
        return log, age_s

    async def append(self, digest: str, number: int, record: Record) -> bool:
        """Write a record of a log, unless another one has that number."""
        return await self.put_new(_path(digest, number), msgspec.json.encode(record))

    def _record_in(self, data: bytes, digest: str) -> Record:
        try:
            return msgspec.json.decode(data, type=Record)
        except msgspec.MsgspecError as error:
            raise RunError(f"chunk {digest} in {self._name} cannot be read: {error}") from error

    async def answer_head(self, digest: str) -> AnswerHead | None:
        """The head of a chunk's answer; None if there is none."""
        import obstore  # noqa: PLC0415 - optional

        with self._telling("read"):
            try:
                begin = await obstore.get_range_async(
                    self._store, _path(digest), start=0, length=HEAD_BYTES
                )
            except FileNotFoundError:
                return None
        data = bytes(begin)
        if b"\n" not in data:  # what the API has said may be long
            data = (await self._get(_path(digest)) or (b"",))[0]
        return self._split(data, digest)[0]

    async def answer(self, digest: str) -> Answer:
        """A chunk's answer, which is there."""
        found = await self._get(_path(digest))
        if found is None:
            raise RunError(f"the answer of chunk {digest} is gone from {self._name}")
        return self._answer_in(found[0], digest)

    async def keep_answer(
        self, digest: str, head: AnswerHead, chunk: Chunk, body: EncodedBody | None
    ) -> bool:
        """Keep a chunk's answer, unless there is one."""
        packed = gzipped(msgspec.msgpack.encode(chunk))
        raw, encoding = (b"", "") if body is None else (body.raw, body.encoding)
        if body is not None and not body.is_gzip:
            raw, encoding = await anyio.to_thread.run_sync(lambda: gzipped(body.content())), "gzip"
        head = msgspec.structs.replace(head, encoding=encoding, chunk_bytes=len(packed))
        line = msgspec.json.encode(head)
        return await self.put_new(_path(digest), b"".join((line, b"\n", packed, raw)))

    def _answer_in(self, data: bytes, digest: str) -> Answer:
        head, begin = self._split(data, digest)
        end = begin + head.chunk_bytes
        return Answer(head, data[begin:end], EncodedBody(data[end:], head.encoding, "an answer"))

    def _split(self, data: bytes, digest: str) -> tuple[AnswerHead, int]:
        line, _, _ = data.partition(b"\n")
        try:
            return msgspec.json.decode(line, type=AnswerHead), len(line) + 1
        except msgspec.MsgspecError as error:
            raise RunError(
                f"the answer of chunk {digest} in {self._name} cannot be read: {error}"
            ) from error

    # -- for those who look at it; these block ----------------------------------------------

    def manifest(self) -> Manifest | None:
        """Of which run it is; None if no run has taken it."""
        found = self._read("manifest")
        return None if found is None else self._manifest_in(found)

    def chunks(self) -> Iterator[ChunkSummary]:
        """What is known of each chunk, in no order that means anything."""
        found = self._list()
        with ThreadPoolExecutor(READERS) as readers:
            yield from readers.map(lambda each: self._summary(*each), found.items())

    def answered(self) -> list[str]:
        """The digests of the chunks that have an answer, in no order that means anything."""
        return [digest for digest, (_, has_answer) in self._list().items() if has_answer]

    def answers(self, digests: Sequence[str] | None = None) -> Iterator[StoredAnswer]:
        """The outcomes of each chunk that has an answer, in no order that means anything.

        Equal chunks of several partitions, with the same rows, have one answer.

        Args:
            digests: Those of chunks that have an answer; None for all.
        """
        manifest = self.manifest()
        if manifest is None:
            return
        found = self.answered() if digests is None else digests
        with ThreadPoolExecutor(READERS) as readers:
            for begin in range(0, len(found), READERS):  # no more than so many are in memory
                some = found[begin : begin + READERS]
                yield from readers.map(lambda digest: self._stored(digest, manifest), some)

    def _stored(self, digest: str, manifest: Manifest) -> StoredAnswer:
        answer = self._answer_in(self._read(_path(digest)) or b"", digest)
        chunk, sources = answer.chunk, manifest.settings.sources
        if answer.head.failure is not None:
            results = fail_chunk(chunk, answer.head.failure, sources)
        else:
            retries = manifest.location_retries
            results = validate_output(chunk, [answer.body], sources, retries).results
        return StoredAnswer(answer.head.task, chunk, results)

    def _list(self) -> dict[str, tuple[int, bool]]:
        """By digest, the number of records, and whether there is an answer."""
        import obstore  # noqa: PLC0415 - optional

        found: dict[str, tuple[int, bool]] = {}
        with self._telling("read"):
            for some in obstore.list(self._store, "chunks"):
                for each in some:
                    digest, _, name = each["path"].removeprefix("chunks/").partition("/")
                    if name != "answer" and not name.isdecimal():
                        continue  # of a file manager, or the marker of a folder
                    records, has_answer = found.get(digest, (0, False))
                    is_answer = name == "answer"
                    found[digest] = records + (not is_answer), has_answer or is_answer
        return found

    def _summary(self, digest: str, found: tuple[int, bool]) -> ChunkSummary:
        records, has_answer = found
        if has_answer:
            head, _ = self._split(self._read(_path(digest)) or b"", digest)
            cost = head.cost if records == head.records else cost_of(self._log(digest, records))
            return ChunkSummary(
                digest,
                "answered" if head.failure is None else "failed",
                head.task,
                head.locations,
                cost,
                head.counts,
                head.job_id,
                "" if head.failure is None else head.failure.error,
            )
        log = self._log(digest, records)
        last = log[-1]
        job_id = next((each.job_id for each in reversed(log) if each.job_id), "")
        locations = max(each.locations or sum(each.sizes) for each in log)
        cost = cost_of(log)
        return ChunkSummary(
            digest, last.state, last.task, locations, cost, job_id=job_id, error=last.error
        )

    def _log(self, digest: str, records: int) -> Log:
        data = (self._read(_path(digest, number + 1)) for number in range(records))
        return [self._record_in(each or b"", digest) for each in data]

    def _read(self, path: str) -> bytes | None:
        import obstore  # noqa: PLC0415 - optional

        with self._telling("read"):
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError:
                return None


def _path(digest: str, number: int | None = None) -> str:
    return f"chunks/{digest}/{'answer' if number is None else number}"


def _already_exists() -> tuple[type[Exception], ...]:
    from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - optional

    return AlreadyExistsError, FileExistsError


def _said(error: BaseException) -> str:
    """The first line of what obstore says, which goes on with what only its makers need."""
    return masked((str(error).splitlines() or [type(error).__name__])[0])


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
