"""Who may do what: operators by their token's role, members by their role in an account.

The tables of the admin API's rights, in one place. An operation names the areas
of which one is needed; a change of an account is judged field by field. Members
never come in themselves: an operator's program makes a change in a member's
name, and then the member's role decides too. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from gateway.api.problem import ApiProblem
from gateway.core.book import Book, OperatorRole

Area = Literal["read", "accounts", "money", "settings", "members", "keys"]

ROLES: dict[OperatorRole, frozenset[Area]] = {
    "admin": frozenset(("read", "accounts", "money", "settings", "members", "keys")),
    "billing": frozenset(("read", "money")),
    "support": frozenset(("read", "settings", "members", "keys")),
    "reader": frozenset(("read",)),
}

# What an operator must have to change a field of an account.
ACCOUNT_FIELDS: dict[str, Area] = {
    "plan": "money",
    "title": "accounts",
    "disabled": "accounts",
    "cycle_start": "accounts",
    "seats": "money",
    "overage": "money",
    "cap": "money",
    "timezone": "accounts",
    "settings": "settings",
    "allowances": "money",
    "limits": "money",
}

# Member roles that may change what costs the account money, where the configuration has
# such a role. Settings name their own editors; everything else is the operators'.
ACCOUNT_EDITORS = frozenset(("owner", "admin", "manager", "billing"))
EDITED_BY_MEMBERS = frozenset(("overage", "cap", "allowances", "limits"))


def roles_of(areas: Iterable[Area]) -> list[OperatorRole]:
    """The operator roles that have one of these areas."""
    wanted = frozenset(areas)
    return [role for role, has in ROLES.items() if has & wanted]


def require(role: OperatorRole, areas: Iterable[Area], what: str) -> None:
    """Raises ApiProblem unless the operator's role has one of the areas."""
    may = roles_of(areas)
    if role not in may:
        raise ApiProblem("forbidden", f"{what}: expected role {' or '.join(may)}, found {role}")


def require_fields(role: OperatorRole, fields: Iterable[str]) -> None:
    """Raises ApiProblem unless the operator's role may change all of these account fields."""
    for name in fields:
        require(role, (ACCOUNT_FIELDS[name],), f"change {name}")


def account_editors(book: Book) -> frozenset[str]:
    """Of the configuration's roles, those whose members may change overage and cap."""
    return ACCOUNT_EDITORS & frozenset(book.roles)


def check_member(
    members: Mapping[str, str], member: str, names: Iterable[str], book: Book, account_id: str
) -> None:
    """Whether a member may change what is named so. Raises ApiProblem.

    `members` are roles by user; `names` are fields of an account, and "settings.NAME".
    Who names something is judged, even if it stays as it is.
    """
    role = members.get(member)
    if role is None:
        raise ApiProblem("forbidden", f"{member!r} is no member of account {account_id!r}")
    for name in names:
        editors = _editors(name, book)
        if editors is None:
            raise ApiProblem("forbidden", f"members may not change {name}: ask the operator")
        if role not in editors:
            who = ", ".join(sorted(editors)) or "operators only"
            text = f"a member with role {role!r} may not change {name} (may: {who})"
            raise ApiProblem("forbidden", text)


def _editors(name: str, book: Book) -> frozenset[str] | None:
    """The member roles that may change something; None where it is no member's business."""
    if name in EDITED_BY_MEMBERS:
        return account_editors(book)
    setting = book.settings.get(name.removeprefix("settings."))
    return None if setting is None or not name.startswith("settings.") else setting.editors
