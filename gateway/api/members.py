"""Members of accounts: users with a role, which says what they may change.

Members that are declared in the configuration are listed but changed only
there, and count before stored ones. Must not know HTTP.
"""

from __future__ import annotations

from gateway.api.fields import Fields, parse_any_text, parse_value
from gateway.api.operations import PAGE_FIELDS, Call, Change, Operations, Paging, Reply
from gateway.api.problem import ApiProblem, unknown_name
from gateway.config.fields import parse_identity
from gateway.core.book import Account, Book
from gateway.store.database import Database
from gateway.store.ledger import list_members, put_member, remove_member


def members_of(connection: Database, book: Book, account_id: str) -> dict[str, str]:
    """Roles by user, declared and stored."""
    return {**list_members(connection, account_id), **book.members.get(account_id, {})}


def show_members(ops: Operations, call: Call) -> Reply:
    """The account's members and their roles, by user."""
    paging = Paging.of(Fields(call.query, PAGE_FIELDS, "parameter"))
    account = ops.account(call.params["account"])
    book = ops.book
    found = ops.place.read(lambda c: members_of(c, book, account.id))
    rows = [entry for entry in sorted(found.items()) if entry[0] > paging.after]
    return paging.page(
        rows[: paging.limit + 1], lambda row: {"user": row[0], "role": row[1]}, key="user"
    )


def set_member(ops: Operations, call: Call) -> Reply:
    """Give a user a role in the account. Body: role."""
    fields = Fields(call.body, ("role",), "field")
    account, user = _account_and_user(ops, call)
    book = ops.book
    role = fields.need("role", parse_any_text)
    if role not in book.roles:
        raise unknown_name("role", "a role", role, book.roles)
    _refuse_declared(book, account, user)

    def put(connection: Database) -> tuple[None, Change | None]:
        before = put_member(connection, account.id, user, role)
        if before == role:
            return None, None
        return None, Change("member.set", f"{account.id}/{user}", before, role)

    ops.change(call, put)
    return Reply(200, {"user": user, "role": role})


def delete_member(ops: Operations, call: Call) -> Reply:
    """Take a user out of the account; the answer is the role that they had."""
    Fields(call.query, (), "parameter")
    account, user = _account_and_user(ops, call)
    _refuse_declared(ops.book, account, user)

    def remove(connection: Database) -> tuple[str, Change]:
        role = list_members(connection, account.id).get(user)
        if role is None or not remove_member(connection, account.id, user):
            raise ApiProblem("not_found", f"{user!r} is no member of account {account.id!r}")
        return role, Change("member.remove", f"{account.id}/{user}", role, None)

    return Reply(200, {"user": user, "role": ops.change(call, remove)})


def _account_and_user(ops: Operations, call: Call) -> tuple[Account, str]:
    account = ops.account(call.params["account"])
    return account, parse_value("user", call.params["user"], parse_identity)


def _refuse_declared(book: Book, account: Account, user: str) -> None:
    if user in book.members.get(account.id, {}):
        text = f"member {user!r} is declared in the configuration: change it there and reload"
        raise ApiProblem("declared", text)
