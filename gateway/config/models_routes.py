"""Models of the traffic: upstreams, routes, what no route names, error bodies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from gateway.config.fields import (
    Duration,
    HeaderName,
    HeaderValue,
    HostPattern,
    Name,
    SettableHeader,
    Size,
    SizeOrZero,
    Text,
    Url,
)
from gateway.config.model import Model, OneOrMore, OrForms, as_list
from gateway.config.models_limits import LimitModel
from gateway.config.models_prices import ConditionField, PriceField
from gateway.config.problems import Expected
from gateway.core.book import INSPECT_MAX_BYTES, CallerKind


class HeaderEditsModel(Model):
    """Headers that are removed, then headers that are set."""

    remove: list[SettableHeader] = Field(
        default_factory=list, description="Names; case does not matter."
    )
    set: dict[SettableHeader, HeaderValue] = Field(
        default_factory=dict, description="Values by name; they replace what is there."
    )


class UpstreamTlsModel(Model):
    """How an https backend is verified."""

    verify: bool = Field(default=True, description="Check the certificate and its name.")
    ca_file: Text | None = Field(
        default=None, description="PEM file of the authorities to trust instead of the system's."
    )


class UpstreamModel(Model):
    """One backend: where it is and how it is spoken to."""

    url: Url = Field(description="http or https URL; its path is put before every request's.")
    connect_timeout: Duration = Field(
        default=3_000_000, description="To open a connection, TLS included. Default 3s."
    )
    read_timeout: Duration = Field(
        default=60_000_000, description="Longest silence of the backend. Default 60s."
    )
    total_timeout: Duration | None = Field(
        default=None, description="For the whole exchange. Default: no limit."
    )
    pool_size: int = Field(default=64, ge=0, le=10_000, description="Idle connections kept open.")
    max_connections: int = Field(
        default=1024, ge=1, le=100_000, description="Connections open at once; more requests wait."
    )
    tls: UpstreamTlsModel = Field(default_factory=UpstreamTlsModel, description="For https URLs.")
    host: Literal["rewrite", "keep"] = Field(
        default="rewrite",
        description="The Host header: rewrite (the backend's) or keep (the client's).",
    )
    request_headers: HeaderEditsModel = Field(
        default_factory=HeaderEditsModel, description="Edits of what the backend gets."
    )
    response_headers: HeaderEditsModel = Field(
        default_factory=HeaderEditsModel, description="Edits of what the client gets."
    )


class CallerModel(Model):
    """What one kind of caller pays."""

    price: PriceField | None = Field(
        default=None, description="Price for this kind of caller. Default: the route's."
    )


class MeasureModel(Model):
    """When a price is charged, and how far bodies are looked into for it."""

    charge_when: ConditionField = Field(
        default_factory=dict,
        description="Charged only where all of these figures are as given. Default: always.",
    )
    outcomes: dict[Name, ConditionField] = Field(
        default_factory=dict,
        description="The first whose figures are as given names the event's outcome; such a "
        "request is counted and not charged.",
    )
    inspect_max: Size = Field(
        default=INSPECT_MAX_BYTES,
        description="Largest body that a price looks into. Default: 1MiB.",
    )
    drain_timeout: Duration = Field(
        default=30_000_000,
        description="How long an answer is read on for its price when the client has gone. "
        "Default: 30s.",
    )
    interval: Duration = Field(
        default=10_000_000,
        description="How often an open WebSocket with a measured price is charged. Default: 10s.",
    )


def _caller_form(value: object) -> object:
    """A list of kinds is a mapping of kinds that pay the route's price."""
    if isinstance(value, dict) and value:
        return value
    if not value or not isinstance(value, list) or not all(isinstance(kind, str) for kind in value):
        raise Expected("a list of caller kinds such as [api_key, anonymous], or a mapping")
    if len(set(value)) < len(value):
        raise Expected("each caller kind once")
    return {kind: {} for kind in value}


_KIND = {"enum": ["api_key", "browser", "anonymous"]}
CallersField = Annotated[
    dict[CallerKind, CallerModel],
    BeforeValidator(_caller_form),
    OrForms({"type": "array", "items": _KIND, "minItems": 1, "uniqueItems": True}),
]


class MatchField(NamedTuple):
    """`GET,HEAD /items/{id}` taken apart; no methods: every method.

    `template_at` is the offset of the template in the text.
    """

    text: str
    methods: frozenset[str]
    template: str
    template_at: int


def _parse_match(value: object) -> MatchField:
    form = "`METHOD[,METHOD] /path`, such as GET /items/{id}, or * for any method"
    if not isinstance(value, str):
        raise Expected(form)
    methods, space, template = value.partition(" ")
    if not space:
        raise Expected(form, hint=f"did you mean * {value}?" if value.startswith("/") else "")
    template_at = len(value) - len(template.lstrip(" "))
    template = template.strip(" ")
    if not template.startswith("/") or " " in template:
        raise Expected(form)
    return MatchField(value, _methods(methods), template, template_at)


def _methods(text: str) -> frozenset[str]:
    """The methods before a template. Raises Expected."""
    if text == "*":
        return frozenset()
    methods = text.split(",")
    for method in methods:
        if method in ("CONNECT", "TRACE"):
            raise Expected("a method that can be forwarded", hint=f"{method} is always refused")
        if not method or not method.isascii() or not method.replace("-", "").isalpha():
            raise Expected("methods such as GET or GET,HEAD")
        if method != method.upper():
            raise Expected("methods in capitals", hint=f"did you mean {text.upper()}?")
    if len(set(methods)) < len(methods):
        raise Expected("each method once")
    return frozenset(methods)


_MATCH_SCHEMA = {
    "type": "string",
    "pattern": r"^(\*|[A-Z-]+(,[A-Z-]+)*) +/[^ ]*$",
    "examples": ["GET /items", "GET,HEAD /items/{id}", "* /files/{path...}"],
}
Match = Annotated[MatchField, PlainValidator(_parse_match), WithJsonSchema(_MATCH_SCHEMA)]


class RouteModel(MeasureModel):
    """Which requests these are, where they go and what they cost."""

    name: Name | None = Field(
        default=None, description="For keys, events and counters. Default: made from `match`."
    )
    match: Annotated[
        list[Match], BeforeValidator(as_list), Field(min_length=1, max_length=1_000), OneOrMore()
    ] = Field(
        description="METHOD[,METHOD] PATH, or a list of them; * is any method; the path may hold "
        "{parameters} and end in {rest...}."
    )
    host: HostPattern | None = Field(
        default=None,
        description="Only for this host, without port; *.example.com for every one below it.",
    )
    headers: dict[HeaderName, HeaderValue | None] = Field(
        default_factory=dict,
        description='Only with these headers: exactly this value, or null: present. Write "2", '
        "not 2.",
    )
    upstream: str = Field(description="Name of the upstream that serves it.")
    operation: Text | None = Field(
        default=None,
        description="The name on usage pages; several routes may share it. Default: the name.",
    )
    price: PriceField | None = Field(
        default=None, description="free, or amounts by meter. Required where callers do not say it."
    )
    callers: CallersField = Field(
        default_factory=lambda: _API_KEY_ONLY,
        description="Kinds of callers let in, with prices of their own if need be. Default: "
        "[api_key].",
    )
    requires: dict[Name, Text] = Field(
        default_factory=dict,
        description="Settings that the account must have, by name; else 403 feature_disabled.",
    )
    send: dict[SettableHeader, Name] = Field(
        default_factory=dict,
        description="Headers that tell the backend the account's settings: header, setting.",
    )
    project: Text | None = Field(
        default=None, description="The project that pays: {parameter} of the path, or a fixed text."
    )
    limits: dict[Name, LimitModel] = Field(
        default_factory=dict, description="Limits of this route beside all others."
    )
    max_body: SizeOrZero | None = Field(
        default=None, description="Largest request body. Default: server.max_body."
    )
    pass_credential: bool = Field(
        default=False, description="Leave the caller's key in the forwarded request."
    )


_API_KEY_ONLY: dict[CallerKind, CallerModel] = {"api_key": CallerModel()}


class UnmatchedModel(MeasureModel):
    """What no route names: refused, or passed on at a price that is written down."""

    action: Literal["refuse", "pass"] = Field(
        description="refuse: 404. pass: forward at the price below."
    )
    upstream: str | None = Field(default=None, description="pass: name of the upstream.")
    price: PriceField | None = Field(default=None, description="pass: free, or amounts by meter.")
    callers: CallersField | None = Field(
        default=None, description="pass: kinds of callers let in. Default: [api_key]."
    )
    operation: Text | None = Field(
        default=None, description="pass: the name on usage pages. Default: Other."
    )
    max_body: SizeOrZero | None = Field(default=None, description="pass: largest request body.")


class BodyField(NamedTuple):
    content_type: str
    text: str


def _parse_body(value: object) -> BodyField:
    """A mapping or list is JSON, a text is plain text."""
    if isinstance(value, str):
        return BodyField("text/plain; charset=utf-8", value)
    if isinstance(value, dict | list):
        return BodyField("application/json", json.dumps(_jsonable(value), ensure_ascii=False))
    raise Expected("a mapping or list (sent as JSON) or a text")


def _jsonable(value: object) -> object:
    """Decimals of the loader become the JSON numbers they were written as."""
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_jsonable(entry) for entry in value]
    return float(value) if isinstance(value, Decimal) else value


class ErrorModel(Model):
    """The operator's own answer for one refusal code."""

    status: int | None = Field(
        default=None, ge=400, le=599, description="Instead of the code's own status."
    )
    body: Annotated[
        BodyField,
        PlainValidator(_parse_body),
        WithJsonSchema({"type": ["object", "array", "string"]}),
    ] = Field(description="A mapping or list, sent as JSON, or text. {fields} are filled in.")
    content_type: HeaderValue | None = Field(
        default=None, description="Default: application/json, or text/plain for a text."
    )
