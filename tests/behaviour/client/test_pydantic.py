"""Locations and results where pydantic and FastAPI want their own models."""

from __future__ import annotations

import json

import fastapi
import httpx
import msgspec
import pydantic
import pytest

import pingdata_async as ping

ROW = ping.EnhancedLocation(
    "mine", 3, ping.RowStatus.OK, data=msgspec.Raw(b'{"PG":{"latitude":1.5}}')
)
WRITTEN = json.loads(msgspec.json.encode(ROW))


class Answer(pydantic.BaseModel):
    rows: list[ping.EnhancedLocation]
    summary: ping.RunSummary
    asked: ping.Location = ping.Location(address="1 Main St")


def test_a_field_of_a_model() -> None:
    """It is the object itself; as JSON it is a line of output, which becomes the same again."""
    answer = Answer(rows=ping.EnhancedLocations([ROW]), summary=ping.RunSummary(rows=1))
    assert answer.rows[0] is ROW
    dumped = json.loads(answer.model_dump_json())
    assert dumped == answer.model_dump()
    assert dumped["rows"] == [WRITTEN]
    again = Answer.model_validate_json(answer.model_dump_json())
    assert again == answer
    assert again.rows[0]["PG"].latitude == 1.5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"zip": "02134"}, "'zip' is no field of Location"),
        ({"latitude": "north"}, "latitude"),
        ("1 Main St", "Expected `object`"),
        ({"datasource_config": {"x": object()}}, "object"),
    ],
)
def test_what_is_no_location(given: object, says: str) -> None:
    """It is an error of validation: a name that nobody reads would cost a worse answer."""
    with pytest.raises(pydantic.ValidationError, match=says):
        pydantic.TypeAdapter(ping.Location).validate_python(given)


async def test_arguments_and_answers_of_fastapi() -> None:
    """Bodies become locations, answers rows; both stand in the description of the API."""
    app = fastapi.FastAPI()

    async def geocode(locations: list[ping.Location]) -> list[ping.EnhancedLocation]:
        assert locations == [ping.Location(city="Boston", state="MA")]
        return [ROW]

    app.post("/geocode")(geocode)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        answer = await http.post("/geocode", json=[{"city": "Boston", "state": "MA"}])
        assert answer.json() == [WRITTEN]
        refused = await http.post("/geocode", json=[{"zip": "02134"}])
        assert refused.status_code == 422
        described = (await http.get("/openapi.json")).text
    assert "address_line_1" in described


def test_the_standard_library() -> None:
    """A row, or a list of them, with `default`."""
    assert json.loads(json.dumps([ROW], default=ping.EnhancedLocation.to_dict)) == [ROW.to_dict()]
