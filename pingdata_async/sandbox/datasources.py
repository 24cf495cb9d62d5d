"""The configurations of the data sources, as ``/datasources`` tells them."""

from typing import Any, Final

from pingdata_async.sandbox.answers import Options, answer_location
from pingdata_async.sandbox.checks import LOOKUP_FIELDS
from pingdata_async.sandbox.sources import GEOCODERS, NAMES, NEED_CREDENTIALS, REVERSE_GEOCODERS

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


def source_config(code: str) -> dict[str, Any]:
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
