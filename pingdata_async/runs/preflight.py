"""What the API is asked before anything is sent: the account's limits, and the data sources.

If the API does not answer, the run goes on without these answers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import anyio
import msgspec

from pingdata_async.api.account import LimitRefusal, Limits
from pingdata_async.api.client import PingDataClient
from pingdata_async.engine.flow_control.budget import Amount
from pingdata_async.events import EventEmitter, RunNotice
from pingdata_async.exceptions import (
    APIStatusError,
    AuthenticationError,
    ClientClosedError,
    DecodeError,
    LimitsExceededError,
    TransportError,
)
from pingdata_async.locations.coverage import Coverage
from pingdata_async.models import DataSource
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.util.text import counted

T = TypeVar("T")

ANSWER_WITHIN_S = 30.0


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Whether what is to be sent fits the account's limits."""

    limits: Limits | None = None  # if they are known
    why_unknown: str = ""  # in a few words, if they are not
    refusals: tuple[LimitRefusal, ...] = ()  # what they would refuse
    fitting: int | None = None  # locations that fit the limits of all sources; None for all

    @property
    def fits(self) -> bool | None:
        """Whether nothing is known to be refused; None if the limits are unknown."""
        return None if self.limits is None else not self.refusals


class Preflight:
    """Asks the API about a run's sources, once, and about the account's limits.

    If the client is closed, nothing is asked. What the API does not tell becomes a notice.
    """

    def __init__(self, client: PingDataClient, settings: RunSettings, emit: EventEmitter) -> None:
        self._client = client
        self._delegate_to = settings.options.delegate_to
        self._wanted = {code.casefold() for code in settings.sources}
        self._emit = emit
        self._sources: Mapping[str, DataSource] | str | None = None

    async def coverage(self) -> Coverage | str:
        """Which locations the sources surely cannot answer; a sentence if that is unknown.

        Raises:
            AuthenticationError: When the API does not accept the token.
        """
        sources = await self._known_sources()
        if isinstance(sources, str):
            return f"Locations that a source cannot answer are not left out: {sources}."
        return Coverage(sources)

    async def field_types(self) -> dict[str, Mapping[str, str]]:
        """The types of the fields of each source; raises as `coverage()`."""
        sources = await self._known_sources()
        if isinstance(sources, str):
            self._note(f"The types of the columns are found from the answers alone: {sources}.")
            return {}
        return {
            code: source.output_fields
            for code, source in sources.items()
            if code.casefold() in self._wanted
        }

    async def judge(self, wanted: Amount) -> Judgement:
        """Compare the account's limits with what is to be sent; raises as `coverage()`."""
        if self._delegate_to:
            said = f"the API tells only your own, not those of {self._delegate_to}"
            return Judgement(why_unknown=said)
        limits = await asked(
            self._client.limits(),
            "its limits",
            unasked="the API was not asked, because there is no token",
        )
        if isinstance(limits, str):
            return Judgement(why_unknown=limits)
        return judged(limits, wanted, dt.datetime.now(dt.UTC))

    async def check(self, wanted: Amount, spent: Amount) -> None:
        """Refuse what would exceed the limits; also raises as `judge()`.

        Args:
            wanted: What is to be sent.
            spent: What was sent before.

        Raises:
            LimitsExceededError: With the numbers, when the limits reset, and what fits.
        """
        judgement = await self.judge(wanted)
        if judgement.why_unknown:
            self._note(
                f"Whether this fits the account's limits is unknown: {judgement.why_unknown}."
            )
        if judgement.refusals:
            raise LimitsExceededError(refusal_message(judgement, wanted, spent))

    async def _known_sources(self) -> Mapping[str, DataSource] | str:
        if self._sources is None:
            question = self._client.datasources(delegate_to=self._delegate_to)
            self._sources = await asked(question, "of its sources", unasked="the API was not asked")
        return self._sources

    def _note(self, message: str) -> None:
        self._emit(RunNotice(message=message))


async def asked(question: Awaitable[T], what: str, *, unasked: str) -> T | str:
    """The answer to a question, or why there is none, in a few words.

    Args:
        question: A call of the client.
        what: What it asks the API to tell, such as "its limits".
        unasked: What to say if the client is closed.

    Raises:
        AuthenticationError: When the API does not accept the token.
    """
    try:
        with anyio.fail_after(ANSWER_WITHIN_S):
            return await question
    except AuthenticationError:
        raise
    except TimeoutError:
        return f"the API did not tell {what} within {ANSWER_WITHIN_S:.0f} s"
    except ClientClosedError:
        return unasked
    except (APIStatusError, TransportError, DecodeError) as error:
        return f"the API does not tell {what} ({error})"


def judged(limits: Limits, wanted: Amount, now: dt.datetime) -> Judgement:
    """Compare limits with what is to be sent."""
    refusals = limits.refusals(wanted.by_source, now)
    fitting = None
    if refusals:
        fitting = min(
            (0 if each.remaining is None else max(0, each.remaining) for each in refusals),
            default=0,
        )
    return Judgement(limits=limits, refusals=refusals, fitting=fitting)


def refusal_message(judgement: Judgement, wanted: Amount, spent: Amount) -> str:
    """What would be refused, with the numbers, when the limits reset, and what fits."""
    refused = {each.source.casefold() for each in judgement.refusals}
    others = [code for code in wanted.by_source if code.casefold() not in refused]
    reasons = ". ".join(dict.fromkeys(map(str, judgement.refusals)))
    fits = []
    if others:
        fits.append(f"{', '.join(others)} without {', '.join(_refused(judgement))}")
    if judgement.fitting:
        most = spent.locations + judgement.fitting
        fits.append(f"{counted(judgement.fitting, 'location')} (--max-locations {most})")
    return (
        f"this would exceed the account's limits, so nothing was sent. {reasons}. What fits: "
        f"{', or '.join(fits) or 'nothing'}; --no-preflight starts the run all the same"
    )


def _refused(judgement: Judgement) -> list[str]:
    return list(dict.fromkeys(each.source for each in judgement.refusals))
