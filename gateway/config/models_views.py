"""Models of views: answers of the operator's own shape."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from gateway.config.fields import HeaderValue, QueryName, SettableHeader, Text
from gateway.config.model import Model
from gateway.config.problems import Expected


def _parse_path(value: object) -> str:
    """`GET /v1/usage`; {parameters} stand for a segment."""
    form = "`GET /path`, such as GET /v1/usage or GET /api/{project}/quota"
    if not isinstance(value, str) or not value.startswith("GET /"):
        raise Expected(form)
    path = value.removeprefix("GET ")
    if " " in path or "//" in path or "?" in path or not path.isascii():
        raise Expected(form)
    return path


def _parse_body(value: object) -> object:
    if not isinstance(value, dict | list):
        raise Expected("a mapping or list, sent as JSON")
    return plain(value)


def plain(value: object) -> object:
    """The loader's collections as plain ones; a Decimal as the number it was written as."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return float(value) if isinstance(value, Decimal) else value


Body = Annotated[Any, PlainValidator(_parse_body), WithJsonSchema({"type": ["object", "array"]})]
ViewPath = Annotated[
    str,
    PlainValidator(_parse_path),
    WithJsonSchema({"type": "string", "pattern": "^GET /[^ ?]*$", "examples": ["GET /v1/usage"]}),
]


class ViewModel(Model):
    """One answer; texts may hold {names} of figures, documented in docs/usage-api.md."""

    path: ViewPath = Field(description="GET and the path; {parameters} stand for a segment.")
    body: Body = Field(description="A mapping or list, sent as JSON.")
    headers: dict[SettableHeader, HeaderValue] = Field(
        default_factory=dict, description="Headers of the answer; values may hold {names}."
    )
    parameters: dict[QueryName, list[Text]] = Field(
        default_factory=dict,
        description="Query parameters and their values; the first is the default.",
    )
