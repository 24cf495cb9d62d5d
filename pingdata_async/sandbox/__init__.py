"""An imitation of the Ping.Data API, with faults on demand, to try and to test things with.

account     The account: usage, quota, throttling
answers     Plausible answers: where an address is, and what the data sources say
downloads   Outputs, generated while they are downloaded
faults      Faults on demand: the plan, the dice, corrupted outputs
jobs        Jobs before a fleet of workers: their timing, their status
server      The server: its endpoints, its callbacks, its socket
settings    The settings of a sandbox
stats       What was asked of it
validation  What the sandbox accepts, and what `/datasources` says of that
"""

from pingdata_async.sandbox.faults import FaultPlan
from pingdata_async.sandbox.server import SandboxServer
from pingdata_async.sandbox.stats import SandboxStats

__all__ = ["FaultPlan", "SandboxServer", "SandboxStats"]
