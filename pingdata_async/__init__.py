"""Enhance millions of property addresses through the Ping.Data bulk API, in one event loop.

The errors are loaded with the package, everything else when its name is first asked for: by
`from pingdata_async import PingDataClient`, or where `pingdata_async.PingDataClient` is used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from pingdata_async._version import __version__
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    BudgetSpentError,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    DecodeError,
    InputError,
    JobFailedError,
    JobTimeoutError,
    LimitsExceededError,
    MissingTokenError,
    NoAnswerError,
    NotFoundError,
    OutputUnavailableError,
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

if TYPE_CHECKING:
    from pingdata_async.api.account import LimitRefusal, Limits, SourceLimits, Usage, UsageBucket
    from pingdata_async.api.client import PingDataClient
    from pingdata_async.api.connections import HTTPOptions
    from pingdata_async.api.job import Job, read_output
    from pingdata_async.dataframe import enhance_table, to_arrow, to_pandas
    from pingdata_async.engine.flow_control.polling import PollSchedule
    from pingdata_async.engine.flow_control.retry import RetryPolicy
    from pingdata_async.engine.stream import ResultStream
    from pingdata_async.enhancer import BulkEnhancer
    from pingdata_async.events import (
        AnswersReused,
        ChunkFinished,
        ChunkHeld,
        ChunkSplit,
        Event,
        InputAwaited,
        InputPlanned,
        InputProgress,
        JobAbandoned,
        JobKept,
        JobOverdue,
        JobPolled,
        JobStalled,
        JobSubmitted,
        LocationsAskedAgain,
        OutputProgress,
        OutputWritten,
        PauseAsked,
        RequestRetried,
        RequestSent,
        RunNotice,
        RunResumed,
        RunStopped,
        RunStopping,
        SubmissionInDoubt,
        UnexpectedAnswer,
    )
    from pingdata_async.models import (
        DataSource,
        EnhancedLocation,
        EnhancedLocations,
        JobOutput,
        JobStatus,
        Location,
        Reason,
        RowStatus,
        RunSummary,
        SourceResult,
    )
    from pingdata_async.runs.comparison import ChangeKind
    from pingdata_async.runs.diff import Change, diff_runs
    from pingdata_async.runs.export.export import ExportedRun, export_run
    from pingdata_async.runs.forecast import Forecast, Quota
    from pingdata_async.runs.status import (
        FoundRun,
        PendingSubmission,
        RunStatus,
        find_runs,
        read_status,
    )
    from pingdata_async.tables.formats import WriteOptions
    from pingdata_async.tables.rows import ReadOptions
    from pingdata_async.telemetry import Telemetry
    from pingdata_async.value_notes import ValueKind, ValueNote
else:
    # The command begins with an import of this package too: its `--help` should not wait for
    # aiohttp, nor Ctrl-C be a traceback for so long. Type checkers need not know.
    _LOADED_LATER = {
        name: module
        for module, names in {
            "api.account": "LimitRefusal Limits SourceLimits Usage UsageBucket",
            "api.client": "PingDataClient",
            "api.connections": "HTTPOptions",
            "api.job": "Job read_output",
            "dataframe": "enhance_table to_arrow to_pandas",
            "engine.flow_control.polling": "PollSchedule",
            "engine.flow_control.retry": "RetryPolicy",
            "engine.stream": "ResultStream",
            "enhancer": "BulkEnhancer",
            "events": "AnswersReused ChunkFinished ChunkHeld ChunkSplit Event InputAwaited "
            "InputPlanned InputProgress JobAbandoned JobKept JobOverdue JobPolled "
            "JobStalled JobSubmitted LocationsAskedAgain OutputProgress OutputWritten "
            "PauseAsked RequestRetried RequestSent RunNotice RunResumed RunStopped "
            "RunStopping SubmissionInDoubt UnexpectedAnswer",
            "models": "DataSource EnhancedLocation EnhancedLocations JobOutput JobStatus Location "
            "Reason RowStatus RunSummary SourceResult",
            "runs.comparison": "ChangeKind",
            "runs.diff": "Change diff_runs",
            "runs.export.export": "ExportedRun export_run",
            "runs.forecast": "Forecast Quota",
            "runs.status": "FoundRun PendingSubmission RunStatus find_runs read_status",
            "tables.formats": "WriteOptions",
            "tables.rows": "ReadOptions",
            "telemetry": "Telemetry",
            "value_notes": "ValueKind ValueNote",
        }.items()
        for name in names.split()
    }

    def __getattr__(name: str) -> object:
        if name not in _LOADED_LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(_import_module(f"{__name__}.{_LOADED_LATER[name]}"), name)
        globals()[name] = value  # asked for once
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "APIStatusError",
    "AccessDeniedError",
    "AnswersReused",
    "AuthenticationError",
    "BudgetSpentError",
    "BulkEnhancer",
    "CallTimeoutError",
    "Change",
    "ChangeKind",
    "ChunkFinished",
    "ChunkHeld",
    "ChunkSplit",
    "ClientClosedError",
    "ConfigurationError",
    "DataSource",
    "DecodeError",
    "EnhancedLocation",
    "EnhancedLocations",
    "Event",
    "ExportedRun",
    "Forecast",
    "FoundRun",
    "HTTPOptions",
    "InputAwaited",
    "InputError",
    "InputPlanned",
    "InputProgress",
    "Job",
    "JobAbandoned",
    "JobFailedError",
    "JobKept",
    "JobOutput",
    "JobOverdue",
    "JobPolled",
    "JobStalled",
    "JobStatus",
    "JobSubmitted",
    "JobTimeoutError",
    "LimitRefusal",
    "Limits",
    "LimitsExceededError",
    "Location",
    "LocationsAskedAgain",
    "MissingTokenError",
    "NoAnswerError",
    "NotFoundError",
    "OutputProgress",
    "OutputUnavailableError",
    "OutputWritten",
    "PauseAsked",
    "PauseTooLongError",
    "PendingSubmission",
    "PingDataClient",
    "PingDataError",
    "PollSchedule",
    "Quota",
    "QuotaExceededError",
    "RateLimitError",
    "ReadOptions",
    "Reason",
    "RequestRejectedError",
    "RequestRetried",
    "RequestSent",
    "ResultStream",
    "RetryPolicy",
    "RowStatus",
    "RunError",
    "RunNotice",
    "RunResumed",
    "RunStatus",
    "RunStopped",
    "RunStopping",
    "RunSummary",
    "ServerError",
    "SourceLimits",
    "SourceResult",
    "SubmissionInDoubt",
    "SubmissionInDoubtError",
    "Telemetry",
    "TransportError",
    "UnexpectedAnswer",
    "UnexpectedRedirectError",
    "UnknownSourceError",
    "Usage",
    "UsageBucket",
    "ValueKind",
    "ValueNote",
    "WriteOptions",
    "__version__",
    "diff_runs",
    "enhance_table",
    "export_run",
    "find_runs",
    "read_output",
    "read_status",
    "to_arrow",
    "to_pandas",
]
