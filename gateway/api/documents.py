"""What the admin API answers with, as JSON Schema: one entry for each kind of document.

Exactly the fields that the operations give: the tests compare every answer that
they get with these. Must not decide anything.
"""

from __future__ import annotations

from gateway.api.problem import KINDS
from gateway.api.schema import (
    BOOL,
    COUNT,
    DOLLARS,
    INSTANT,
    NUMBER,
    SHOWN_AMOUNT,
    STRING,
    Schema,
    by_name,
    list_of,
    nullable,
    one_of,
    record,
    ref,
    with_fields,
)

ENTRY_KINDS = ("topup", "bundle", "promotion", "recurring", "refund", "adjustment")
BILLING = ("paid", "free", "trial", "enterprise", "off")

PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": STRING,
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was expected and what was found."},
        "code": one_of(*sorted(KINDS)),
        "parameter": {"type": "string", "description": "The parameter or field to blame."},
        "request_id": STRING,
    },
    "additionalProperties": False,
}

PERIOD = record(start=INSTANT, end=INSTANT)

ACCOUNT = record(
    id=STRING,
    title=STRING,
    plan=STRING,
    disabled=BOOL,
    cycle_start=INSTANT,
    seats=COUNT,
    overage={**nullable(BOOL), "description": "null: as the plan says."},
    cap={**nullable(DOLLARS), "description": "Of a calendar month's overage; null: none."},
    timezone=STRING,
    settings=by_name(STRING),
    allowances={**by_name(SHOWN_AMOUNT), "description": "Instead of the plan's."},
    limits={**by_name(COUNT), "description": "Of the plan's settable limits; 0: unlimited."},
    declared={"type": "boolean", "description": "In the configuration: changed only there."},
)
MEMBER = record(user=STRING, role=STRING)

KEY = record(
    id=STRING,
    account=STRING,
    name=STRING,
    user=STRING,
    project=STRING,
    hint={"type": "string", "description": "The key's prefix and last characters."},
    state=one_of("active", "expired", "revoked"),
    created=nullable(INSTANT),
    expires=nullable(INSTANT),
    revoked=nullable(INSTANT),
    routes=nullable(list_of(STRING)),
    networks=nullable(list_of(STRING)),
    declared=BOOL,
)
NEW_KEY = with_fields(KEY, key={"type": "string", "description": "Shown this once."})

ENTRY = record(
    id={"type": "string", "description": "The Idempotency-Key, where there was one."},
    account=STRING,
    meter=STRING,
    kind=one_of(*ENTRY_KINDS),
    amount=SHOWN_AMOUNT,
    lot={**nullable(STRING), "description": "null: the own units of the period."},
    period_start=nullable(INSTANT),
    starts=INSTANT,
    expires=nullable(INSTANT),
    priority=COUNT,
    every=nullable(STRING),
    price=DOLLARS,
    reason=STRING,
    actor=STRING,
    time=INSTANT,
)
BUNDLE = record(
    name=STRING,
    title=STRING,
    badge=nullable(STRING),
    meter=STRING,
    amount=SHOWN_AMOUNT,
    price=DOLLARS,
    per_dollar=nullable(SHOWN_AMOUNT),
    savings=nullable(STRING),
)
HOLD = record(
    id={"type": "string", "description": "Of the event that it will be."},
    request_id=STRING,
    account=STRING,
    user=STRING,
    project=STRING,
    key=STRING,
    route=STRING,
    operation=STRING,
    owner={"type": "string", "description": "The process that settles or releases it."},
    since=INSTANT,
    expires={**INSTANT, "description": "Unless the owner renews it, by being alive."},
    amounts=by_name(SHOWN_AMOUNT),
)
EVENT = record(
    id=STRING,
    time=INSTANT,
    account=STRING,
    user=STRING,
    project=STRING,
    key=STRING,
    caller=STRING,
    source=STRING,
    service=STRING,
    operation=STRING,
    route=STRING,
    method=STRING,
    path=STRING,
    status=COUNT,
    outcome=STRING,
    charges=by_name(SHOWN_AMOUNT),
    bytes_in=COUNT,
    bytes_out=COUNT,
    duration_ms=NUMBER,
    upstream_ms=NUMBER,
    request_id=STRING,
    price_book=STRING,
)
AUDIT = record(
    clean=BOOL,
    seq=COUNT,
    events=COUNT,
    charges=COUNT,
    rollups=COUNT,
    balances=COUNT,
    counters=COUNT,
    worker={**COUNT, "description": "Whose live counters were compared."},
    workers={**COUNT, "description": "Of how many; the others' were not."},
    differences=list_of({"type": "object"}),
    duration_ms=NUMBER,
)
CHANGE: Schema = {
    **record(
        id=STRING,
        time=INSTANT,
        actor=STRING,
        address={"type": "string", "description": "Of the operator's call; local: no gateway ran."},
        member={**nullable(STRING), "description": "In whose name the change was made."},
        member_address=nullable(STRING),
        action={"type": "string", "examples": ["account.change", "key.create"]},
        subject=STRING,
        before={"description": "What was there, as far as it differs; null: nothing."},
        after={"description": "What is there now, as far as it differs; null: nothing."},
    )
}

SHARE = record(operation=STRING, events=COUNT, amount=SHOWN_AMOUNT, percent=NUMBER)
LOT = record(
    id=STRING,
    kind=one_of(*ENTRY_KINDS),
    amount=SHOWN_AMOUNT,
    left=SHOWN_AMOUNT,
    expires=nullable(INSTANT),
)
METER_USAGE = record(
    title=STRING,
    used=SHOWN_AMOUNT,
    in_flight=SHOWN_AMOUNT,
    remaining=nullable(SHOWN_AMOUNT),
    limit=nullable(SHOWN_AMOUNT),
    carried_in=SHOWN_AMOUNT,
    topped_up=SHOWN_AMOUNT,
    from_lots=SHOWN_AMOUNT,
    overage=SHOWN_AMOUNT,
    overdraft=SHOWN_AMOUNT,
    overage_cost=nullable(DOLLARS),
    when_exhausted=nullable(one_of("block", "overage")),
    period=PERIOD,
    projected=SHOWN_AMOUNT,
    projected_overage=SHOWN_AMOUNT,
    projected_overage_cost=nullable(DOLLARS),
    thresholds=list_of(STRING),
    lots=list_of(LOT),
    further_limits=list_of(
        record(
            per=STRING,
            limit=SHOWN_AMOUNT,
            used=SHOWN_AMOUNT,
            remaining=SHOWN_AMOUNT,
            resets_at=INSTANT,
        )
    ),
    operations=list_of(SHARE),
)
RATE_LIMIT = record(
    name=STRING,
    kind=one_of("rate", "concurrency"),
    per=STRING,
    limit=COUNT,
    used=COUNT,
    remaining=COUNT,
    period_s=nullable(COUNT),
    resets_at=nullable(INSTANT),
)
USAGE = record(
    account=STRING,
    title=STRING,
    plan=STRING,
    plan_title=STRING,
    billing=one_of(*BILLING),
    seats=COUNT,
    overage=BOOL,
    spending_cap=nullable(DOLLARS),
    spending_cap_reached=BOOL,
    overage_cost=DOLLARS,
    settings=by_name(STRING),
    bundles=list_of(BUNDLE),
    meters=by_name(METER_USAGE),
    rate_limits=list_of(RATE_LIMIT),
)
PERIOD_OF_METER = record(
    period=PERIOD,
    is_over=BOOL,
    granted=SHOWN_AMOUNT,
    allowance=nullable(SHOWN_AMOUNT),
    carried_in=SHOWN_AMOUNT,
    topped_up=SHOWN_AMOUNT,
    lots_granted=SHOWN_AMOUNT,
    consumed=SHOWN_AMOUNT,
    overage=SHOWN_AMOUNT,
    expired=SHOWN_AMOUNT,
    carried_out=SHOWN_AMOUNT,
    utilization=NUMBER,
    events=COUNT,
    operations=list_of(SHARE),
)
HISTORY = record(
    account=STRING, meter=STRING, items=list_of(PERIOD_OF_METER), next=nullable(STRING)
)
BREAKDOWN_ROW: Schema = {
    "type": "object",
    "description": "Beside these, the name of what it is broken down by.",
    "properties": {"events": COUNT, "amount": SHOWN_AMOUNT, "percent": NUMBER},
    "required": ["events", "amount", "percent"],
    "additionalProperties": STRING,
}
BREAKDOWN = record(
    account=STRING,
    meter=STRING,
    by=STRING,
    **{"from": INSTANT, "to": INSTANT},
    total=SHOWN_AMOUNT,
    items=list_of(BREAKDOWN_ROW),
    next=nullable(STRING),
)
OVERAGE = record(
    account=STRING,
    month=STRING,
    items=list_of(record(id=STRING, day=STRING, meter=STRING, units=SHOWN_AMOUNT, amount=DOLLARS)),
    next=nullable(STRING),
)
METER_OF_INVOICE = record(
    title=STRING,
    included=SHOWN_AMOUNT,
    used=SHOWN_AMOUNT,
    from_lots=SHOWN_AMOUNT,
    remaining=SHOWN_AMOUNT,
    overage=SHOWN_AMOUNT,
    overdraft=SHOWN_AMOUNT,
    overage_cost=DOLLARS,
    rate=nullable(record(price=DOLLARS, per=SHOWN_AMOUNT, rounding=one_of("unit", "lot"))),
)
INVOICE = record(
    account=STRING,
    month=STRING,
    period=PERIOD,
    is_final=BOOL,
    plan=STRING,
    billing=one_of(*BILLING),
    seats=COUNT,
    currency={"const": "USD"},
    meters=by_name(METER_OF_INVOICE),
    lines=list_of(
        record(
            kind=one_of("plan", "seats", "overage", "bundle"),
            title=STRING,
            meter=nullable(STRING),
            units=nullable(SHOWN_AMOUNT),
            amount={**DOLLARS, "description": "To the cent, as configured in money.rounding."},
            exact=DOLLARS,
        )
    ),
    spending_cap=nullable(DOLLARS),
    total=DOLLARS,
)

DOCUMENTS: dict[str, Schema] = {
    "Problem": PROBLEM,
    "Account": ACCOUNT,
    "Member": MEMBER,
    "Key": KEY,
    "NewKey": NEW_KEY,
    "ReplacedKey": with_fields(NEW_KEY, replaces=ref("Key")),
    "Entry": ENTRY,
    "Bundle": BUNDLE,
    "Hold": HOLD,
    "Event": EVENT,
    "Audit": AUDIT,
    "Change": CHANGE,
    "Usage": USAGE,
    "History": HISTORY,
    "Breakdown": BREAKDOWN,
    "Overage": OVERAGE,
    "Invoice": INVOICE,
}
