"""An imitation of the Ping.Data API, with faults on demand, to try and to test things with."""

from pingdata_async.sandbox.faults import FaultPlan
from pingdata_async.sandbox.server import SandboxServer
from pingdata_async.sandbox.stats import SandboxStats

__all__ = ["FaultPlan", "SandboxServer", "SandboxStats"]
