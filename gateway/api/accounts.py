"""Accounts: create, list, show, change; their members.

Accounts declared in the configuration are listed and shown but changed only
there. A change may be made in the name of a member (`as`): then the member's
role decides. Invariant: what a change is compared with is read in its own
transaction, and the account's history gets the new version in the same one.
Must not know HTTP.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway.api.fields import (
    Fields,
    count_parser,
    parse_any_text,
    parse_bool,
    parse_moment_us,
)
from gateway.api.operations import PAGE_FIELDS, Call, Change, Operations, Paging, Reply
from gateway.api.pages import accounts_after
from gateway.api.problem import ApiProblem, expected, unknown_name
from gateway.config.fields import parse_identity, parse_name, parse_text, parse_timezone
from gateway.config.models_access import MONDAY_US
from gateway.config.problems import Expected
from gateway.core.book import Account, Book, Plan
from gateway.core.instants import iso
from gateway.core.money import MICRO, format_micro
from gateway.core.units import json_amount, parse_amount
from gateway.store.ledger import (
    list_members,
    put_member,
    record_account_version,
    remove_member,
)
from gateway.store.mutations import find_account, insert_account, update_account

CHANGEABLE = (
    "plan", "title", "disabled", "cycle_start", "seats", "overage", "cap", "timezone", "settings",
    "allowances", "limits",
)  # fmt: skip
SEATS_MAX = 1_000_000
# What members of these roles may change beside settings, which name their editors.
OVERAGE_ROLES = frozenset(("owner", "admin", "manager", "billing"))
BY_MEMBERS = {"overage": OVERAGE_ROLES, "cap": OVERAGE_ROLES, "allowances": OVERAGE_ROLES,
              "limits": OVERAGE_ROLES}  # fmt: skip


def list_accounts(ops: Operations, call: Call) -> Reply:
    """Declared and stored accounts, by id."""
    paging = Paging.of(Fields(call.query, PAGE_FIELDS, "parameter"))
    book = ops.book
    stored = ops.place.read(lambda c: accounts_after(c, paging.after, paging.limit + 1))
    by_id = {account.id: account for account in stored}
    by_id.update((i, account) for i, account in book.accounts.items() if i > paging.after)
    rows = [by_id[account_id] for account_id in sorted(by_id)]
    return paging.page(rows, lambda account: account_document(account, book))


def show_account(ops: Operations, call: Call) -> Reply:
    """One account with everything that is its own."""
    Fields(call.query, (), "parameter")
    return Reply(200, account_document(ops.account(call.params["account"]), ops.book))


def create_account(ops: Operations, call: Call) -> Reply:
    """A new account. Body: id, and any of CHANGEABLE."""
    fields = Fields(call.body, ("id", *CHANGEABLE), "field")
    book = ops.book
    account_id = fields.need("id", parse_name)
    if ops.find_account(account_id) is not None:
        raise ApiProblem("conflict", f"there is an account {account_id!r} already")
    if "plan" not in fields and book.default_plan is None:
        raise unknown_name("plan", "a plan", "", book.plans)
    empty = Account(account_id, book.default_plan or "", MONDAY_US, account_id)
    account = _changed(empty, fields, book)
    document = account_document(account, book)
    now_us = ops.place.now_us()

    def insert(connection: sqlite3.Connection) -> tuple[None, Change]:
        try:
            insert_account(connection, account, now_us)
        except sqlite3.IntegrityError:
            raise ApiProblem("conflict", f"there is an account {account_id!r} already") from None
        record_account_version(connection, account, now_us)
        return None, Change("account.create", account_id, None, document)

    ops.change(call, insert)
    _tell(ops)
    return Reply(201, document)


def change_account(ops: Operations, call: Call) -> Reply:
    """Change a stored account; `as` names the member who asks for it."""
    fields = Fields(call.body, (*CHANGEABLE, "as"), "field")
    book = ops.book
    account_id = call.params["account"]
    if account_id in book.accounts:
        raise ApiProblem(
            "declared",
            f"account {account_id!r} is declared in the configuration: change it there and reload",
        )
    if not any(fields.is_named(name) for name in CHANGEABLE):
        raise ApiProblem("invalid_body", f"expected one of {', '.join(CHANGEABLE)}, found none")
    now_us = ops.place.now_us()

    def update(connection: sqlite3.Connection) -> tuple[Account, Change | None]:
        before = find_account(connection, account_id)
        if before is None:
            raise ApiProblem("not_found", f"there is no account {account_id!r}")
        after = _changed(before, fields, book)
        member = fields.get("as", parse_identity, None)
        if member is not None:
            _check_member(_members(connection, book, account_id), member, before, after, book)
        if before == after:
            return after, None
        update_account(connection, after)
        record_account_version(connection, after, now_us)
        shown = [account_document(account, book) for account in (before, after)]
        was, now = _difference(*shown)
        if member is not None:
            now["as"] = member
        return after, Change("account.change", account_id, was, now)

    after = ops.change(call, update)
    _tell(ops)
    return Reply(200, account_document(after, book))


def show_members(ops: Operations, call: Call) -> Reply:
    """The account's members and their roles."""
    Fields(call.query, (), "parameter")
    account = ops.account(call.params["account"])
    book = ops.book
    found = ops.place.read(lambda c: _members(c, book, account.id))
    items = [{"user": user, "role": role} for user, role in found.items()]
    return Reply(200, {"items": items, "next": None})


def set_member(ops: Operations, call: Call) -> Reply:
    """Give a user a role in the account. Body: role."""
    fields = Fields(call.body, ("role",), "field")
    account, user = ops.account(call.params["account"]), _user(call)
    book = ops.book
    role = fields.need("role", parse_any_text)
    if role not in book.roles:
        raise unknown_name("role", "a role", role, book.roles)
    _refuse_declared(book, account, user)

    def put(connection: sqlite3.Connection) -> tuple[None, Change | None]:
        before = put_member(connection, account.id, user, role)
        if before == role:
            return None, None
        return None, Change("member.set", f"{account.id}/{user}", before, role)

    ops.change(call, put)
    return Reply(200, {"user": user, "role": role})


def delete_member(ops: Operations, call: Call) -> Reply:
    """Take a user out of the account."""
    Fields(call.query, (), "parameter")
    account, user = ops.account(call.params["account"]), _user(call)
    _refuse_declared(ops.book, account, user)

    def remove(connection: sqlite3.Connection) -> tuple[str, Change]:
        role = list_members(connection, account.id).get(user)
        if role is None or not remove_member(connection, account.id, user):
            raise ApiProblem("not_found", f"{user!r} is no member of account {account.id!r}")
        return role, Change("member.remove", f"{account.id}/{user}", role, None)

    return Reply(200, {"user": user, "role": ops.change(call, remove)})


def account_document(account: Account, book: Book) -> dict[str, Any]:
    """Everything that is the account's own; settings with their defaults filled in."""
    decimals = {meter.name: meter.decimals for meter in book.meters.values()}
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
        "allowances": {m: json_amount(n, decimals.get(m, 0)) for m, n in account.allowances},
        "limits": dict(account.limits),
        "declared": account.id in book.accounts,
    }


def _changed(account: Account, fields: Fields, book: Book) -> Account:
    """The account with the fields that were given."""
    plan_name = fields.get("plan", parse_any_text, account.plan)
    if plan_name not in book.plans:
        raise unknown_name("plan", "a plan", plan_name, book.plans)
    plan = book.plans[plan_name]
    changed = replace(
        account,
        plan=plan_name,
        title=fields.get("title", parse_text, account.title),
        disabled=fields.get("disabled", parse_bool, account.disabled),
        anchor_us=fields.get("cycle_start", parse_moment_us, account.anchor_us),
        seats=fields.get("seats", count_parser(0, SEATS_MAX), account.seats),
        timezone=fields.get("timezone", parse_timezone, account.timezone),
        overage=_nullable(fields, "overage", parse_bool, account.overage),
        cap_micro=_nullable(fields, "cap", parse_dollars, account.cap_micro),
        settings=_pairs(fields, "settings", account.settings, _setting_parser(book)),
        allowances=_pairs(fields, "allowances", account.allowances, _amount_parser(plan, book)),
        limits=_pairs(fields, "limits", account.limits, _quota_parser(plan)),
    )
    if changed.overage and plan.billing in ("free", "enterprise"):
        text = (
            f"overage: plan {plan_name!r} is billed as {plan.billing}: it never goes into overage"
        )
        raise ApiProblem("invalid_parameter", text, parameter="overage")
    return changed


def _nullable(fields: Fields, name: str, parse: Callable[[object], Any], default: Any) -> Any:
    """A field that JSON null takes away."""
    if fields.is_named(name) and name not in fields:
        return None
    return fields.get(name, parse, default)


Pairs = tuple[tuple[str, Any], ...]


def _pairs(
    fields: Fields, name: str, before: Pairs, parse: Callable[[str, object], Any]
) -> tuple[tuple[str, Any], ...]:
    """A mapping's entries over what was there; an entry with null is taken away."""
    if name not in fields:
        return before
    given = fields.need(name, _parse_object)
    merged = dict(before)
    for key, value in given.items():
        found = None if value is None else parse(key, value)
        if found is None:
            merged.pop(key, None)
        else:
            merged[key] = found
    return tuple(sorted(merged.items()))


def _parse_object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Expected("an object")
    return value


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
            raise ApiProblem("invalid_parameter", f"allowances.{name}: {exc}") from None
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


def parse_dollars(value: object) -> int:
    """Dollars as decimal text or a whole number, in micro-dollars."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Expected('dollars such as 50 or "49.99"')
    try:
        micro = parse_amount(str(value), 6)
    except ValueError as exc:
        raise Expected('dollars such as 50 or "49.99"', hint=str(exc)) from None
    if not 0 <= micro < MICRO * 1_000_000_000:
        raise Expected("an amount of 0 or more, below a billion dollars")
    return micro


def _members(connection: sqlite3.Connection, book: Book, account_id: str) -> dict[str, str]:
    """Declared members and stored ones; what is declared counts."""
    return {**list_members(connection, account_id), **book.members.get(account_id, {})}


def _check_member(
    members: Mapping[str, str], member: str, before: Account, after: Account, book: Book
) -> None:
    """Whether a member's role may make this change. Raises ApiProblem, changing nothing."""
    role = members.get(member)
    if role is None:
        raise ApiProblem("forbidden", f"{member!r} is no member of account {before.id!r}")
    changed = [n for n in vars_of(after) if getattr(before, n) != getattr(after, n)]
    for name in changed:
        field = "cap" if name == "cap_micro" else name
        if field == "settings":
            _check_settings(role, before, after, book)
        elif role not in BY_MEMBERS.get(field, frozenset()):
            raise ApiProblem("forbidden", f"a member with role {role!r} may not change {field}")


def _check_settings(role: str, before: Account, after: Account, book: Book) -> None:
    for setting in book.settings.values():
        if before.setting(setting) != after.setting(setting) and role not in setting.editors:
            who = ", ".join(sorted(setting.editors)) or "operators only"
            text = f"a member with role {role!r} may not change {setting.name} (may: {who})"
            raise ApiProblem("forbidden", text)


def vars_of(account: Account) -> tuple[str, ...]:
    return tuple(account.__dataclass_fields__)


def _user(call: Call) -> str:
    try:
        return parse_identity(call.params["user"])
    except Expected as exc:
        raise expected("user", exc.expected, call.params["user"]) from None


def _refuse_declared(book: Book, account: Account, user: str) -> None:
    if user in book.members.get(account.id, {}):
        raise ApiProblem("declared", f"member {user!r} is declared in the configuration")


def _difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only what differs."""
    names = [name for name in before if before[name] != after[name]]
    return {name: before[name] for name in names}, {name: after[name] for name in names}


def _tell(ops: Operations) -> None:
    """Every cached caller may belong to the account: they are looked up anew."""
    ops.place.hot(lambda hot: hot.directory.forget_all())
