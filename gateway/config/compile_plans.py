"""Plans, settings and what accounts have of their own -> the book's integers."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from gateway.config.compile_limits import compile_limits
from gateway.config.compile_prices import units_of
from gateway.config.draft import Draft, Where
from gateway.config.models_access import AccountModel
from gateway.config.models_limits import LimitModel
from gateway.config.models_plans import (
    DOLLARS,
    AllowanceModel,
    OverageModel,
    PlanModel,
    dollars,
)
from gateway.config.problems import did_you_mean, quoted
from gateway.core.book import Allowance, Bundle, OverageRate, Plan, SettableLimit, Setting
from gateway.core.limits import RateLimit
from gateway.core.terms import NEVER_OVERAGE
from gateway.core.units import AMOUNT_MAX

_WINDOW_US = {"second": 10**6, "minute": 60 * 10**6, "hour": 3_600 * 10**6, "day": 86_400 * 10**6}


def compile_plans(draft: Draft) -> dict[str, Plan]:
    return {name: _plan(draft, name, model) for name, model in draft.config.plans.items()}


def _plan(draft: Draft, name: str, model: PlanModel) -> Plan:
    path: Where = ("plans", name)
    allowances: list[Allowance] = []
    for meter, entries in model.allowances.items():
        allowances += _allowances(
            draft, meter, entries, (*path, "allowances", meter), model.billing
        )
    ordinary = {n: limit for n, limit in model.limits.items() if limit.settable is None}
    limits = compile_limits(draft, ordinary, (*path, "limits"), f"plan/{name}")
    settable = [
        _settable(draft, n, limit, (*path, "limits", n), f"plan/{name}/{n}")
        for n, limit in model.limits.items()
        if limit.settable is not None
    ]
    return Plan(
        name,
        tuple(allowances),
        limits,
        billing=model.billing,
        title=model.title or name,
        price_micro=_micro(draft, model.price, (*path, "price")),
        seat_price_micro=_micro(draft, model.seat_price, (*path, "seat_price")),
        on_leave=model.on_leave,
        bundles=_bundles(draft, model, (*path, "bundles")),
        settable=tuple(settable),
    )


def _allowances(
    draft: Draft, meter: str, models: list[AllowanceModel], path: Where, billing: str
) -> Iterable[Allowance]:
    is_list = draft.has(*path, 0)
    periods = []
    for index, model in enumerate(models):
        where: Where = (*path, index) if is_list else path
        # Weeks are counted in one place, whatever day they begin on; so is each fixed length.
        period = (model.per.kind, model.per.length_us)
        if period in periods:
            draft.expected((*where, "per"), "another kind of period than the allowances before")
        periods.append(period)
        for key in ("rollover", "overage", "settable") if index else ():
            if draft.has(*where, key):
                mark = draft.key_at(*where, key)
                wanted = f"`{key}:` in the first allowance of a meter only"
                draft.problems.expected(mark, wanted, f"`{key}:`", "the others only limit it")
        if index:
            model = model.model_copy(update={"overage": None, "rollover": None, "settable": False})
        yield _allowance(draft, meter, model, where, billing)


def _allowance(
    draft: Draft, meter: str, model: AllowanceModel, path: Where, billing: str
) -> Allowance:
    amount, per_seat = _amount(draft, meter, model, path)
    if billing in NEVER_OVERAGE and model.when_exhausted == "overage":
        hint = f"a plan that is billed as {billing} never goes into overage"
        draft.expected((*path, "when_exhausted"), "block", hint)
    rollover = 0
    if model.rollover is not None:
        if model.per.kind == "ever":
            draft.expected((*path, "rollover"), "no rollover", "`per: ever` has no next period")
        rollover = units_of(draft, meter, model.rollover, (*path, "rollover"))
    return Allowance(
        meter=meter,
        amount=amount,
        period=model.per,
        on_exhausted=model.when_exhausted,
        status=model.status,
        per_seat=per_seat,
        rollover=rollover,
        overage=_overage(draft, meter, model, path, billing),
        settable=model.settable,
    )


def _amount(draft: Draft, meter: str, model: AllowanceModel, path: Where) -> tuple[int, bool]:
    """Units per period, and whether they are for each seat; one way of saying it."""
    given = [key for key in ("amount", "per_seat", "price") if getattr(model, key) is not None]
    if len(given) != 1:
        if given:
            draft.expected((*path, given[1]), f"`{given[0]}:` or `{given[1]}:`, not both")
        else:
            draft.absent(path, "`amount:`, `per_seat:`, or `price:` with `rate:`")
        return 0, False
    if model.price is not None:
        return _committed(draft, meter, model, path), False
    if model.rate is not None:
        draft.expected((*path, "rate"), "no `rate:` without `price:`")
    key = given[0]
    amount = units_of(draft, meter, getattr(model, key), (*path, key))
    return amount, key == "per_seat"


def _committed(draft: Draft, meter: str, model: AllowanceModel, path: Where) -> int:
    """What a price buys at a rate, rounded down to the meter's smallest unit."""
    found = draft.config.meters.get(meter)
    if model.rate is None or model.rate == 0 or model.price is None:
        draft.absent(path, "`rate:` above 0, in dollars for each unit")
        return 0
    if found is None:
        return 0
    amount = int(Fraction(model.price) * 10**found.decimals / Fraction(model.rate))
    if amount > AMOUNT_MAX:
        draft.expected((*path, "price"), "an amount below 2**53 smallest units")
        return 0
    return amount


def _overage(
    draft: Draft, meter: str, model: AllowanceModel, path: Where, billing: str
) -> OverageRate | None:
    rate: OverageModel | None = model.overage
    if rate is None:
        return None
    where: Where = (*path, "overage")
    if billing in NEVER_OVERAGE:
        draft.expected(where, "no overage rate", f"billing: {billing} never bills overage")
    if model.per.kind != "month":
        draft.expected(where, "an overage rate with `per: month` only", "invoices are monthly")
    if rate.per == 0:
        draft.expected((*where, "per"), "a number above 0")
        return None
    units = units_of(draft, meter, rate.per, (*where, "per"))
    if units == 0:  # a problem
        return None
    return OverageRate(_micro(draft, rate.price, (*where, "price")), units, rate.rounding)


def _micro(draft: Draft, amount: Decimal, path: Where) -> int:
    micro = dollars(amount)
    if micro is None:
        draft.expected(path, DOLLARS)
        return 0
    return micro


def _bundles(draft: Draft, model: PlanModel, path: Where) -> tuple[Bundle, ...]:
    for name, bundle in model.bundles.items():
        if bundle.amount == 0:
            draft.expected((*path, name, "amount"), "an amount above 0")
    return tuple(
        Bundle(
            name,
            entry.meter,
            units_of(draft, entry.meter, entry.amount, (*path, name, "amount")),
            _micro(draft, entry.price, (*path, name, "price")),
            entry.title or name,
            entry.valid,
            entry.badge or "",
            entry.savings or "",
        )
        for name, entry in model.bundles.items()
    )


def _settable(
    draft: Draft, name: str, model: LimitModel, path: Where, limit_id: str
) -> SettableLimit:
    assert model.settable is not None
    least, most = model.settable.from_, model.settable.to
    if least > most:
        draft.expected((*path, "settable"), "`from:` of at most `to:`")
    if model.default and not least <= model.default <= most:
        draft.expected((*path, "default"), f"0 for unlimited, or {least} to {most}")
    if model.per in ("source", "route", "all"):
        hint = "accounts share such a count, so none can have its own"
        draft.expected((*path, "per"), "account, key, user or project", hint)
    for key in ("rate", "concurrent", "algorithm", "burst"):
        if draft.has(*path, key):
            draft.expected((*path, key), f"no `{key}:` beside `settable:`")
    limit = RateLimit(
        name, model.per, "fixed_window", most, _WINDOW_US[model.window], most, limit_id
    )
    return SettableLimit(limit, least, model.default)


def compile_settings(draft: Draft) -> dict[str, Setting]:
    settings = {}
    roles = draft.config.roles
    for name, model in draft.config.settings.items():
        path: Where = ("settings", name)
        default = model.default or model.values[0]
        if default not in model.values:
            draft.expected((*path, "default"), f"one of {', '.join(model.values)}")
        if len(set(model.values)) < len(model.values):
            draft.expected((*path, "values"), "each value once")
        for index, role in enumerate(model.editors):
            if role not in roles:
                hint = did_you_mean(role, roles) or f"roles: {', '.join(roles)}"
                draft.expected((*path, "editors", index), "a role of `roles:`", hint)
        settings[name] = Setting(
            name, tuple(model.values), default, model.title or name, frozenset(model.editors)
        )
    return settings


def own_terms(
    draft: Draft, name: str, model: AccountModel, plan: str | None
) -> dict[str, tuple[tuple[str, object], ...]]:
    """Settings, allowances and limits of a declared account, as core.book.Account has them."""
    path: Where = ("accounts", name)
    chosen = draft.config.plans.get(plan or "")
    for user, role in model.members.items():
        if role not in draft.config.roles:
            mark = draft.at(*path, "members", user)
            draft.problems.unknown(mark, "a role", role, draft.config.roles)
    if chosen and model.overage == "on" and chosen.billing in NEVER_OVERAGE:
        hint = f"its plan is billed as {chosen.billing}"
        draft.expected((*path, "overage"), "no overage", hint)
    return {
        "settings": tuple(_own_settings(draft, model, (*path, "settings"))),
        "allowances": tuple(_own_amounts(draft, model, chosen, (*path, "allowances"))),
        "limits": tuple(_own_limits(draft, model, chosen, (*path, "limits"))),
    }


def _own_settings(draft: Draft, model: AccountModel, path: Where) -> Iterable[tuple[str, str]]:
    for key, value in sorted(model.settings.items()):
        known = draft.config.settings.get(key)
        if known is None:
            mark = draft.key_at(*path, key)
            draft.problems.unknown(mark, "a setting", key, draft.config.settings)
        elif value not in known.values:
            hint = draft.problems.nearest(value, known.values)
            mark = draft.at(*path, key)
            draft.problems.expected(mark, f"a value of {key}", quoted(value), hint)
        elif value != (known.default or known.values[0]):
            yield key, value


def _own_amounts(
    draft: Draft, model: AccountModel, plan: PlanModel | None, path: Where
) -> Iterable[tuple[str, int]]:
    for meter, amount in sorted(model.allowances.items()):
        entries = plan.allowances.get(meter, []) if plan else []
        if meter not in draft.config.meters:
            mark = draft.key_at(*path, meter)
            draft.problems.unknown(mark, "a meter", meter, draft.config.meters)
        elif not any(entry.settable for entry in entries):
            wanted = "a meter whose allowance is `settable: true` in the plan"
            draft.problems.expected(draft.key_at(*path, meter), wanted, quoted(meter))
        yield meter, units_of(draft, meter, amount, (*path, meter))


def _own_limits(
    draft: Draft, model: AccountModel, plan: PlanModel | None, path: Where
) -> Iterable[tuple[str, int]]:
    for key, quota in sorted(model.limits.items()):
        limit = plan.limits.get(key) if plan else None
        if limit is None or limit.settable is None:
            mark = draft.key_at(*path, key)
            names = [n for n, entry in plan.limits.items() if entry.settable] if plan else []
            draft.problems.unknown(mark, "a limit that is settable in the plan", key, names)
        elif quota and not limit.settable.from_ <= quota <= limit.settable.to:
            wanted = f"0 for unlimited, or {limit.settable.from_:,} to {limit.settable.to:,}"
            draft.expected((*path, key), wanted)
        yield key, quota
