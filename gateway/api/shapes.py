"""What each operation takes and gives, as JSON Schema: the source of the OpenAPI document.

Keyed by "METHOD /path" of gateway/api/endpoints.py. A test holds that the names
here are the ones that the operations read. Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
IDENTITY: Schema = {"type": "string", "pattern": "^[!-~]{1,128}$"}
ANY_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 512}
INSTANT: Schema = {"type": "string", "format": "date-time"}
MOMENT: Schema = {"type": "string", "description": "RFC 3339, or a date.", "maxLength": 64}
AMOUNT: Schema = {
    "description": "A whole number, or exact decimal text.",
    "anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[+-]?[0-9]+(\.[0-9]+)?$"}],
}
SHOWN_AMOUNT: Schema = {"type": ["integer", "string"]}
DOLLARS: Schema = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{2,6}$"}
BOOL: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(required: dict[str, Schema], **optional: Schema) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def page_of(item: Schema) -> Schema:
    return record({"items": {"type": "array", "items": item}, "next": nullable({"type": "string"})})


def by_name(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


NOTHING: Mapping[str, Schema] = MappingProxyType({})


class Shape(NamedTuple):
    """Query parameters and body fields by name, and answers by status."""

    replies: dict[int, Schema]
    query: Mapping[str, Schema] = NOTHING
    body: Mapping[str, Schema] = NOTHING
    needs: tuple[str, ...] = ()  # of both


PAGE: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    "cursor": ANY_TEXT,
}
ACCOUNT_FIELDS: dict[str, Schema] = {
    "plan": ANY_TEXT,
    "title": TEXT,
    "disabled": BOOL,
    "cycle_start": MOMENT,
    "seats": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
    "overage": nullable(BOOL),
    "cap": nullable({"type": ["integer", "string"], "description": "Dollars a month."}),
    "timezone": {"type": "string", "maxLength": 64, "examples": ["Europe/Kyiv"]},
    "settings": by_name(nullable({"type": "string"})),
    "allowances": by_name(nullable(AMOUNT)),
    "limits": by_name(nullable(COUNT)),
}
ACCOUNT = record(
    {
        "id": NAME,
        "title": {"type": "string"},
        "plan": {"type": "string"},
        "disabled": BOOL,
        "cycle_start": INSTANT,
        "seats": COUNT,
        "overage": nullable(BOOL),
        "cap": nullable(DOLLARS),
        "timezone": {"type": "string"},
        "settings": by_name({"type": "string"}),
        "allowances": by_name(SHOWN_AMOUNT),
        "limits": by_name(COUNT),
        "declared": BOOL,
    }
)
MEMBER = record({"user": IDENTITY, "role": {"type": "string"}})
KEY_RECORD: dict[str, Schema] = {
    "id": {"type": "string"},
    "account": {"type": "string"},
    "name": {"type": "string"},
    "user": {"type": "string"},
    "project": {"type": "string"},
    "hint": {"type": "string"},
    "state": {"enum": ["active", "expired", "revoked"]},
    "created": nullable(INSTANT),
    "expires": nullable(INSTANT),
    "revoked": nullable(INSTANT),
    "routes": nullable({"type": "array", "items": {"type": "string"}}),
    "networks": nullable({"type": "array", "items": {"type": "string"}}),
    "declared": BOOL,
}
KEY = record(KEY_RECORD)
NEW_KEY = record({**KEY_RECORD, "key": {"type": "string"}})
ENTRY = record(
    {
        "id": {"type": "string"},
        "account": {"type": "string"},
        "meter": {"type": "string"},
        "kind": {"enum": ["topup", "bundle", "promotion", "recurring", "refund", "adjustment"]},
        "amount": SHOWN_AMOUNT,
        "lot": nullable({"type": "string"}),
        "period_start": nullable(INSTANT),
        "starts": INSTANT,
        "expires": nullable(INSTANT),
        "priority": COUNT,
        "every": nullable({"type": "string"}),
        "price": DOLLARS,
        "reason": {"type": "string"},
        "actor": {"type": "string"},
        "time": INSTANT,
    }
)
MADE_ENTRY = {200: ENTRY, 201: ENTRY}
EVENT = {
    "type": "object",
    "required": ["id", "time", "account", "operation", "outcome", "charges", "request_id"],
    "properties": {
        "id": {"type": "string"},
        "time": INSTANT,
        "account": {"type": "string"},
        "operation": {"type": "string"},
        "outcome": {"type": "string"},
        "charges": by_name(SHOWN_AMOUNT),
        "request_id": {"type": "string"},
    },
}
FREE_FORM: Schema = {"type": "object"}
PERIOD = record({"start": INSTANT, "end": INSTANT})
USAGE = {
    "type": "object",
    "required": ["account", "plan", "meters", "rate_limits", "settings", "overage_cost"],
    "properties": {
        "account": {"type": "string"},
        "plan": {"type": "string"},
        "meters": by_name(
            {
                "type": "object",
                "required": ["used", "in_flight", "remaining", "limit", "period", "operations"],
                "properties": {
                    "used": SHOWN_AMOUNT,
                    "in_flight": SHOWN_AMOUNT,
                    "remaining": nullable(SHOWN_AMOUNT),
                    "limit": nullable(SHOWN_AMOUNT),
                    "period": PERIOD,
                },
            }
        ),
        "rate_limits": {"type": "array", "items": FREE_FORM},
        "settings": by_name({"type": "string"}),
        "overage_cost": DOLLARS,
    },
}
HOLD = record(
    {
        "id": {"type": "string"},
        "request_id": {"type": "string"},
        "account": {"type": "string"},
        "key": {"type": "string"},
        "route": {"type": "string"},
        "owner": {"type": "string"},
        "since": INSTANT,
        "expires": INSTANT,
        "amounts": by_name(SHOWN_AMOUNT),
    }
)
FILTERS: dict[str, Schema] = {
    **{name: MOMENT for name in ("from", "to")},
    **{
        name: {"type": "string", "minLength": 1, "maxLength": 256}
        for name in ("user", "project", "key", "operation", "route", "outcome", "meter")
    },
    "status_min": {"type": "integer", "minimum": 0, "maximum": 999},
    "status_max": {"type": "integer", "minimum": 0, "maximum": 999},
}
OF_ACCOUNT = {"account": ANY_TEXT}
UNITS = {"account": ANY_TEXT, "meter": ANY_TEXT, "amount": AMOUNT, "reason": TEXT, "id": TEXT}
MONTH = {"month": {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"}}

SHAPES: dict[str, Shape] = {
    "GET /accounts": Shape({200: page_of(ACCOUNT)}, PAGE),
    "POST /accounts": Shape({201: ACCOUNT}, body={"id": NAME, **ACCOUNT_FIELDS}, needs=("id",)),
    "GET /accounts/{account}": Shape({200: ACCOUNT}),
    "PATCH /accounts/{account}": Shape({200: ACCOUNT}, body={**ACCOUNT_FIELDS, "as": IDENTITY}),
    "GET /accounts/{account}/members": Shape({200: page_of(MEMBER)}),
    "PUT /accounts/{account}/members/{user}": Shape(
        {200: MEMBER}, body={"role": ANY_TEXT}, needs=("role",)
    ),
    "DELETE /accounts/{account}/members/{user}": Shape({200: MEMBER}),
    "GET /accounts/{account}/bundles": Shape({200: page_of(FREE_FORM)}),
    "GET /keys": Shape({200: page_of(KEY)}, {**OF_ACCOUNT, **PAGE}),
    "POST /keys": Shape(
        {201: NEW_KEY},
        body={
            "account": ANY_TEXT,
            "user": IDENTITY,
            "project": IDENTITY,
            "name": TEXT,
            "environment": {"enum": ["live", "test"]},
            "expires": {"type": "string", "maxLength": 64},
            "routes": {"type": "array", "items": ANY_TEXT, "minItems": 1, "maxItems": 1000},
            "networks": {"type": "array", "items": ANY_TEXT, "minItems": 1, "maxItems": 1000},
        },
        needs=("account",),
    ),
    "GET /keys/{key}": Shape({200: KEY}),
    "DELETE /keys/{key}": Shape({200: KEY}),
    "POST /keys/{key}/rotate": Shape(
        {201: record({**KEY_RECORD, "key": {"type": "string"}, "replaces": KEY})},
        body={
            "overlap": {"type": "string", "maxLength": 64},
            "expires": {"type": "string", "maxLength": 64},
        },
    ),
    "GET /ledger": Shape({200: page_of(ENTRY)}, {**OF_ACCOUNT, **PAGE}, needs=("account",)),
    "POST /topups": Shape(MADE_ENTRY, body=UNITS, needs=("account", "meter", "amount")),
    "POST /grants": Shape(
        MADE_ENTRY,
        body={
            **UNITS,
            "starts": MOMENT,
            "expires": {"type": "string", "maxLength": 64},
            "priority": {"type": "integer", "minimum": 0, "maximum": 1000},
            "every": {"enum": ["hour", "day", "week", "month"]},
        },
        needs=("account", "meter", "amount"),
    ),
    "POST /bundles": Shape(
        MADE_ENTRY,
        body={"account": ANY_TEXT, "bundle": ANY_TEXT, "reason": TEXT, "id": TEXT},
        needs=("account", "bundle"),
    ),
    "POST /adjustments": Shape(
        MADE_ENTRY,
        body={**UNITS, "lot": ANY_TEXT},
        needs=("account", "meter", "amount", "reason"),
    ),
    "POST /refunds": Shape(
        {
            status: {"anyOf": [ENTRY, record({"items": {"type": "array", "items": ENTRY}})]}
            for status in (200, 201)
        },
        body={"account": ANY_TEXT, "event": ANY_TEXT, "reason": TEXT},
        needs=("account", "event"),
    ),
    "GET /usage/{account}": Shape({200: USAGE}),
    "GET /usage/{account}/history": Shape(
        {200: FREE_FORM},
        {"meter": ANY_TEXT, "periods": {"type": "integer", "minimum": 1, "maximum": 400}},
    ),
    "GET /usage/{account}/breakdown": Shape(
        {200: FREE_FORM},
        {
            "by": {"enum": ["operation", "project", "user", "key", "route", "service"]},
            "meter": ANY_TEXT,
            "from": MOMENT,
            "to": MOMENT,
        },
    ),
    "GET /usage/{account}/overage": Shape({200: FREE_FORM}, MONTH),
    "GET /invoices/{account}": Shape({200: FREE_FORM}, MONTH),
    "GET /holds": Shape({200: page_of(HOLD)}, OF_ACCOUNT),
    "GET /events": Shape(
        {
            200: record(
                {
                    "items": {"type": "array", "items": EVENT},
                    "next": nullable({"type": "string"}),
                    "follow": {"type": "string"},
                }
            )
        },
        {
            **FILTERS,
            **PAGE,
            **OF_ACCOUNT,
            "after": {"type": "string", "pattern": "^[0-9]{1,18}$"},
            "wait": {"type": "integer", "minimum": 0, "maximum": 30},
        },
    ),
    "GET /audit": Shape({200: FREE_FORM}),
    "GET /audit-log": Shape({200: page_of(FREE_FORM)}, PAGE),
}
