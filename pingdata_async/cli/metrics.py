"""Metrics of a run for Prometheus: what `telemetry` counts, served as text while the run goes on.

The exposition format is a line for each number, so no package is needed for it.
"""

from __future__ import annotations

import contextlib
import logging
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

import anyio
from aiohttp import web

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.telemetry import Attributes, Telemetry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_HOST = "127.0.0.1"
ENDING_S = 0.5  # for a scrape that is under way as the run ends
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = tuple[tuple[str, str], ...]


def _labels(attributes: Attributes | None) -> Labels:
    given = (attributes or {}).items()
    return tuple((name.replace(".", "_"), str(value)) for name, value in given)


def _sample(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels)
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


class Counter:
    """A number for each set of labels."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._values: dict[Labels, int] = {}

    def add(self, amount: int, attributes: Attributes | None = None) -> None:
        """Add to one of them."""
        labels = _labels(attributes)
        self._values[labels] = self._values.get(labels, 0) + amount

    def samples(self) -> Iterator[str]:
        """Its lines."""
        for labels, value in self._values.items():
            yield _sample(self._name, labels, value)


class Histogram:
    """For each set of labels, how many numbers were up to each of some bounds."""

    def __init__(self, name: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def record(self, amount: float, attributes: Attributes | None = None) -> None:
        """Take a number."""
        labels = _labels(attributes)
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, amount)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + amount

    def samples(self) -> Iterator[str]:
        """Its lines."""
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip((*self._bounds, "+Inf"), counts, strict=True):
                total += count
                yield _sample(f"{self._name}_bucket", (*labels, ("le", str(bound))), total)
            yield _sample(f"{self._name}_sum", labels, self._sums[labels])
            yield _sample(f"{self._name}_count", labels, total)


T = TypeVar("T", Counter, Histogram)


class Metrics:
    """Makes instruments, as an OpenTelemetry meter does, and shows what they have taken."""

    def __init__(self) -> None:
        self._instruments: list[tuple[str, Counter | Histogram]] = []  # with the lines before

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:  # noqa: ARG002 - as OpenTelemetry calls it
        """What counts up."""
        shown = f"{name.replace('.', '_')}_total"
        return self._kept(Counter(shown), shown, "counter", description)

    def create_up_down_counter(self, name: str, unit: str = "", description: str = "") -> Counter:  # noqa: ARG002 - likewise
        """What counts up and down."""
        shown = name.replace(".", "_")
        return self._kept(Counter(shown), shown, "gauge", description)

    def create_histogram(
        self,
        name: str,
        unit: str = "",  # noqa: ARG002 - all are in seconds
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Histogram:
        """What takes durations."""
        shown = f"{name.replace('.', '_')}_seconds"
        made = Histogram(shown, explicit_bucket_boundaries_advisory or ())
        return self._kept(made, shown, "histogram", description)

    def _kept(self, made: T, name: str, kind: str, description: str) -> T:
        head = f"# HELP {name} {description}\n# TYPE {name} {kind}"
        self._instruments.append((head, made))
        return made

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        lines = [line for head, made in self._instruments for line in (head, *made.samples())]
        return "\n".join(lines) + "\n"


@contextlib.asynccontextmanager
async def serve_metrics(address: str) -> AsyncIterator[tuple[Telemetry, str]]:
    """Serve metrics; gives what counts them, and their url.

    Args:
        address: A port, or host and port; port 0 for any that is free.

    Raises:
        ConfigurationError: When nothing can be served there.
    """
    metrics = Metrics()

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.text().encode(), headers={"Content-Type": CONTENT_TYPE})

    host, _, port = address.rpartition(":")
    host = host.strip("[]") or DEFAULT_HOST
    # What a stranger sends there is no news; aiohttp logs it with a traceback.
    unheard = logging.getLogger("pingdata_async.metrics")
    unheard.setLevel(logging.CRITICAL + 1)
    app = web.Application()
    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None, logger=unheard, shutdown_timeout=ENDING_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, int(port)).start()
        except (OSError, ValueError) as error:  # the latter of a host that cannot be a name
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"metrics cannot be served at {host}:{port} ({why}); give another --metrics-port"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        yield Telemetry(metrics), f"http://{shown}:{runner.addresses[0][1]}/metrics"
    finally:
        with anyio.CancelScope(shield=True):  # takes no longer than `ENDING_S`
            await runner.cleanup()
