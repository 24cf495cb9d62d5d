"""Answers decoded: every documented reading is taken, what is no answer is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingdata_async import DecodeError, JobOutput, JobStatus, PingDataError
from pingdata_async.api.wire import decode_enhance, decode_status, decode_submission
from pingdata_async.results.outcomes import judge_location
from tests.support.servers import LocalApi, always, client_of

DECODERS: list[Callable[[bytes, str], Any]] = [decode_submission, decode_status, decode_enhance]


def status_of(result: object = None, **request: Any) -> JobStatus:
    payload = {"request": {"status": "COMPLETE"} | request, "result": result}
    return decode_status(json.dumps(payload).encode(), "GET x")


OUTPUT = {"url": "/a/o.json", "filename": "o.json", "description": "JSON"}
STATISTICS = {"source": "PG", "num_fetched": 1, "avg_fetch_duration": None}


def test_status_without_a_result() -> None:
    """While a job runs there is no result, or it is null."""
    for body in (
        b'{"request":{"status":"QUEUED"}}',
        b'{"request":{"status":"QUEUED"},"result":null}',
    ):
        status = decode_status(body, "GET x")
        assert status == JobStatus(status="QUEUED")
        assert not status.is_finished
        assert not status.is_failed


def test_full_status() -> None:
    """Every field of the reference arrives under its own name."""
    status = status_of(
        {
            "status": "SUCCESS",
            "message": "done",
            "total_processing_time": 1.5,
            "outputs": [OUTPUT],
            "sources": [STATISTICS],
            "additional_info": {"x": 1},
        },
        requested_at="2024-01-01T00:00:00Z",
        progress_started_at="2024-01-01T00:00:01Z",
        completed_at="2024-01-01T00:00:02Z",
        num_requested=4,
        num_completed=3,
        num_problems=2,
        num_canceled=1,
        something_new=[1],
    )
    assert status == JobStatus(
        status="COMPLETE",
        num_requested=4,
        num_completed=3,
        num_problems=2,
        num_canceled=1,
        requested_at="2024-01-01T00:00:00Z",
        progress_started_at="2024-01-01T00:00:01Z",
        completed_at="2024-01-01T00:00:02Z",
        result_status="SUCCESS",
        message="done",
        total_processing_time=1.5,
        outputs=(JobOutput("/a/o.json", "o.json", "JSON"),),
        sources=(STATISTICS,),
    )
    assert status.is_finished
    assert not status.is_failed


@pytest.mark.parametrize(
    ("outputs", "urls"),
    [
        ([OUTPUT], ["/a/o.json"]),
        ([OUTPUT, {"url": "/b"}, {"url": "/c", "filename": None}], ["/a/o.json", "/b", "/c"]),
        (OUTPUT, ["/a/o.json"]),
        ({"json": OUTPUT, "csv": {"url": "/b"}}, ["/a/o.json", "/b"]),
        ([], []),
        ({}, []),
        (None, []),
        ("", []),
        ([None, {}, {"url": None}, {"url": ""}, "x", 1], []),
    ],
)
def test_shapes_of_outputs(outputs: object, urls: list[str]) -> None:
    """Outputs come as a list, as one object, as an object of objects, or not at all."""
    found = status_of({"status": "SUCCESS", "outputs": outputs}).outputs
    assert [output.url for output in found] == urls
    assert all(isinstance(output.filename, str) for output in found)


@pytest.mark.parametrize(
    ("sources", "count"),
    [([STATISTICS], 1), (STATISTICS, 1), ({"PG": {}, "PH": {}}, 2), ([], 0), ({}, 0), (None, 0)],
)
def test_shapes_of_sources(sources: object, count: int) -> None:
    """Statistics come as a list, as an object, or not at all."""
    assert len(status_of({"status": "SUCCESS", "sources": sources}).sources) == count


def test_empty_result() -> None:
    """A result may hold nothing at all, or nulls alone."""
    nulls = dict.fromkeys(
        ["status", "message", "total_processing_time", "outputs", "sources", "additional_info"]
    )
    for result in ({}, nulls):
        status = status_of(result)
        assert (status.result_status, status.message, status.outputs) == (None, "", ())


@pytest.mark.parametrize("name", ["num_requested", "num_completed", "num_problems", "num_canceled"])
@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, None), (0, 0), (7, 7), (7.0, 7), ("7", None), ([], None), (True, None), (-1, None),
        (2**53, 2**53), (2**64, None), (10**400, None), (1e300, None), (-1e300, None),
    ],
)  # fmt: skip
def test_counts(name: str, sent: object, read: int | None) -> None:
    """Counts can be null or missing; one that is no number counts as missing."""
    assert getattr(status_of(**{name: sent}), name) == read
    assert getattr(status_of(), name) is None


@pytest.mark.parametrize("nonsense", ["9" * 5000, "1e400", "-1e999"])
@pytest.mark.parametrize(
    "name", ["num_completed", "requested_at", "total_processing_time", "message", "sources"]
)
def test_nonsense_is_nothing(name: str, nonsense: str) -> None:
    """What no reader can make sense of counts as missing; the rest of the answer is read."""
    body = (
        b'{"request":{"status":"COMPLETE","%b":%b},"result":{"status":"SUCCESS","%b":%b,'
        b'"outputs":{"url":"/o"}}}'
    )
    status = decode_status(body % ((name.encode(), nonsense.encode()) * 2), "a status")
    assert not getattr(status, name)
    assert [output.url for output in status.outputs] == ["/o"]


@pytest.mark.parametrize("status", ["A" * 5000, "DONE\n\x1b[31m"])
def test_a_status_is_fit_to_be_shown(status: str) -> None:
    """On one line, and not endless."""
    shown = status_of({}, status=status).status
    assert shown.isprintable()
    assert len(shown) <= 100


@pytest.mark.parametrize("name", ["requested_at", "progress_started_at", "completed_at"])
def test_dates(name: str) -> None:
    """Dates can be null."""
    assert getattr(status_of(**{name: None}), name) is None


@pytest.mark.parametrize(
    ("status", "result", "finished", "failed"),
    [
        ("PENDING", None, False, False),
        ("IN_PROGRESS", "SUCCESS", False, False),
        ("complete", "success", True, False),
        (" COMPLETE ", None, True, False),
        ("COMPLETE", "FAILED", True, True),
        ("FAILED", None, True, True),
        ("FAILED", "SUCCESS", True, True),
        ("ON_HOLD", None, False, False),
        ("ARCHIVED", "SUCCESS", True, False),
        ("CANCELED", "FAILED", True, True),
    ],
)
def test_what_a_status_means(status: str, result: str | None, finished: bool, failed: bool) -> None:
    """Unknown statuses go on until there is a result; COMPLETE with a result FAILED failed."""
    decoded = status_of({"status": result}, status=status)
    assert (decoded.is_finished, decoded.is_failed) == (finished, failed)


@pytest.mark.parametrize(
    ("body", "job_id"),
    [
        (b'{"id": "J", "message": "OK"}', "J"),
        (b'\n {"id":17}', "17"),
        (b'{"message": null, "new": {"x": [1]}, "id": "a/b c"}', "a/b c"),
    ],
)
def test_job_ids(body: bytes, job_id: str) -> None:
    """Job ids are opaque; a number is taken as its text."""
    assert decode_submission(body, "POST x") == job_id


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_any_2xx_is_a_success(status: int) -> None:
    """200 and 201 are both documented."""
    async with (
        LocalApi(always({"id": "J"}, status=status)) as api,
        client_of(api.url) as client,
    ):
        assert await client.submit([{"id": "0"}], sources=["PG"]) == "J"


NO_ANSWERS = {
    "html": b"<!DOCTYPE html>\n<html><body>Please log in</body></html>",
    "html after blanks": b"\r\n\t <html>",
    "empty": b"",
    "blank": b" \n",
    "cut": b'{"id": "J", "request": {"status": "PEN',
    "list": b"[]",
    "text": b'"OK"',
    "number": b"1",
    "null": b"null",
    "no fields": b"{}",
    "wrong types": b'{"id": {}, "request": [], "location_data": 1',
    "null fields": b'{"id": null, "request": null}',
    "empty id": b'{"id": "", "request": {}}',
    "blank id": b'{"id": " ", "request": {"status": null}}',
    "boolean id": b'{"id": true, "request": {"status": 1}}',
    "two answers": b'{"id": "J"}{"id": "J"}',
    "not utf-8": b'{"id": "\xff\xfe", "request": {"status": "\xff"}}',
    "half a surrogate": b'{"id": "\\ud800", "request": {"status": "\\ud800"}}',
    "deep": b"[" * 100_000,
    "deep inside": b'{"location_data": ' + b'{"a":' * 100_000,
    "escape codes": b"\x1b[31m\x1b]0;title\x07",
    "gzip": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_no_answers(body: bytes, decode: Callable[[bytes, str], Any]) -> None:
    """What is no answer of the API is one clear line that names the request."""
    with pytest.raises(DecodeError) as caught:
        decode(body, "GET https://api.example.com/x")
    text = str(caught.value)
    assert text.startswith("GET https://api.example.com/x: ")
    assert text.isprintable()
    assert len(text) < 500
    if b"html" in body:
        assert "an HTML page" in text


@pytest.mark.parametrize("body", [NO_ANSWERS["html"], b"", b'{"id": "J'])
async def test_no_answers_over_the_wire(body: bytes) -> None:
    """The same through the client, for each call."""
    async with LocalApi(always(body=body)) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError, match=f"POST {api.url}/api/v1/bulk_enhance: "):
            await client.submit([{"id": "0"}], sources=["PG"])
        with pytest.raises(DecodeError, match=f"GET {api.url}/api/v1/bulk_enhance/J: "):
            await client.status("J")
        with pytest.raises(DecodeError, match=f"GET {api.url}/api/v1/enhance: "):
            await client.enhance("1 Main St", sources=["PG"])


texts = st.text(max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["url", "COMPLETE", "SUCCESS", "FAILED", "/o.json"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["url", "source", "filename", "status"]) | texts, inner)
    ),
    max_leaves=12,
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "id": values,
        "request": values
        | st.fixed_dictionaries(
            {"status": texts | values},
            optional={"num_requested": values, "completed_at": values},
        ),
        "result": values
        | st.fixed_dictionaries(
            {"status": texts | st.none()},
            optional={"outputs": values, "sources": values, "message": values},
        ),
        "location_data": values,
    },
)


def decode_or_refuse(body: bytes) -> None:
    for decode in DECODERS:
        decoded: Any = None
        refusal = ""
        try:
            decoded = decode(body, "GET x")
        except DecodeError as error:
            refusal = str(error)
        if refusal:
            assert refusal.isprintable()
            continue
        if isinstance(decoded, JobStatus):
            msgspec.json.encode(decoded)
            assert decoded.is_finished or not decoded.is_failed
        elif isinstance(decoded, str):
            assert decoded
            assert decoded.encode()
        else:
            judged = judge_location(row=0, user_id="0", data=decoded, sources=["PG"])
            try:
                assert all(judged.location_data.values())
            except PingDataError:
                assert judged.status == "failed"


@given(body=st.binary(max_size=200))
def test_random_bytes(body: bytes) -> None:
    """Random bytes raise nothing but DecodeError."""
    decode_or_refuse(body)


@given(value=values)
def test_random_json(value: object) -> None:
    """Random JSON raises nothing but DecodeError."""
    decode_or_refuse(json.dumps(value).encode())


@given(value=answers, escaped=st.booleans())
def test_random_answers(value: object, escaped: bool) -> None:
    """JSON that looks like an answer, with anything inside, raises nothing but DecodeError."""
    text = json.dumps(value, ensure_ascii=escaped)
    decode_or_refuse(text.encode("utf-8", "replace"))


@given(value=answers, at=st.integers(0, 300), byte=st.binary(max_size=2))
def test_damaged_answers(value: object, at: int, byte: bytes) -> None:
    """An answer with some bytes changed raises nothing but DecodeError."""
    body = json.dumps(value).encode()
    decode_or_refuse(body[:at] + byte + body[at + 1 :])


@pytest.mark.parametrize(
    "data",
    [b'{"PG": {"x": "\xff"}}', b'{"PG": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=["broken text", "deeper than any Python reads"],
)
async def test_single_answer_that_cannot_be_read(data: bytes) -> None:
    """What is broken inside an answer that is otherwise well formed is a DecodeError as well."""
    answer = always(body=b'{"id": "1", "location_data": ' + data + b"}")
    async with LocalApi(answer) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError):
            (await client.enhance("1 Main St", sources=["PG"])).location_data  # noqa: B018 - a property


@pytest.mark.parametrize(
    "data", [b'{"PG": {"error_message": "\xff"}}', b'{"PG": {"a": ' + b"[" * 9999, b"[]", b"{"]
)
def test_one_unreadable_location_is_judged(data: bytes) -> None:
    """In a job of thousands, one location that cannot be read fails alone, as missing."""
    judged = judge_location(row=4, user_id="mine", data=msgspec.Raw(data), sources=["PG"])
    assert (judged.row, judged.status, judged.reason) == (4, "failed", "missing")
