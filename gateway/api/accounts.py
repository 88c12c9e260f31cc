"""Accounts: create, list, show, change.

Accounts declared in the configuration are listed and shown but changed only
there. Must not know HTTP.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.api.fields import Fields, parse_any_text, parse_bool, parse_moment_us
from gateway.api.operations import PAGE_FIELDS, Call, Change, Operations, Paging, Reply
from gateway.api.pages import accounts_after
from gateway.api.problem import ApiProblem, unknown_name
from gateway.config.fields import parse_name, parse_text
from gateway.config.models_access import MONDAY_US
from gateway.core.book import Account, Book
from gateway.core.instants import iso
from gateway.store.mutations import insert_account, update_account

CHANGEABLE = ("plan", "title", "disabled", "cycle_start")


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
    return Reply(200, account_document(ops.account(call.params["account"]), ops.book))


def create_account(ops: Operations, call: Call) -> Reply:
    """A new account. Body: id, and plan, title, disabled, cycle_start."""
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

    def insert(connection: sqlite3.Connection) -> tuple[None, Change]:
        try:
            insert_account(connection, account, ops.place.now_us())
        except sqlite3.IntegrityError:
            raise ApiProblem("conflict", f"there is an account {account_id!r} already") from None
        return None, Change("account.create", account_id, None, document)

    ops.change(call, insert)
    _tell(ops)
    return Reply(201, document)


def change_account(ops: Operations, call: Call) -> Reply:
    """Change plan, title, disabled or cycle_start of a stored account."""
    fields = Fields(call.body, CHANGEABLE, "field")
    book = ops.book
    account_id = call.params["account"]
    if account_id in book.accounts:
        raise ApiProblem(
            "declared",
            f"account {account_id!r} is declared in the configuration: change it there and reload",
        )
    if not any(name in fields for name in CHANGEABLE):
        raise ApiProblem("invalid_body", f"expected one of {', '.join(CHANGEABLE)}, found none")
    before = ops.account(account_id)
    after = _changed(before, fields, book)

    def update(connection: sqlite3.Connection) -> tuple[None, Change | None]:
        if before == after:
            return None, None
        update_account(connection, after)
        shown = [account_document(account, book) for account in (before, after)]
        return None, Change("account.change", account_id, *_difference(*shown))

    ops.change(call, update)
    _tell(ops)
    return Reply(200, account_document(after, book))


def account_document(account: Account, book: Book) -> dict[str, Any]:
    return {
        "id": account.id,
        "title": account.title,
        "plan": account.plan,
        "disabled": account.disabled,
        "cycle_start": iso(account.anchor_us),
        "declared": account.id in book.accounts,
    }


def _changed(account: Account, fields: Fields, book: Book) -> Account:
    """The account with the fields that were given."""
    plan = fields.get("plan", parse_any_text, account.plan)
    if plan not in book.plans:
        raise unknown_name("plan", "a plan", plan, book.plans)
    return replace(
        account,
        plan=plan,
        title=fields.get("title", parse_text, account.title),
        disabled=fields.get("disabled", parse_bool, account.disabled),
        anchor_us=fields.get("cycle_start", parse_moment_us, account.anchor_us),
    )


def _difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only what differs."""
    names = [name for name in before if before[name] != after[name]]
    return {name: before[name] for name in names}, {name: after[name] for name in names}


def _tell(ops: Operations) -> None:
    """Every cached caller may belong to the account: they are looked up anew."""
    ops.place.hot(lambda hot: hot.directory.forget_all())
