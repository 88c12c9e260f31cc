"""An account's fields: as a body gives them, and as a document shows them.

What a plan does not let an account have its own way is refused: amounts of
allowances and quotas of limits that are not settable, overage on plans that
never go into it. Must not know the store or HTTP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway.api.fields import Fields, count_parser, parse_any_text, parse_bool, parse_moment_us
from gateway.api.problem import ApiProblem, expected, unknown_name
from gateway.config.fields import parse_text, parse_timezone
from gateway.config.problems import Expected
from gateway.core.book import Account, Book, Plan
from gateway.core.instants import iso
from gateway.core.money import MICRO, format_micro
from gateway.core.terms import NEVER_OVERAGE
from gateway.core.units import json_amount, parse_amount

SEATS_MAX = 1_000_000
DOLLARS_MAX = 1_000_000_000

Pairs = tuple[tuple[str, Any], ...]


def account_document(account: Account, book: Book) -> dict[str, Any]:
    """Everything that is the account's own; settings with their defaults filled in."""
    return {
        "id": account.id,
        "title": account.title,
        "plan": account.plan,
        "disabled": account.disabled,
        "cycle_start": iso(account.anchor_us),
        "seats": account.seats,
        "overage": account.overage,
        "cap": None if account.cap_micro is None else format_micro(account.cap_micro),
        "timezone": account.timezone,
        "settings": {name: account.setting(entry) for name, entry in book.settings.items()},
        "allowances": {m: json_amount(n, book.decimals_of(m)) for m, n in account.allowances},
        "limits": dict(account.limits),
        "declared": account.id in book.accounts,
    }


def changed_account(account: Account, fields: Fields, book: Book) -> Account:
    """The account with the fields that were given. Raises ApiProblem.

    The switch for overage is off again on a plan that never goes into it: the consent was
    for another plan.
    """
    plan_name = fields.get("plan", parse_any_text, account.plan)
    if plan_name not in book.plans:
        raise unknown_name("plan", "a plan", plan_name, book.plans)
    plan = book.plans[plan_name]
    overage = _nullable(fields, "overage", parse_bool, account.overage)
    if overage and plan.billing in NEVER_OVERAGE:
        if "overage" in fields:
            text = f"overage: plan {plan_name!r} is billed as {plan.billing}: it has no overage"
            raise ApiProblem("invalid_parameter", text, parameter="overage")
        overage = None
    return replace(
        account,
        plan=plan_name,
        title=fields.get("title", parse_text, account.title),
        disabled=fields.get("disabled", parse_bool, account.disabled),
        anchor_us=fields.get("cycle_start", parse_moment_us, account.anchor_us),
        seats=fields.get("seats", count_parser(0, SEATS_MAX), account.seats),
        timezone=fields.get("timezone", parse_timezone, account.timezone),
        overage=overage,
        cap_micro=_nullable(fields, "cap", parse_dollars, account.cap_micro),
        settings=_pairs(fields, "settings", account.settings, _setting_parser(book)),
        allowances=_pairs(fields, "allowances", account.allowances, _amount_parser(plan, book)),
        limits=_pairs(fields, "limits", account.limits, _quota_parser(plan)),
    )


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only what differs of two documents."""
    names = [name for name in before if before[name] != after[name]]
    return {name: before[name] for name in names}, {name: after[name] for name in names}


def parse_dollars(value: object) -> int:
    """Dollars as decimal text or a whole number, in micro-dollars."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Expected('dollars such as 50 or "49.99"')
    try:
        micro = parse_amount(str(value), 6)
    except ValueError as exc:
        raise Expected('dollars such as 50 or "49.99"', hint=str(exc)) from None
    if not 0 <= micro < MICRO * DOLLARS_MAX:
        raise Expected("an amount of 0 or more, below a billion dollars")
    return micro


def parse_ip(value: object) -> str:
    """An IP address, in its usual form."""
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise Expected("an IP address such as 203.0.113.9") from None


def parse_object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Expected("an object")
    return value


def _nullable(fields: Fields, name: str, parse: Callable[[object], Any], default: Any) -> Any:
    """A field that JSON null takes away."""
    if fields.is_named(name) and name not in fields:
        return None
    return fields.get(name, parse, default)


def _pairs(fields: Fields, name: str, before: Pairs, parse: Callable[[str, object], Any]) -> Pairs:
    """A mapping's entries over what was there; an entry with null is taken away."""
    if name not in fields:
        return before
    merged = dict(before)
    for key, value in fields.need(name, parse_object).items():
        found = None if value is None else parse(key, value)
        if found is None:
            merged.pop(key, None)
        else:
            merged[key] = found
    return tuple(sorted(merged.items()))


def _setting_parser(book: Book) -> Callable[[str, object], str | None]:
    def parse(name: str, value: object) -> str | None:
        if name not in book.settings:
            raise unknown_name("settings", "a setting", name, book.settings)
        setting = book.settings[name]
        if value not in setting.values:
            raise expected(f"settings.{name}", f"one of {', '.join(setting.values)}", value)
        return None if value == setting.default else str(value)

    return parse


def _amount_parser(plan: Plan, book: Book) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        settable = [a.meter for a in plan.allowances if a.settable]
        if name not in settable:
            raise unknown_name("allowances", "a settable allowance of the plan", name, settable)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise expected(f"allowances.{name}", 'a whole number or decimal text "0.5"', value)
        try:
            amount = parse_amount(str(value), book.meters[name].decimals)
        except ValueError as exc:
            text = f"allowances.{name}: {exc}"
            raise ApiProblem("invalid_parameter", text, parameter="allowances") from None
        if amount < 0:
            raise expected(f"allowances.{name}", "an amount of 0 or more", value)
        return amount

    return parse


def _quota_parser(plan: Plan) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        ranges = {entry.limit.name: entry for entry in plan.settable}
        if name not in ranges:
            raise unknown_name("limits", "a settable limit of the plan", name, ranges)
        least, most = ranges[name].least, ranges[name].limit.quota
        is_count = isinstance(value, int) and not isinstance(value, bool)
        if not is_count or not (value == 0 or least <= value <= most):  # type: ignore[operator]
            text = f"0 for unlimited, or a whole number from {least:,} to {most:,}"
            raise expected(f"limits.{name}", text, value)
        return int(value)  # type: ignore[call-overload, no-any-return]

    return parse
