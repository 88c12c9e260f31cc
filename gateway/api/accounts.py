"""Accounts: create, list, show, change.

Accounts declared in the configuration are listed and shown but changed only
there. A change may be made in the name of a member (`as`): then the member's
role decides as well. Invariant: what a change is compared with is read in its
own transaction, the account's history gets the new version in the same one,
and the hot state has it before the answer. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.api.account_fields import (
    account_document,
    changed_account,
    difference,
    parse_ip,
    parse_object,
)
from gateway.api.fields import Fields
from gateway.api.members import members_of
from gateway.api.operations import PAGE_FIELDS, Call, Change, Hot, Operations, Paging, Reply
from gateway.api.pages import accounts_after
from gateway.api.problem import ApiProblem, unknown_name
from gateway.api.roles import ACCOUNT_FIELDS, check_member, require_fields
from gateway.config.fields import parse_identity, parse_name
from gateway.config.models_access import MONDAY_US
from gateway.core.book import Account, Book
from gateway.store.database import ALREADY_THERE, Database
from gateway.store.ledger import record_account_version
from gateway.store.mutations import find_account, insert_account, update_account

CHANGEABLE = tuple(ACCOUNT_FIELDS)


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
    account = changed_account(empty, fields, book)
    document = account_document(account, book)
    now_us = ops.place.now_us()

    def insert(connection: Database) -> tuple[None, Change]:
        try:
            insert_account(connection, account, now_us)
        except ALREADY_THERE:
            raise ApiProblem("conflict", f"there is an account {account_id!r} already") from None
        record_account_version(connection, account, now_us)
        return None, Change("account.create", account_id, None, document)

    ops.change(call, insert)
    # A declared key may have waited for this account.
    ops.place.hot(lambda hot: hot.directory.forget_all())
    return Reply(201, document)


def change_account(ops: Operations, call: Call) -> Reply:
    """Change a stored account; `as` names the member who asks for it."""
    fields = Fields(call.body, (*CHANGEABLE, "as", "as_address"), "field")
    book = ops.book
    account_id = call.params["account"]
    given = [name for name in CHANGEABLE if fields.is_named(name)]
    require_fields(call.operator.role, given)
    if account_id in book.accounts:
        raise ApiProblem(
            "declared",
            f"account {account_id!r} is declared in the configuration: change it there and reload",
        )
    if not given:
        raise ApiProblem("invalid_body", f"expected one of {', '.join(CHANGEABLE)}, found none")
    member = fields.get("as", parse_identity, "")
    member_address = fields.get("as_address", parse_ip, "")
    now_us = ops.place.now_us()

    def update(connection: Database) -> tuple[Account, Change | None]:
        before = find_account(connection, account_id)
        if before is None:
            raise ApiProblem("not_found", f"there is no account {account_id!r}")
        after = changed_account(before, fields, book)
        if member:
            roles = members_of(connection, book, account_id)
            check_member(roles, member, _judged(given, fields), book, account_id)
        if before == after:
            return after, None
        update_account(connection, after)
        record_account_version(connection, after, now_us)
        change = _change(before, after, book)
        return after, change._replace(member=member, member_address=member_address)

    after = ops.change(call, update)
    ops.place.hot(lambda hot: _rebind(hot, account_id))
    return Reply(200, account_document(after, book))


def _judged(given: Sequence[str], fields: Fields) -> list[str]:
    """What a member's role is asked for: fields, and each setting by itself."""
    names = [name for name in given if name != "settings"]
    if "settings" in fields:
        names += [f"settings.{name}" for name in fields.need("settings", parse_object)]
    return names


def _change(before: Account, after: Account, book: Book) -> Change:
    """What the audit log keeps; consent to overage, and its end, can be looked up by action."""
    shown: list[dict[str, Any]] = [account_document(one, book) for one in (before, after)]
    action = "account.change"
    if before.overage != after.overage:
        action = "account.overage_on" if after.overage else "account.overage_off"
    return Change(action, after.id, *difference(*shown))


def _rebind(hot: Hot, account_id: str) -> None:
    """Callers of the account are looked up anew, and its live balances take the new terms."""
    hot.directory.forget_accounts({account_id})
    if hot.state.loaded(account_id) is not None:
        hot.directory.account_state(account_id)
