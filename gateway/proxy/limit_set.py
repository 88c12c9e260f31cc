"""The limits of one kind of request, and how they are told to the caller.

Made once for each plan, route and caller kind, so that a request only fills
numbers into a template. Header forms: draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.core.book import Allowance, Book, Plan, Route
from gateway.core.limits import Concurrency, Counter, RateLimit
from gateway.core.units import format_amount
from gateway.proxy.exchange import Exchange

SECOND_US = 1_000_000
# How long a period is at most, for RateLimit-Policy's w.
_WINDOW_S = {"hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_678_400}


class LimitSet(NamedTuple):
    """`template` has two numbers for each timed limit, then for each budget, then its text."""

    plan: Plan  # kept alive, for it is found by its identity
    limits: tuple[RateLimit, ...]
    template: bytes
    # of each budget: its meter, and the meter's unit and decimals
    budgets: tuple[tuple[str, int, int], ...]


def make_limit_set(book: Book, plan: Plan, route: Route, kind: str) -> LimitSet:
    """Everything that limits callers of a plan and kind on a route."""
    limits = (*book.limits, *plan.limits, *route.limits)
    # Of several allowances of a meter the first is the one that is told.
    allowances = {allowance.meter: allowance for allowance in reversed(plan.allowances)}
    price = route.prices.get(kind)
    meters = price.meters if price else ()
    budgets = [allowances[meter] for meter in meters if meter in allowances]
    timed = [limit for limit in limits if limit.algorithm != "concurrency"]
    policies = [limit.policy for limit in timed]
    members = [b'"%b";r=%%d;t=%%d' % limit.label for limit in timed]
    remains = []
    for allowance in budgets:
        meter = book.meters[allowance.meter]
        whole = allowance.amount // meter.unit
        policies.append(b'"%b";q=%d%b' % (meter.label, whole, _w(allowance)))
        members.append(b'"%b";r=%%d;t=%%d' % meter.label)
        remains.append(b"%b=%%b" % meter.label)
    template = b""
    if book.response_headers.ratelimit and members:
        policy = b", ".join(policies).replace(b"%", b"%%")
        template = b"RateLimit-Policy: %b\r\nRateLimit: %b\r\n" % (policy, b", ".join(members))
    if book.response_headers.budget and remains:
        template += b"X-Budget-Remaining: %b\r\n" % b", ".join(remains)
    told = [book.meters[allowance.meter] for allowance in budgets]
    return LimitSet(plan, limits, template, tuple((m.name, m.unit, m.decimals) for m in told))


def _w(allowance: Allowance) -> bytes:
    """The window parameter; a period without an end has none."""
    period = allowance.period
    if period.kind == "ever":
        return b""
    return b";w=%d" % (_WINDOW_S.get(period.kind) or period.length_us // SECOND_US)


def admitted_head(x: Exchange) -> bytes:
    """The header lines that every admitted answer carries."""
    wanted = x.book.response_headers
    hold = x.hold
    template = x.limit_set.template
    if hold is None or not template:
        return b"X-Request-Id: %b\r\n" % x.request_id.encode() if wanted.request_id else b""
    # Seconds are rounded up, so that nobody comes back too early.
    now_us = x.time_us - 999_999
    values: list[int | bytes] = []
    if wanted.ratelimit:
        for counter in hold.counters:
            if counter.__class__ is not Concurrency:
                left, reset_us = counter.left(x.time_us)
                values += (left, (reset_us - now_us) // SECOND_US)
    texts: list[int | bytes] = []
    for meter, unit, decimals in x.limit_set.budgets:
        # One that this request is exempt from was not reserved, and may not be known yet.
        balance = x.account.balances.get(meter)
        for reserved, _ in hold.reserved:
            if reserved.meter == meter:
                balance = reserved
        # None: the allowance was taken away while the request was on its way.
        left = (balance.remaining or 0) if balance is not None else 0
        if wanted.ratelimit:
            end_us = x.time_us if balance is None else balance.span.end_us
            values += (left // unit, (end_us - now_us) // SECOND_US)
        if wanted.budget:
            texts.append(format_amount(left, decimals).encode() if decimals else b"%d" % left)
    head = template % (*values, *texts)
    if wanted.request_id:
        head = b"X-Request-Id: %b\r\n%b" % (x.request_id.encode(), head)
    if wanted.x_ratelimit:
        head += _x_ratelimit_head(hold.counters, x.time_us)
    return head


def _x_ratelimit_head(counters: list[Counter], now_us: int) -> bytes:
    """The older header family, for the limit with the least left."""
    rows = [c.figures(now_us) for c in counters if c.__class__ is not Concurrency]
    if not rows:
        return b""
    tightest = min(rows, key=lambda figures: figures.remaining)
    wait_s = (tightest.reset_us - now_us + 999_999) // SECOND_US
    return b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n" % (
        tightest.limit,
        tightest.remaining,
        wait_s,
    )
