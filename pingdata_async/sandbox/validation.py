"""Which requests the sandbox accepts, and what ``/datasources`` says of that.

Requests are checked strictly; a refusal says where and why.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from pingdata_async.sandbox.answers import (
    ADDRESS_FIELDS,
    GEOCODERS,
    NAMES,
    NEED_CREDENTIALS,
    REVERSE_GEOCODERS,
    Options,
    answer_location,
)

# -- Requests --------------------------------------------------------------------------------

_TEXT: Final = (str,)
_INTEGER: Final = (int,)
_NUMBER: Final = (float, int)
_BOOLEAN: Final = (bool,)
_LIST: Final = (list,)
_OBJECT: Final = (dict,)

LOOKUP_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(ADDRESS_FIELDS, _TEXT),
    "latitude": _NUMBER,
    "longitude": _NUMBER,
    "occupancy__type_desc": _TEXT,
    "occupancy__desc_ping": _TEXT,
    "occupancy__code_air": _TEXT,
    "occupancy__code_atc": _TEXT,
    "const__desc_ping": _TEXT,
    "const__code_rms": _TEXT,
    "const__code_air": _TEXT,
    "const__roof_covering": _TEXT,
    "const__wall_type": _TEXT,
    "const__bldg_year_built": _INTEGER,
    "const__num_stories": _INTEGER,
    "const__num_stories_below_gnd": _INTEGER,
    "const__bldg_area": _INTEGER,
    "limits__building_limit": _NUMBER,
    "limits__bpp_limit": _NUMBER,
    "limits__bi_limit": _NUMBER,
    "limits__signs_and_other_limit": _NUMBER,
    "dtc_include_coastline_within_miles": _NUMBER,
    "dtc_return_connected_coastlines": _BOOLEAN,
}
"""The fields that say what to look up, and the JSON types they may have beside null."""

_LOCATION_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "id": _TEXT,
    **LOOKUP_FIELDS,
    "sources": _LIST,
    "datasource_config": _OBJECT,
}
_OPTION_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "timeout": _NUMBER,
    "include_raw_response": _BOOLEAN,
    "check_cache": _BOOLEAN,
    "delegate_to": _TEXT,
}
_SUBMISSION_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "locations": _LIST,
    "sources": _LIST,
    "callback_url": _TEXT,
    **_OPTION_FIELDS,
}
# A country or a unit number alone finds nothing, and neither does half a coordinate.
_TOO_LITTLE: Final = {"address_line_2", "country", "latitude", "longitude"}
_ENOUGH: Final = tuple(name for name in ADDRESS_FIELDS if name not in _TOO_LITTLE)
_JSON_NAMES: Final[dict[type, str]] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class Refusal(Exception):  # noqa: N818 - an answer with a status, not an error of the sandbox
    """A request is answered with an error.

    Attributes:
        status: The HTTP status code.
        message: What is wrong, for the caller.
        details: Further members of the JSON answer.
        headers: Of the answer; None for no special ones.
    """

    def __init__(
        self, status: int, message: str, *, headers: dict[str, str] | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.status = int(status)
        self.message = message
        self.details = details
        self.headers = headers


class CheckedLocation(NamedTuple):
    """A location that passed the checks.

    Attributes:
        id: The caller's id of it.
        fields: Its lookup fields, without those that are null or empty.
        sources: The sources to ask, each once.
    """

    id: str
    fields: dict[str, Any]
    sources: tuple[str, ...]


class Submission(NamedTuple):
    """A bulk request whose outside passed the checks; its locations are checked one by one."""

    locations: list[Any]
    sources: tuple[str, ...]
    options: Options
    callback_url: str | None


def unzip(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body as it was before its ``Content-Encoding``.

    Raises:
        Refusal: 415 for an encoding other than gzip, 400 for gzip that is broken, 413 for a body
            that grows beyond ``max_bytes``.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding != "gzip":
        raise Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding {encoding} is not supported"
        )
    unzipper = zlib.decompressobj(wbits=31)
    try:
        plain = unzipper.decompress(body, max_bytes)
    except zlib.error as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"The body is not valid gzip: {error}") from error
    if unzipper.unconsumed_tail:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The unpacked body is too large")
    if not unzipper.eof:
        raise Refusal(HTTPStatus.BAD_REQUEST, "The body is not valid gzip: it ends too early")
    return plain


def read_submission(body: bytes) -> Submission:
    """Read and check the outside of a bulk request.

    Raises:
        Refusal: 400.
    """
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"The body is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"The body must be an object, not {_json_name(data)}")
    _check_fields(data, _SUBMISSION_FIELDS)
    locations = data.get("locations")
    if locations is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "locations is missing")
    if not locations:
        raise Refusal(HTTPStatus.BAD_REQUEST, "locations is empty")
    sources = _check_sources(data.get("sources"))
    return Submission(locations, sources, _read_options(data), data.get("callback_url"))


def check_locations(submission: Submission) -> Iterator[CheckedLocation]:
    """Check the locations of a bulk request, one at each step.

    Raises:
        Refusal: 400, naming the location by its index and, where it has one, its id.
    """
    first_uses: dict[str, int] = {}
    for index, location in enumerate(submission.locations):
        location_id = location.get("id") if isinstance(location, dict) else None
        try:
            checked = _check_location(location, submission.sources)
            first_use = first_uses.setdefault(checked.id, index)
            if first_use != index:
                _refuse(f"the id is repeated: locations[{first_use}] has it, too")
        except Refusal as refusal:
            named = f" (id {location_id!r})" if isinstance(location_id, str) else ""
            raise Refusal(
                refusal.status,
                f"locations[{index}]{named}: {refusal.message}",
                location_index=index,
                location_id=location_id,
            ) from None
        yield checked


def read_enhance_query(query: Iterable[tuple[str, str]]) -> tuple[CheckedLocation, Options]:
    """Read and check the query parameters of a single ``enhance``.

    Raises:
        Refusal: 400.
    """
    sources: list[str] = []
    location: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, text in query:
        if name == "sources":
            sources.append(text)
        elif name in location or name in options:
            _refuse(f"{name} is given more than once")
        elif name in _LOCATION_FIELDS and name != "id":
            location[name] = _parse(name, text, _LOCATION_FIELDS[name])
        elif name in _OPTION_FIELDS:
            options[name] = _parse(name, text, _OPTION_FIELDS[name])
        else:
            _refuse(f"unknown parameter: {name}")
    checked_options = _read_options(options)
    return _check_location({"id": "", **location, "sources": sources}, ()), checked_options


def _refuse(message: str) -> NoReturn:
    raise Refusal(HTTPStatus.BAD_REQUEST, message)


def _json_name(value: Any) -> str:
    return _JSON_NAMES[type(value)]


def _check_fields(data: dict[str, Any], known: Mapping[str, tuple[type, ...]]) -> None:
    for name, value in data.items():
        types = known.get(name)
        if types is None:
            unknown = ", ".join(sorted(data.keys() - known.keys()))
            _refuse(f"unknown fields: {unknown}")
        elif value is not None and type(value) not in types:
            _refuse(f"{name} must be {_JSON_NAMES[types[0]]}, not {_json_name(value)}")


def _check_sources(sources: list[Any] | None) -> tuple[str, ...]:
    for source in sources or ():
        if not isinstance(source, str):
            _refuse(f"sources must be a list of strings, not with {_json_name(source)} in it")
        elif source not in NAMES:
            _refuse(f"unknown source: {source!r}")
    return tuple(dict.fromkeys(sources or ()))


def _check_location(location: Any, default_sources: tuple[str, ...]) -> CheckedLocation:
    if not isinstance(location, dict):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, f"a location must be an object, not {_json_name(location)}"
        )
    _check_fields(location, _LOCATION_FIELDS)
    if location.get("id") is None:
        _refuse("id is missing")
    own = location.get("sources")
    sources = _check_sources(own) if own else default_sources
    if not sources:
        _refuse("no sources, neither in the location nor for the whole request")
    fields = {
        name: value
        for name, value in location.items()
        if name in LOOKUP_FIELDS and value is not None and value != ""
    }
    if not ("latitude" in fields and "longitude" in fields) and not any(
        name in fields and not fields[name].isspace() for name in _ENOUGH
    ):
        _refuse("nothing to look up: no address, no coordinates")
    return CheckedLocation(location["id"], fields, sources)


def _read_options(data: dict[str, Any]) -> Options:
    _check_fields({name: data[name] for name in data if name in _OPTION_FIELDS}, _OPTION_FIELDS)
    timeout_s = data.get("timeout")
    if timeout_s is not None and not timeout_s > 0:
        _refuse(f"timeout must be a positive number of seconds, not {timeout_s}")
    return Options(
        check_cache=data.get("check_cache") is not False,
        include_raw_response=data.get("include_raw_response") is True,
    )


def _parse(name: str, text: str, types: tuple[type, ...]) -> Any:
    if types is _TEXT:
        return text
    if types is _OBJECT:
        return _parse_object(name, text)
    if types is _BOOLEAN:
        if text.lower() not in {"true", "false", "1", "0"}:
            _refuse(f"{name} must be a boolean, not {text!r}")
        return text.lower() in {"true", "1"}
    try:
        number = int(text) if types is _INTEGER else float(text)
    except ValueError:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, f"{name} must be {_JSON_NAMES[types[0]]}, not {text!r}"
        ) from None
    # float() also reads "nan" and "inf"
    if number - number != 0:
        _refuse(f"{name} must be a finite number, not {text!r}")
    return number


def _parse_object(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} must be a JSON object") from None


# -- The data sources ------------------------------------------------------------------------

_EXAMPLE: Final = {"address": "1 Main Street, Springfield, IL 62701"}
_TYPES: Final[dict[type, str]] = {
    str: "string",
    int: "integer",
    float: "float",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "object",
}
_BASE_FIELDS: Final = {
    "is_success": ("boolean", "Whether the source has an answer"),
    "error_message": ("string", "Why there is none"),
    "confidence": ("integer", "How sure the source is, from 0 to 100"),
    "status_code": ("integer", "The status of the source's own answer"),
    "fetch_time": ("float", "Seconds that the source took"),
    "is_cache_hit": ("boolean", "Whether the answer was kept from before"),
    "raw_response": ("object", "What the source answered, if it was asked for"),
    "persist_for": ("integer", "Seconds that the answer is kept"),
    "worker_name": ("string", "Who fetched it"),
}


@functools.cache
def source_config(code: str) -> Mapping[str, Any]:
    """The configuration of a known source."""
    example = answer_location(_EXAMPLE, (code,), Options(), no_match_share=0.0)[code]
    required = ["address"]
    if code not in GEOCODERS or code in REVERSE_GEOCODERS:
        required = ["latitude", "longitude"]
    return {
        "source_name": NAMES[code],
        "source_code": code,
        "required_attrs": required,
        "optional_attrs": [name for name in LOOKUP_FIELDS if name not in required],
        "requires_credentials": code in NEED_CREDENTIALS,
        "non_supported_input_values": None,
        "supported_countries": ["US"],
        "supported_us_states": None,
        "excluded_us_states": None,
        "geocode_confidence_required": None,
        "geocode_precision_required": None,
        "output_fields": {
            name: {"type": _TYPES[type(value)], "description": name.replace("_", " ")}
            for name, value in example.items()
            if name not in _BASE_FIELDS
        },
        "base_output_fields": {
            name: {"type": kind, "description": text} for name, (kind, text) in _BASE_FIELDS.items()
        },
    }


# -- Settings --------------------------------------------------------------------------------


def check_whole(name: str, number: object, *, at_least: int = 1) -> None:
    """Refuse a setting that is not a whole number, or too small.

    Raises:
        ValueError: With the setting's name.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(  # noqa: TRY004 - as of every setting
            f"{name} must be a whole number, not {number!r}"
        )
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {number}")
