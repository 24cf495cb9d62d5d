"""An imitation of the Ping.Data API, with faults on demand, to try and to test things with.

account     What the account used and may use; throttling of requests, jobs and locations
answers     Plausible answers: where an address is, and what the data sources say
downloads   Job outputs, generated and corrupted while they are downloaded
faults      Faults on demand: the plan and the injector
jobs        Submissions, the jobs made of them, a fleet of workers, job status
server      The server: its endpoints and its socket
settings    The settings of a sandbox, with the help of their options
stats       What was asked of the sandbox
validation  Which requests are accepted, and what `/datasources` says of that
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pingdata_async.sandbox.faults import FaultPlan
    from pingdata_async.sandbox.server import SandboxServer
    from pingdata_async.sandbox.stats import SandboxStats

__all__ = ["FaultPlan", "SandboxServer", "SandboxStats"]

_HOMES = {"FaultPlan": "faults", "SandboxServer": "server", "SandboxStats": "stats"}


def __getattr__(name: str) -> Any:
    """Load a public name on first use: settings alone need no web server."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
