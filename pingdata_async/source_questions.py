"""What a run asks the API about its sources; an API that does not tell costs only the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from pingdata_async.client import PingDataClient
from pingdata_async.data_sources import DataSource
from pingdata_async.events import Announcer, RunNotice
from pingdata_async.exceptions import (
    APIStatusError,
    AuthenticationError,
    ClientClosedError,
    DecodeError,
    TransportError,
)
from pingdata_async.source_rules import SourceRules

ANSWER_WITHIN_S = 30.0


class SourceQuestions:
    """Asks the API about its sources, at most once.

    Args:
        client: Of a run.
        sources: The run's.
        delegate_to: The organisation that is acted for; None for one's own.
        announce: Told where there is no answer.
    """

    def __init__(
        self,
        client: PingDataClient,
        sources: Sequence[str],
        delegate_to: str | None,
        announce: Announcer,
    ) -> None:
        self._client = client
        self._wanted = {code.casefold() for code in sources}
        self._delegate_to = delegate_to
        self._announce = announce
        self._answer: Mapping[str, DataSource] | str | None = None

    async def rules(self) -> SourceRules | str:
        """What the sources are not to be asked about; where the API does not tell, a sentence.

        Raises:
            AuthenticationError: When the API does not accept the token.
        """
        answer = await self._ask()
        if isinstance(answer, str):
            return f"Which locations a source cannot answer is not checked: {answer}."
        return SourceRules(answer)

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
        self._announce(RunNotice(message=message))

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
