"""The status answers against the schema as published."""

import json
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.sandbox.caller import Clock, addresses, calling

PUBLISHED = Path(__file__).parent.parent / "data" / "bulk-enhance-status.schema.json"


@pytest.fixture
def document() -> Any:
    return json.loads(PUBLISHED.read_bytes())


def check(document: Any, name: str, answer: object) -> None:
    schema = document | {"$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft4Validator(
        schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
    ).validate(answer)


def relax(document: Any) -> None:
    """What the contract names as contradictory: nulls until known, lists for objects."""
    schemas = document["components"]["schemas"]
    request = schemas["GetBulkEnhanceAPIViewResponseRequest"]["properties"]
    for name, schema in request.items():
        if name.startswith("num_") or name in {"progress_started_at", "completed_at"}:
            schema["type"] = [schema["type"], "null"]
    result = schemas["GetBulkEnhanceAPIViewResponseResponse"]["properties"]
    for name in ("outputs", "sources"):
        result[name] = {"type": "array", "items": result[name]["allOf"][0]}


async def test_a_complete_job_passes_the_schema_as_it_is(clock: Clock, document: Any) -> None:
    """With objects for outputs and sources the published schema needs no changes."""
    async with calling(SandboxServer(clock=clock, shape="object")) as caller:
        job_id = await caller.submit(addresses(20), "PG", "PH", "LB")
        clock.advance(100)
        answer = await caller.status(job_id)
        assert answer["request"]["status"] == "COMPLETE"
        check(document, "GetBulkEnhanceAPIViewResponse", answer)


async def test_every_state_passes_but_for_the_contradictions(clock: Clock, document: Any) -> None:
    """All states with lists pass once nulls and lists are allowed, and only then."""
    relaxed = json.loads(json.dumps(document))
    relax(relaxed)
    sandbox = SandboxServer(clock=clock, locations_per_s=10, queue_delay_s=2)
    async with calling(sandbox) as caller:
        job_id = await caller.submit(addresses(20), "PG", "PH", "LB")
        states = []
        for _ in range(6):
            answer = await caller.status(job_id)
            states.append(answer["request"]["status"])
            check(relaxed, "GetBulkEnhanceAPIViewResponse", answer)
            with pytest.raises(jsonschema.ValidationError):
                check(document, "GetBulkEnhanceAPIViewResponse", answer)
            clock.advance(1)
        assert set(states) == {"PENDING", "QUEUED", "IN_PROGRESS", "COMPLETE"}


async def test_a_failed_request_passes_the_schema(clock: Clock, document: Any) -> None:
    """request.status FAILED has all dates and counts, and no result."""
    sandbox = SandboxServer(clock=clock, faults=FaultPlan(failed_job=1), seed=1)
    async with calling(sandbox) as caller:
        jobs = [await caller.submit(addresses(4)) for _ in range(10)]
        clock.advance(100)
        answers = [await caller.status(job_id) for job_id in jobs]
        failed = [answer for answer in answers if answer["request"]["status"] == "FAILED"]
        assert failed
        for answer in failed:
            assert "result" not in answer
            check(document, "GetBulkEnhanceAPIViewResponse", answer)


async def test_the_401_passes_the_schema(document: Any) -> None:
    """A refused token is answered with a UUID and a message."""
    async with calling(SandboxServer(), token=None) as caller:
        answer = await caller.get("/api/v1/bulk_enhance/x")
        assert answer.status == 401
        check(document, "BEVErrorResponse401", answer.json)
        uuid.UUID(answer.json["id"])
