"""EnhancedLocation and SourceResult: typed where known, as it came everywhere."""

from __future__ import annotations

import json
import pickle
from typing import Any

import msgspec
import pytest

from pingdata_async import (
    DecodeError,
    EnhancedLocation,
    EnhancedLocations,
    JobFailedError,
    NoAnswerError,
    PingDataError,
    RateLimitError,
    RowStatus,
    SourceResult,
    TransportError,
)
from pingdata_async.models import Reason

PG = {
    "is_success": True,
    "error_message": None,
    "confidence": 97.5,
    "status_code": 200,
    "fetch_time": 0.25,
    "is_cache_hit": False,
    "worker_name": "w1",
    "street_number": "1600",
    "route": "Pennsylvania Ave",
    "location_type": "ROOFTOP",
    "precision": "rooftop",
    "latitude": 38.9,
    "longitude": -77,
    "formatted_address": "1600 Pennsylvania Ave",
    "place_id": "p",
    "address_line_1": "1600 Pennsylvania Ave",
    "address_line_2": "",
    "city": "Washington",
    "postal_code": "20500",
    "county": "DC",
    "state": "DC",
    "country": "US",
}


def row_of(data: Any) -> EnhancedLocation:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return EnhancedLocation("mine", 3, RowStatus.OK, data=msgspec.Raw(raw))


def test_every_shared_and_geocoder_field_is_an_attribute() -> None:
    """Each field of the reference is there under its name, with its type."""
    result = row_of({"PG": PG})["PG"]
    for name, value in PG.items():
        assert getattr(result, name) == value
        assert result[name] == value
    assert isinstance(result.longitude, float)
    assert dict(result) == PG
    assert len(result) == len(PG)
    assert "ROOFTOP" in repr(result)


def test_absent_and_null_attributes_are_none() -> None:
    """What a source left out or sent as null is None; by item access null is null."""
    result = SourceResult({"latitude": None, "fema": {"zone": "X"}})
    assert result.latitude is None
    assert result.city is None
    assert result["latitude"] is None
    assert result["fema"]["zone"] == "X"
    assert "city" not in result
    with pytest.raises(KeyError):
        result["city"]


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [("latitude", "38.5", 38.5), ("status_code", "200", 200), ("is_success", "true", True)],
)
def test_numbers_sent_as_text(name: str, value: str, read: object) -> None:
    """A number or boolean that came as text is read as what it means."""
    result = SourceResult({name: value})
    assert getattr(result, name) == read
    assert result[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("latitude", "north"), ("city", ["x"]), ("status_code", 1.5), ("is_success", {}), ("city", 5)],
)
def test_attribute_of_a_wrong_type(name: str, value: object) -> None:
    """A value that does not fit is a DecodeError that names item access, which still works."""
    result = SourceResult({name: value})
    with pytest.raises(DecodeError, match=rf'{name} is .*\["{name}"\]'):
        getattr(result, name)
    assert result[name] == value


def test_sources_of_a_row() -> None:
    """A source that sent null is not there, and one that was never asked for is a KeyError."""
    row = row_of({"PG": PG, "PH": None})
    assert "PG" in row
    assert "PH" not in row
    assert list(row.location_data) == ["PG"]
    with pytest.raises(KeyError):
        row["PH"]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b'{"PG": {"a": "\xff"}}', b"{" * 3, b'{"a":' * 9999]
)
def test_rows_that_cannot_be_read(data: bytes) -> None:
    """Data that is no object of objects is a DecodeError that names the row."""
    row = row_of(data)
    with pytest.raises(DecodeError, match="row 3"):
        row["PG"]
    with pytest.raises(DecodeError):
        assert "PG" in row


def test_a_source_that_is_no_object_hides_no_other() -> None:
    """One source's nonsense does not cost what the others said."""
    row = row_of(b'{"PG": {"latitude": 1.5}, "PH": "boom", "GG": null}')
    assert row["PG"].latitude == 1.5
    assert list(row.location_data) == ["PG"]


def test_the_case_of_a_source_does_not_matter() -> None:
    """Whoever asks for "pg" finds what the API calls "PG"."""
    assert row_of(b'{"PG": {"latitude": 1.5}}')["pg"].latitude == 1.5


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("m", status_code=429, api_message="slow", retry_after_s=3.0),
        TransportError("m", maybe_sent=True),
        JobFailedError("m", job_id="J"),
    ],
)
def test_errors_cross_process_borders(error: PingDataError) -> None:
    """They come out of a pickle as they went in, with what had been answered."""
    error.results = [row_of(b"{}")]
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
    assert vars(copy).keys() == vars(error).keys()
    assert copy.results[0].row == 3


@pytest.mark.parametrize(
    ("status", "reason", "answered"),
    [
        (RowStatus.OK, None, True),
        (RowStatus.PARTIAL, Reason.MISSING, True),
        (RowStatus.FAILED, Reason.NO_MATCH, True),
        (RowStatus.FAILED, Reason.MISSING, False),
        (RowStatus.FAILED, Reason.REJECTED, False),
    ],
)
def test_what_counts_as_answered(status: RowStatus, reason: Reason | None, answered: bool) -> None:
    """That there is no match is an answer, a missing row is none."""
    assert EnhancedLocation("0", 0, status, reason).is_answered is answered


def test_row_without_data() -> None:
    """A row without an answer has no sources."""
    assert EnhancedLocation("0", 0, RowStatus.FAILED).location_data == {}


def test_a_source_that_did_not_answer_says_why() -> None:
    """By item access with the row's error, or what there is instead; by get() with None."""
    failed = EnhancedLocation("a", 7, RowStatus.FAILED, Reason.NO_MATCH, "PG: nothing found")
    for row, why in ((failed, "row 7 .* PG: nothing found"), (row_of({"PH": PG}), "PH; was it")):
        with pytest.raises(NoAnswerError, match=why) as caught:
            row["PG"]
        assert isinstance(caught.value, KeyError)
        assert row.get("PG") is None
        assert "PG" not in row


def test_a_row_as_json() -> None:
    """It becomes a line of JSONL by msgspec or the standard library, and a row again by msgspec."""
    failed = EnhancedLocation("a", 7, RowStatus.FAILED, Reason.NO_MATCH, "PG: nothing found")
    for row in (row_of({"PG": PG, "PH": None}), failed):
        own, plain = msgspec.json.encode(row), json.dumps(row.to_dict()).encode()
        for line in (own, plain):
            again = msgspec.json.decode(line, type=EnhancedLocation)
            assert again.to_dict() == row.to_dict()
            assert (again.location_data, again.id) == (row.location_data, row.id)
    assert failed.to_dict() == {
        "id": "a",
        "row": 7,
        "status": "failed",
        "location_data": {},
        "reason": "no_match",
        "error": "PG: nothing found",
    }


def test_a_row_as_a_python_object() -> None:
    """It is decoded once, lists its sources, can be a key, and shows itself in a line."""
    row, same = row_of({"PG": PG, "PH": PG}), row_of({"PG": PG, "PH": PG})
    assert row["PG"] is row["pg"]
    assert list(row) == list(dict(row)) == ["PG", "PH"]
    assert {row: 1}[same] == 1
    assert repr(row) == "<EnhancedLocation row 3, id 'mine', ok: PG, PH>"
    assert "unreadable" in repr(row_of(b"[]"))
    copy = pickle.loads(pickle.dumps(row))
    assert copy == row
    assert copy["PG"] == row["PG"]


def test_a_list_shows_a_few_of_its_rows() -> None:
    """A notebook that shows a million rows would be of no use."""
    results = EnhancedLocations([row_of({"PG": PG})] * 1_000)
    shown = repr(results)
    assert shown.startswith("<EnhancedLocations, 1,000 rows:\n<EnhancedLocation row 3, id 'mine'")
    assert shown.endswith("\n... and 980 more>")
    assert len(shown.splitlines()) == 22
