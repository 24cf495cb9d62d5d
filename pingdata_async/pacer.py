"""Whom a transport asks right before it sends a request, and tells how that ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pingdata_async.urls import Origin

Connection = Callable[[], AbstractAsyncContextManager[None]]
"""Waits for a free connection when entered, and frees it when left."""


class Pacer(Protocol):
    """Decides when each request may be sent.

    One call of a client can send several: a download that is redirected, or whose url has
    expired, asks for each of them anew.
    """

    def sending(
        self, kind: str, origin: Origin | None, connection: Connection
    ) -> AbstractAsyncContextManager[None]:
        """To be held from before a request is sent until its answer is read.

        It is entered when the request may be sent, with the connection at hand; permission is
        asked for last, as a pause may begin while a connection is waited for. What is raised
        inside is what the request came to.

        Args:
            kind: submit, poll or fetch.
            origin: Where it goes; None for the API itself.
            connection: What it is sent on.
        """
        ...
