"""What the API is asked before anything is sent: limits and data sources.

Before anything is sent: would the account's limits let it through?

What a run asks the API about its sources; an API that does not tell costs only the answer.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence

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
from pingdata_async.util.text import counted

ANSWER_WITHIN_S = 30.0


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the account's limits say of what is to be sent.

    Attributes:
        limits: The limits; None where they are not known.
        why_unknown: Why they are not, a few words; "" where they are.
        refusals: What of it they would refuse, as far as is known.
        fitting: Locations that all its sources may be asked about; None for all.
    """

    limits: Limits | None = None
    why_unknown: str = ""
    refusals: tuple[LimitRefusal, ...] = ()
    fitting: int | None = None

    @property
    def fits(self) -> bool | None:
        """Whether nothing of it is known to be refused; None where the limits are not known."""
        return None if self.limits is None else not self.refusals


class Preflight:
    """Asks the account's limits, and compares them with what is to be sent.

    Args:
        ask_limits: Asks the API for them.
        delegate_to: The organisation that is acted for; its limits are not known. None for
            one's own.
    """

    def __init__(
        self, ask_limits: Callable[[], Awaitable[Limits]], delegate_to: str | None
    ) -> None:
        self._ask_limits = ask_limits
        self._delegate_to = delegate_to

    async def judge(self, wanted: Amount) -> Judgement:
        """What the limits say; an API that does not tell them costs only the check.

        Raises:
            AuthenticationError: When the API does not accept the token.
        """
        if self._delegate_to:
            said = f"the limits that the API tells are your own, not those of {self._delegate_to}"
            return Judgement(why_unknown=said)
        try:
            with anyio.fail_after(ANSWER_WITHIN_S):
                limits = await self._ask_limits()
        except AuthenticationError:
            raise
        except TimeoutError:
            said = f"the API did not tell its limits within {ANSWER_WITHIN_S:.0f} s"
            return Judgement(why_unknown=said)
        except ClientClosedError:
            return Judgement(why_unknown="the API was not asked, for want of a token")
        except (APIStatusError, TransportError, DecodeError) as error:
            return Judgement(why_unknown=f"the API does not tell its limits ({error})")
        return judged(limits, wanted, dt.datetime.now(dt.UTC))

    async def check(self, wanted: Amount, spent: Amount, emit: EventEmitter) -> None:
        """Refuse what is known to be refused; raises also as `judge()`.

        Args:
            wanted: What is to be sent.
            spent: What was sent before.
            emit: Told where the limits are not known.

        Raises:
            LimitsExceededError: With the numbers, when there is more again, and what fits.
        """
        judgement = await self.judge(wanted)
        if judgement.why_unknown:
            message = f"Whether the account's limits suffice is not known: {judgement.why_unknown}."
            emit(RunNotice(message=message))
        if judgement.refusals:
            raise LimitsExceededError(refusal_message(judgement, wanted, spent))


def judged(limits: Limits, wanted: Amount, now: dt.datetime) -> Judgement:
    """What these limits say of it at that time."""
    refusals = limits.refusals(wanted.by_source, now)
    fitting = None
    if refusals:
        fitting = min(
            (0 if each.remaining is None else max(0, each.remaining) for each in refusals),
            default=0,
        )
    return Judgement(limits=limits, refusals=refusals, fitting=fitting)


def refusal_message(judgement: Judgement, wanted: Amount, spent: Amount) -> str:
    """That it would be refused: the numbers, when there is more again, and what fits."""
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
        f"the account's limits would not let it all through, so nothing was sent. {reasons}. "
        f"What fits: {', or '.join(fits) or 'nothing'}; --no-preflight begins all the same"
    )


def _refused(judgement: Judgement) -> list[str]:
    return list(dict.fromkeys(each.source for each in judgement.refusals))


class SourceQuestions:
    """Asks the API about its sources, at most once.

    Args:
        client: Of a run.
        sources: The run's.
        delegate_to: The organisation that is acted for; None for one's own.
        emit: Told where there is no answer.
    """

    def __init__(
        self,
        client: PingDataClient,
        sources: Sequence[str],
        delegate_to: str | None,
        emit: EventEmitter,
    ) -> None:
        self._client = client
        self._wanted = {code.casefold() for code in sources}
        self._delegate_to = delegate_to
        self._emit = emit
        self._answer: Mapping[str, DataSource] | str | None = None

    async def rules(self) -> Coverage | str:
        """What the sources are not to be asked about; where the API does not tell, a sentence.

        Raises:
            AuthenticationError: When the API does not accept the token.
        """
        answer = await self._ask()
        if isinstance(answer, str):
            return f"Which locations a source cannot answer is not checked: {answer}."
        return Coverage(answer)

    async def types(self) -> dict[str, Mapping[str, str]]:
        """The types of the fields of the run's sources; raises as `rules()`."""
        answer = await self._ask()
        if isinstance(answer, str):
            self._say(f"What types the fields have, the answers tell: {answer}.")
            return {}
        return {
            code: source.output_fields
            for code, source in answer.items()
            if code.casefold() in self._wanted
        }

    def _say(self, message: str) -> None:
        self._emit(RunNotice(message=message))

    async def _ask(self) -> Mapping[str, DataSource] | str:
        """The sources by code, or why they are not known, a few words."""
        if self._answer is None:
            self._answer = await self._answered()
        return self._answer

    async def _answered(self) -> Mapping[str, DataSource] | str:
        try:
            with anyio.fail_after(ANSWER_WITHIN_S):
                return await self._client.datasources(delegate_to=self._delegate_to)
        except AuthenticationError:
            raise
        except TimeoutError:
            return f"the API did not tell of its sources within {ANSWER_WITHIN_S:.0f} s"
        except ClientClosedError:
            return "the API was not asked"
        except (APIStatusError, TransportError, DecodeError) as error:
            return f"the API does not tell of its sources ({error})"
