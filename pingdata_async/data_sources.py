"""What the API says of its data sources (pure).

From its published reference and the vendor's client; a field that is missing, null or of another
type than documented is taken for "not said".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pingdata_async.exceptions import DecodeError
from pingdata_async.wire import decode_object


class DataSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source, as `GET /api/v1/datasources` tells of it.

    Attributes:
        code: Such as PG; what `sources` takes.
        name: For people; "" if not said.
        required_attrs: Fields of a location that it cannot do without.
        optional_attrs: Fields of a location that it can use.
        requires_credentials: Whether it needs an account of its own; None if not said.
        non_supported_input_values: Values it cannot do anything with, as the API sent them.
        supported_countries: None for all.
        supported_us_states: None for all.
        excluded_us_states: None for none.
        geocode_confidence_required: As the API sent it; None if not said.
        geocode_precision_required: As the API sent it; None if not said.
        output_fields: By name of a field of its answers, the type that the API says it has;
            "" where it says none. The fields that all sources share are among them.
        as_sent: All of it, as the API sent it: with what each field means, for example.
    """

    code: str
    name: str = ""
    required_attrs: tuple[str, ...] = ()
    optional_attrs: tuple[str, ...] = ()
    requires_credentials: bool | None = None
    non_supported_input_values: Any = None
    supported_countries: tuple[str, ...] | None = None
    supported_us_states: tuple[str, ...] | None = None
    excluded_us_states: tuple[str, ...] | None = None
    geocode_confidence_required: Any = None
    geocode_precision_required: Any = None
    output_fields: Mapping[str, str] = {}
    as_sent: Mapping[str, Any] = {}


def decode_datasources(body: bytes, what: str) -> dict[str, DataSource]:
    """The sources in an answer of `/datasources`, by code.

    Raises:
        DecodeError: When there are none in it.
    """
    configs = decode_object(body, what).get("configs")
    if isinstance(configs, list):
        configs = {
            str(each["source_code"]): each
            for each in configs
            if isinstance(each, Mapping) and each.get("source_code")
        }
    if not isinstance(configs, Mapping):
        raise DecodeError(f'{what}: the answer holds no "configs"')
    return {
        code: _data_source(code, config)
        for code, config in configs.items()
        if isinstance(config, Mapping)
    }


def decode_datasource(body: bytes, what: str) -> DataSource:
    """The source in an answer of `/datasources/{code}`.

    Raises:
        DecodeError: When there is none in it.
    """
    config = decode_object(body, what).get("config")
    if not isinstance(config, Mapping):
        raise DecodeError(f'{what}: the answer holds no "config"')
    return _data_source("", config)


def _data_source(code: str, config: Mapping[str, Any]) -> DataSource:
    credentials = config.get("requires_credentials")
    return DataSource(
        code=str(config.get("source_code") or code),
        name=str(config.get("source_name") or ""),
        required_attrs=_texts(config.get("required_attrs")) or (),
        optional_attrs=_texts(config.get("optional_attrs")) or (),
        requires_credentials=credentials if isinstance(credentials, bool) else None,
        non_supported_input_values=config.get("non_supported_input_values"),
        supported_countries=_texts(config.get("supported_countries")),
        supported_us_states=_texts(config.get("supported_us_states")),
        excluded_us_states=_texts(config.get("excluded_us_states")),
        geocode_confidence_required=config.get("geocode_confidence_required"),
        geocode_precision_required=config.get("geocode_precision_required"),
        output_fields=_fields(config.get("base_output_fields"))
        | _fields(config.get("output_fields")),
        as_sent=config,
    )


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        return None
    return tuple(each for each in value if isinstance(each, str))


def _fields(value: Any) -> dict[str, str]:
    if isinstance(value, list):
        value = {each.get("name") if isinstance(each, Mapping) else each: each for each in value}
    if not isinstance(value, Mapping):
        return {}
    return {name: _type_of(field) for name, field in value.items() if isinstance(name, str)}


def _type_of(field: Any) -> str:
    said = field.get("type") if isinstance(field, Mapping) else field
    return said if isinstance(said, str) else ""
