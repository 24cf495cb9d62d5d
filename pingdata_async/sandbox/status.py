"""What is answered when somebody asks about a job."""

import bisect
from collections.abc import Callable
from typing import Any

from pingdata_async.sandbox.jobs import Job


def describe(
    job: Job,
    now_s: float,
    *,
    timestamp: Callable[[float], str],
    output_url: str,
    as_objects: bool,
    with_dates: bool = True,
) -> dict[str, Any]:
    """The answer about a job's status.

    Args:
        job: The job.
        now_s: The time on the queue's clock.
        timestamp: Turns a time of that clock into an ISO 8601 date.
        output_url: Where its output is.
        as_objects: Draw ``outputs`` and ``sources`` as the one object of the published schema
            (of several sources only the first fits in) instead of as lists.
        with_dates: Tell the dates; else all of them are null.
    """
    status = job.status(now_s)
    started = now_s >= job.started_at_s
    ended = now_s >= job.ended_at_s
    done = job.num_completed(now_s)

    def date(moment_s: float, *, is_past: bool) -> str | None:
        return timestamp(moment_s) if with_dates and is_past else None

    answer: dict[str, Any] = {
        "request": {
            "status": status,
            "requested_at": date(job.requested_at_s, is_past=True),
            "progress_started_at": date(job.started_at_s, is_past=started),
            "completed_at": date(job.ended_at_s, is_past=ended),
            "num_requested": None if status == "PENDING" else job.num_locations,
            "num_completed": done if started else None,
            "num_problems": bisect.bisect_left(job.problems, done) if started else None,
            "num_canceled": 0 if started else None,
        }
    }
    if status == "COMPLETE":
        answer["result"] = _result(job, output_url, as_objects=as_objects)
    return answer


def _result(job: Job, output_url: str, *, as_objects: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "status": "SUCCESS",
        "message": "Success",
        "total_processing_time": round(job.ended_at_s - job.started_at_s, 6),
    }
    if not job.fate.has_output:
        return result | {"status": "FAILED", "message": "The results could not be written"}
    description = "Enhanced locations (JSON)"
    outputs = [{"url": output_url, "filename": job.shown_filename, "description": description}]
    sources = [tally.as_json(source) for source, tally in job.tallies.items()]
    return result | {
        "outputs": outputs[0] if as_objects else outputs,
        "sources": sources[0] if as_objects else sources,
        "additional_info": {"worker_name": "sandbox"},
    }
