"""Meters, prices, limits and plans -> the book's integers.

Every amount becomes a whole number of its meter's smallest unit here, or a
problem that says why it cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from gateway.config.draft import Draft, Where
from gateway.config.models_limits import AllowanceModel, LimitModel
from gateway.config.problems import Expected
from gateway.config.quantities import in_units
from gateway.core.book import Allowance, Meter, Plan
from gateway.core.limits import RateLimit
from gateway.core.periods import Period
from gateway.core.pricing import FREE, Charge, Price

_SECOND_US = 1_000_000


def compile_meters(draft: Draft) -> dict[str, Meter]:
    return {
        name: Meter(name, model.decimals, model.title or name)
        for name, model in draft.config.meters.items()
    }


def compile_price(draft: Draft, amounts: Mapping[str, Decimal], path: Where) -> Price:
    """A fixed price; parts that have a problem are left out."""
    charges = []
    for meter, amount in amounts.items():
        units = _units(draft, meter, amount, (*path, meter))
        if units:
            charges.append(Charge(meter, units))
    return Price(tuple(charges)) if charges else FREE


def _units(draft: Draft, meter: str, amount: Decimal, path: Where) -> int:
    """An amount in smallest units; 0 after a problem."""
    model = draft.config.meters.get(meter)
    if model is None:  # said by check_references
        return 0
    try:
        return in_units(amount, model.decimals)
    except Expected as exc:
        draft.refuse(path, exc)
        return 0


def compile_plans(draft: Draft) -> dict[str, Plan]:
    plans = {}
    for name, model in draft.config.plans.items():
        path: Where = ("plans", name)
        allowances = tuple(
            _allowance(draft, meter, entry, (*path, "allowances", meter))
            for meter, entry in model.allowances.items()
        )
        limits = compile_limits(draft, model.limits, (*path, "limits"), f"plan/{name}")
        plans[name] = Plan(name, allowances, limits)
    return plans


def _allowance(draft: Draft, meter: str, model: AllowanceModel, path: Where) -> Allowance:
    amount = _units(draft, meter, model.amount, (*path, "amount"))
    return Allowance(meter, amount, Period(model.per), model.when_exhausted, model.status)


def compile_limits(
    draft: Draft, models: Mapping[str, LimitModel], path: Where, scope: str
) -> tuple[RateLimit, ...]:
    """Limits in the order in which they are written; `scope` begins their ids."""
    limits = (
        _limit(draft, name, model, (*path, name), f"{scope}/{name}")
        for name, model in models.items()
    )
    return tuple(limit for limit in limits if limit is not None)


def _limit(
    draft: Draft, name: str, model: LimitModel, path: Where, limit_id: str
) -> RateLimit | None:
    if model.concurrent is not None:
        return _concurrency(draft, name, model, path, limit_id)
    if model.rate is None:
        draft.absent(path, "`rate:` or `concurrent:`")
        return None
    quota, period_us = model.rate
    burst = quota
    if model.algorithm == "gcra":
        burst = model.burst or max(1, -(-quota * _SECOND_US // period_us))
    elif model.burst is not None:
        draft.expected((*path, "burst"), "no burst with fixed_window", "it needs algorithm: gcra")
    window_s = max(1, period_us // _SECOND_US)
    policy = f'"{name}";q={quota};w={window_s}'.encode()
    return RateLimit(name, model.per, model.algorithm, quota, period_us, burst, limit_id, policy)


def _concurrency(
    draft: Draft, name: str, model: LimitModel, path: Where, limit_id: str
) -> RateLimit:
    for key in ("rate", "algorithm", "burst"):
        if draft.has(*path, key):
            draft.expected((*path, key), f"no `{key}:` beside `concurrent:`", "make it two limits")
    quota = model.concurrent or 1
    # `qu` is the draft's quota unit; such a limit has no window.
    policy = f'"{name}";q={quota};qu="concurrent-requests"'.encode()
    return RateLimit(name, model.per, "concurrency", quota, 0, quota, limit_id, policy)
