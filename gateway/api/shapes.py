"""What each operation takes and gives: the source of the OpenAPI document.

Keyed by "METHOD /path" of gateway/api/endpoints.py. A test holds that every
operation stands here; the bodies and parameters are the ones that it reads,
which schemathesis tries. Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from gateway.api.account_fields import SEATS_MAX
from gateway.api.fields import LIST_MAX
from gateway.api.grants import PRIORITY_MAX, REPEATS
from gateway.api.operations import PAGE_DEFAULT, PAGE_MAX
from gateway.api.reports import WAIT_MAX_S
from gateway.api.schema import (
    AMOUNT,
    ANY_TEXT,
    BOOL,
    COUNT,
    EXPIRY,
    IDENTITY,
    INSTANT,
    MOMENT,
    NAME,
    STRING,
    TEXT,
    Schema,
    by_name,
    count_from,
    list_of,
    nullable,
    one_of,
    page_of,
    record,
    ref,
    with_fields,
)
from gateway.api.statements import DIMENSIONS
from gateway.core.statement import PERIODS_MAX

NOTHING: Mapping[str, Schema] = MappingProxyType({})


class Shape(NamedTuple):
    """Query parameters and body fields by name, and answers by status."""

    replies: dict[int, Schema]
    query: Mapping[str, Schema] = NOTHING
    body: Mapping[str, Schema] = NOTHING
    needs: tuple[str, ...] = ()  # of both
    moves_units: bool = False  # the Idempotency-Key names the entry; a refund's event does


PAGE: dict[str, Schema] = {
    "limit": count_from(1, PAGE_MAX, default=PAGE_DEFAULT),
    "cursor": {**ANY_TEXT, "description": "The `next` of an earlier page."},
}
ACCOUNT_FIELDS: dict[str, Schema] = {
    "plan": ANY_TEXT,
    "title": TEXT,
    "disabled": BOOL,
    "cycle_start": {**MOMENT, "description": "Anchor of weekly and fixed periods."},
    "seats": count_from(0, SEATS_MAX),
    "overage": {**nullable(BOOL), "description": "null: as the plan says."},
    "cap": {
        "type": ["integer", "string", "null"],
        "description": "Dollars of overage in a calendar month; null: no cap.",
        "examples": [50, "49.99"],
    },
    "timezone": {"type": "string", "maxLength": 64, "examples": ["Europe/Kyiv"]},
    "settings": {**by_name(nullable(STRING)), "description": "null: the default."},
    "allowances": {**by_name(nullable(AMOUNT)), "description": "null: the plan's."},
    "limits": {**by_name(nullable(COUNT)), "description": "0: unlimited; null: the default."},
}
ASKED_BY: dict[str, Schema] = {
    "as": {**IDENTITY, "description": "The member who asks; the member's role must allow it."},
    "as_address": {"type": "string", "maxLength": 64, "description": "That member's IP address."},
}
FILTERS: dict[str, Schema] = {
    **{name: MOMENT for name in ("from", "to")},
    **{
        name: {"type": "string", "maxLength": 256}
        for name in ("user", "project", "key", "operation", "route", "outcome", "meter")
    },
    "status_min": count_from(0, 999),
    "status_max": count_from(0, 999),
}
OF_ACCOUNT = {"account": ANY_TEXT}
MONTH: dict[str, Schema] = {
    "month": {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$", "examples": ["2026-03"]}
}
WHY: dict[str, Schema] = {
    "reason": TEXT,
    "id": {**TEXT, "description": "Names the entry, instead of the Idempotency-Key."},
}
UNITS: dict[str, Schema] = {"account": ANY_TEXT, "meter": ANY_TEXT, "amount": AMOUNT, **WHY}
NEEDS_UNITS = ("account", "meter", "amount")
MADE = {201: ref("Entry"), 200: ref("Entry")}

SHAPES: dict[str, Shape] = {
    "GET /accounts": Shape({200: page_of("Account")}, PAGE),
    "POST /accounts": Shape(
        {201: ref("Account")}, body={"id": NAME, **ACCOUNT_FIELDS}, needs=("id",)
    ),
    "GET /accounts/{account}": Shape({200: ref("Account")}),
    "PATCH /accounts/{account}": Shape({200: ref("Account")}, body={**ACCOUNT_FIELDS, **ASKED_BY}),
    "GET /accounts/{account}/members": Shape({200: page_of("Member")}, PAGE),
    "PUT /accounts/{account}/members/{user}": Shape(
        {200: ref("Member")}, body={"role": ANY_TEXT}, needs=("role",)
    ),
    "DELETE /accounts/{account}/members/{user}": Shape({200: ref("Member")}),
    "GET /accounts/{account}/bundles": Shape({200: page_of("Bundle")}),
    "GET /keys": Shape({200: page_of("Key")}, {**OF_ACCOUNT, **PAGE}),
    "POST /keys": Shape(
        {201: ref("NewKey")},
        body={
            "account": ANY_TEXT,
            "user": IDENTITY,
            "project": IDENTITY,
            "name": TEXT,
            "environment": one_of("live", "test"),
            "expires": EXPIRY,
            "routes": {**list_of(ANY_TEXT), "minItems": 1, "maxItems": LIST_MAX},
            "networks": {**list_of(ANY_TEXT), "minItems": 1, "maxItems": LIST_MAX},
        },
        needs=("account",),
    ),
    "GET /keys/{key}": Shape({200: ref("Key")}),
    "DELETE /keys/{key}": Shape({200: ref("Key")}),
    "POST /keys/{key}/rotate": Shape(
        {201: ref("ReplacedKey")},
        body={
            "overlap": {
                "type": ["string", "integer"],
                "description": "How long the old key lives on: a duration, or 0. Default: 24h.",
            },
            "expires": EXPIRY,
        },
    ),
    "GET /ledger": Shape({200: page_of("Entry")}, {**OF_ACCOUNT, **PAGE}, needs=("account",)),
    "POST /topups": Shape(MADE, body=UNITS, needs=NEEDS_UNITS, moves_units=True),
    "POST /grants": Shape(
        MADE,
        body={
            **UNITS,
            "starts": MOMENT,
            "expires": EXPIRY,
            "priority": count_from(0, PRIORITY_MAX),
            "every": {**one_of(*REPEATS), "description": "Given anew in each such period."},
        },
        needs=NEEDS_UNITS,
        moves_units=True,
    ),
    "POST /bundles": Shape(
        MADE,
        body={"account": ANY_TEXT, "bundle": ANY_TEXT, **WHY},
        needs=("account", "bundle"),
        moves_units=True,
    ),
    "POST /adjustments": Shape(
        MADE,
        body={**UNITS, "lot": {**ANY_TEXT, "description": "Default: the current period's own."}},
        needs=(*NEEDS_UNITS, "reason"),
        moves_units=True,
    ),
    "POST /refunds": Shape(
        {
            status: record(items=list_of(ref("Entry")), next=nullable(STRING))
            for status in (201, 200)
        },
        body={"account": ANY_TEXT, "event": ANY_TEXT, "reason": TEXT},
        needs=("account", "event"),
    ),
    "GET /usage/{account}": Shape({200: ref("Usage")}),
    "GET /usage/{account}/history": Shape(
        {200: ref("History")}, {"meter": ANY_TEXT, "periods": count_from(1, PERIODS_MAX)}
    ),
    "GET /usage/{account}/breakdown": Shape(
        {200: ref("Breakdown")},
        {"by": one_of(*DIMENSIONS), "meter": ANY_TEXT, "from": MOMENT, "to": MOMENT},
    ),
    "GET /usage/{account}/overage": Shape({200: ref("Overage")}, MONTH),
    "GET /invoices/{account}": Shape({200: ref("Invoice")}, MONTH),
    "GET /holds": Shape(
        {200: with_fields(page_of("Hold"), scope=one_of("all", "gateway"))},
        {**OF_ACCOUNT, **PAGE},
    ),
    "GET /events": Shape(
        {
            200: record(
                items=list_of(ref("Event")),
                next=nullable(STRING),
                follow=STRING,
                removed_until=nullable(INSTANT),
            )
        },
        {
            **FILTERS,
            **PAGE,
            **OF_ACCOUNT,
            "after": {
                "type": "string",
                "pattern": r"^[0-9]{1,18}(\.[0-9]{1,18}){0,99}$",
                "description": "The `follow` of an earlier answer: only what is newer, in order.",
            },
            "wait": {
                **count_from(0, WAIT_MAX_S),
                "description": "Seconds to wait for something newer; with `after`.",
            },
        },
    ),
    "GET /audit": Shape({200: ref("Audit")}),
    "GET /audit-log": Shape(
        {200: page_of("Change")},
        {
            **PAGE,
            "subject": {**ANY_TEXT, "description": "An account with its members, or a key."},
            "action": ANY_TEXT,
            "actor": ANY_TEXT,
        },
    ),
}
