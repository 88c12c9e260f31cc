"""The ledger of an account: every change of what it has, and how one is made.

Invariant: every change is an entry that says what, why, who and when; one id is
one entry, however often it is sent, and the same id with other values is
refused. What is taken back is gone from the hot state before it is written, so
that nobody uses it meanwhile: never below what is used and held. Must not know
HTTP; what may be changed is said in gateway/api/grants.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.api.fields import Fields, parse_any_text
from gateway.api.operations import PAGE_FIELDS, Call, Change, Hot, Operations, Paging, Reply
from gateway.api.problem import ApiProblem, expected
from gateway.core.book import Book
from gateway.core.instants import iso
from gateway.core.ledger import Balance
from gateway.core.money import format_micro
from gateway.core.rows import OWN_LOT, LedgerEntry
from gateway.core.units import AMOUNT_MAX, json_amount
from gateway.state.base import AccountState
from gateway.store.database import Database
from gateway.store.ledger import LedgerRefusal, find_entry, insert_entry, list_entries

# Says no in the transaction of the change, before an entry is written.
Check = Callable[[Database, LedgerEntry], None]


def list_ledger(ops: Operations, call: Call) -> Reply:
    """Every change of what an account has, newest first."""
    fields = Fields(call.query, ("account", *PAGE_FIELDS), "parameter")
    account = ops.account(fields.need("account", parse_any_text))
    paging = Paging.of(fields)
    before = None if paging.after == "" else _parse_cursor(paging.after)
    rows = ops.place.read(
        lambda c: list_entries(c, account.id, before=before, limit=paging.limit + 1)
    )
    book = ops.book
    shown = [entry_document(row, book) for row in rows[: paging.limit]]
    last = rows[paging.limit - 1] if len(rows) > paging.limit else None
    return Reply(200, {"items": shown, "next": f"{last.time_us}.{last.id}" if last else None})


def entry_document(entry: LedgerEntry, book: Book) -> dict[str, Any]:
    """An entry as it is shown; `lot` null is the own lot of the period."""
    return {
        "id": entry.id,
        "account": entry.account,
        "meter": entry.meter,
        "kind": entry.kind,
        "amount": json_amount(entry.amount, book.decimals_of(entry.meter)),
        "lot": entry.lot or None,
        "period_start": iso(entry.period_us) if entry.lot == OWN_LOT else None,
        "starts": iso(entry.starts_us),
        "expires": None if entry.expires_us is None else iso(entry.expires_us),
        "priority": entry.priority,
        "every": entry.every or None,
        "price": format_micro(entry.price_micro),
        "reason": entry.reason,
        "actor": entry.actor,
        "time": iso(entry.time_us),
    }


def record_one(
    ops: Operations, call: Call, action: str, entry: LedgerEntry, check: Check | None = None
) -> Reply:
    """Write one entry, or find the one that was made with its id: 201 when it is new."""
    (made,), is_new = record(ops, call, action, [entry], check)
    return Reply(201 if is_new else 200, entry_document(made, ops.book))


def record(
    ops: Operations, call: Call, action: str, entries: list[LedgerEntry], check: Check | None = None
) -> tuple[list[LedgerEntry], bool]:
    """The entries as they stand in the ledger, and whether they are new.

    All of them are written, or none. Raises ApiProblem.
    """
    book = ops.book

    def insert(c: Database) -> tuple[tuple[list[LedgerEntry], bool], Change | None]:
        made = [_insert(c, entry, check) for entry in entries]
        new = [entry_document(entry, book) for entry, is_new in made if is_new]
        after = new[0] if len(new) == 1 else new
        change = Change(action, entries[0].account, None, after) if new else None
        return ([entry for entry, _ in made], bool(new)), change

    with ops.place.exclusive():
        fresh = ops.place.read(lambda c: [e for e in entries if find_entry(c, e.id) is None])
        ops.place.hot(lambda hot: _make_room(hot, fresh))
        try:
            made, is_new = ops.change(call, insert)
        except BaseException:
            missing = ops.place.read(lambda c: [e for e in fresh if find_entry(c, e.id) is None])
            ops.place.hot(lambda hot: _give_up(hot, missing))
            raise
        ops.place.hot(lambda hot: _tell(hot, made))
    return made, is_new


def _insert(
    connection: Database, entry: LedgerEntry, check: Check | None
) -> tuple[LedgerEntry, bool]:
    if check is not None and find_entry(connection, entry.id) is None:
        check(connection, entry)
    try:
        made, is_new = insert_entry(connection, entry)
    except LedgerRefusal as exc:
        raise ApiProblem("conflict", str(exc)) from None
    except ValueError as exc:
        raise ApiProblem("idempotency_conflict", str(exc)) from None
    if not _is_same(made, entry):
        text = f"{entry.id} was already used for another request"
        raise ApiProblem("idempotency_conflict", text)
    return made, is_new


def _is_same(made: LedgerEntry, sent: LedgerEntry) -> bool:
    """Whether an entry that is sent again asks for the same; times may be relative to now."""

    def same(name: str) -> bool:
        one, other = getattr(made, name), getattr(sent, name)
        if one is None or other is None:
            return one is other
        return bool(one == other or one - made.time_us == other - sent.time_us)

    return made.reason == sent.reason and same("starts_us") and same("expires_us")


# -- the hot state ----------------------------------------------------------------


def _make_room(hot: Hot, entries: list[LedgerEntry]) -> None:
    """All entries fit what the account has now; those that take back count at once."""
    taken: list[LedgerEntry] = []
    try:
        for entry in entries:
            state = state_of(hot, entry.account)
            if not hot.state.has_entry(state, entry):
                balance = hot.state.balance(state, entry.meter, entry.time_us)
                _refuse_wrong(balance, entry, hot.book)
                if entry.amount < 0:
                    hot.state.take_back(state, entry)
            if entry.amount < 0:
                taken.append(entry)
    except ApiProblem:
        _give_up(hot, taken)
        raise


def _refuse_wrong(balance: Balance, entry: LedgerEntry, book: Book) -> None:
    """What is taken back is there, neither used nor held; what is added can still be counted."""
    lot = next((lot for lot in balance.lots if lot.id == entry.lot), None)
    if entry.lot not in (OWN_LOT, entry.id) and lot is None:
        raise expected("lot", "a lot of this account and meter that is valid now", entry.lot)
    has = (balance.limit or 0) + sum(lot.amount for lot in balance.lots)
    if entry.amount > 0 and has + entry.amount > AMOUNT_MAX:
        raise _wrong_amount(f"expected at most {AMOUNT_MAX:,} smallest units in all")
    if entry.amount < 0:
        free = balance.free(entry.lot)
        if free + entry.amount < 0:
            meter = book.meters[entry.meter]
            shown = json_amount(free, meter.decimals)
            raise _wrong_amount(
                f"expected to take back at most {shown}, what is neither used nor held"
            )


def _give_up(hot: Hot, entries: list[LedgerEntry]) -> None:
    """What was taken back in advance was not written: it is there again."""
    for entry in entries:
        state = hot.state.loaded(entry.account)
        if state is not None:
            hot.state.undo_entry(state, entry)


def _tell(hot: Hot, entries: list[LedgerEntry]) -> None:
    for entry in entries:
        state = hot.state.loaded(entry.account)
        if state is not None:
            hot.state.apply_entry(state, entry)


def state_of(hot: Hot, account_id: str) -> AccountState:
    """The live state of an account that was found."""
    state = hot.directory.account_state(account_id)
    assert state is not None, "the account was found"
    return state


def _wrong_amount(text: str) -> ApiProblem:
    return ApiProblem("invalid_parameter", f"amount: {text}", parameter="amount")


def _parse_cursor(text: str) -> tuple[int, str]:
    time_us, _, entry_id = text.partition(".")
    if not (time_us.isascii() and time_us.isdigit()) or len(time_us) > 18 or not entry_id:
        raise expected("cursor", "the `next` of an earlier page", text)
    return int(time_us), entry_id
