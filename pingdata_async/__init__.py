"""Enhance millions of property addresses through the Ping.Data bulk API, in one event loop."""

from pingdata_async._version import __version__
from pingdata_async.bulk.polling import PollSchedule
from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.bulk.stream import ResultStream
from pingdata_async.client import PingDataClient
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    InputError,
    JobFailedError,
    JobTimeoutError,
    MissingTokenError,
    NotFoundError,
    PauseTooLongError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    RunError,
    ServerError,
    SubmissionInDoubtError,
    TransportError,
    UnexpectedRedirectError,
    UnknownSourceError,
)
from pingdata_async.models import (
    EnhancedLocation,
    JobOutput,
    JobStatus,
    Location,
    Reason,
    RowStatus,
    RunSummary,
    SourceResult,
)
from pingdata_async.runs.exporting import ExportedRun, export_run
from pingdata_async.runs.status import PendingSubmission, RunStatus, read_status

__all__ = [
    "APIStatusError",
    "AccessDeniedError",
    "AuthenticationError",
    "BulkEnhancer",
    "ClientClosedError",
    "ConfigurationError",
    "DecodeError",
    "EnhancedLocation",
    "ExportedRun",
    "InputError",
    "JobFailedError",
    "JobOutput",
    "JobStatus",
    "JobTimeoutError",
    "Location",
    "MissingTokenError",
    "NotFoundError",
    "PauseTooLongError",
    "PendingSubmission",
    "PingDataClient",
    "PingDataError",
    "PollSchedule",
    "QuotaExceededError",
    "RateLimitError",
    "Reason",
    "RequestRejectedError",
    "ResultStream",
    "RetryPolicy",
    "RowStatus",
    "RunError",
    "RunStatus",
    "RunSummary",
    "ServerError",
    "SourceResult",
    "SubmissionInDoubtError",
    "TransportError",
    "UnexpectedRedirectError",
    "UnknownSourceError",
    "__version__",
    "export_run",
    "read_status",
]
