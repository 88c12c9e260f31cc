"""Every operator's operation: method, path, function, who may, and what it does in one line.

The admin API mounts this table and the command line calls it, so neither can do
what the other cannot. Paths are below PREFIX; {names} are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from gateway.api import accounts, grants, keys, ledger, members, reports
from gateway.api.operations import Call, Operations, Reply
from gateway.api.roles import Area, require, roles_of
from gateway.core.book import OperatorRole

PREFIX = "/admin/v1"

READ: tuple[Area, ...] = ("read",)
MONEY: tuple[Area, ...] = ("money",)
KEYS: tuple[Area, ...] = ("keys",)
MEMBERS: tuple[Area, ...] = ("members",)
# A new account, and a change: gateway/api/accounts.py judges each field that is given.
NEW: tuple[Area, ...] = ("accounts",)
FIELDS: tuple[Area, ...] = ("accounts", "money", "settings")


class Endpoint(NamedTuple):
    """One operation, for operators who have one of `areas`.

    `may_wait`: an empty answer may be held back until there is more.
    """

    method: str
    path: str
    run: Callable[[Operations, Call], Reply]
    title: str
    areas: tuple[Area, ...] = READ
    may_wait: bool = False

    @property
    def roles(self) -> list[OperatorRole]:
        """The operator roles that may."""
        return roles_of(self.areas)


ENDPOINTS = (
    Endpoint("GET", "/accounts", accounts.list_accounts, "List accounts"),
    Endpoint("POST", "/accounts", accounts.create_account, "Create an account", NEW),
    Endpoint("GET", "/accounts/{account}", accounts.show_account, "Show an account"),
    Endpoint("PATCH", "/accounts/{account}", accounts.change_account, "Change an account", FIELDS),
    Endpoint("GET", "/accounts/{account}/members", members.show_members, "List members"),
    Endpoint(
        "PUT", "/accounts/{account}/members/{user}", members.set_member, "Set a role", MEMBERS
    ),
    Endpoint(
        "DELETE", "/accounts/{account}/members/{user}", members.delete_member, "Remove one", MEMBERS
    ),
    Endpoint("GET", "/accounts/{account}/bundles", grants.show_bundles, "List the plan's bundles"),
    Endpoint("GET", "/keys", keys.list_keys, "List keys"),
    Endpoint("POST", "/keys", keys.create_key, "Create a key", KEYS),
    Endpoint("GET", "/keys/{key}", keys.show_key, "Show a key"),
    Endpoint("DELETE", "/keys/{key}", keys.revoke, "Revoke a key", KEYS),
    Endpoint("POST", "/keys/{key}/rotate", keys.rotate, "Replace a key", KEYS),
    Endpoint("GET", "/ledger", ledger.list_ledger, "List an account's ledger, newest first"),
    Endpoint("POST", "/topups", grants.create_topup, "Add units to the current period", MONEY),
    Endpoint("POST", "/grants", grants.create_grant, "Give units of their own", MONEY),
    Endpoint("POST", "/bundles", grants.buy_bundle, "Add a bundle that the plan offers", MONEY),
    Endpoint("POST", "/adjustments", grants.create_adjustment, "Correct what is left", MONEY),
    Endpoint("POST", "/refunds", grants.create_refund, "Give an event's charges back", MONEY),
    Endpoint("GET", "/usage/{account}", reports.show_usage, "Show an account's usage"),
    Endpoint("GET", "/usage/{account}/history", reports.show_history, "Show periods of a meter"),
    Endpoint("GET", "/usage/{account}/breakdown", reports.show_breakdown, "Show who used what"),
    Endpoint("GET", "/usage/{account}/overage", reports.show_overage, "Show overage by day"),
    Endpoint("GET", "/invoices/{account}", reports.show_invoice, "Preview a month's invoice"),
    Endpoint("GET", "/holds", reports.list_holds, "List what is reserved and not yet settled"),
    Endpoint("GET", "/events", reports.list_events, "List events", may_wait=True),
    Endpoint("GET", "/audit", reports.run_audit, "Prove sums and balances from the events"),
    Endpoint("GET", "/audit-log", reports.list_audit_log, "List changes, newest first"),
)


def perform(endpoint: Endpoint, ops: Operations, call: Call) -> Reply:
    """Run an operation, if the operator's role may. Raises ApiProblem."""
    require(call.operator.role, endpoint.areas, f"{endpoint.method} {endpoint.path}")
    return endpoint.run(ops, call)


def find_endpoint(method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
    """The operation of a path below PREFIX, and its parameters, decoded.

    Raises LookupError when there is none.
    """
    segments = path.split("/")
    for endpoint in ENDPOINTS:
        wanted = endpoint.path.split("/")
        if endpoint.method != method or len(wanted) != len(segments):
            continue
        pairs = list(zip(wanted, segments, strict=True))
        if all(name == text or (name.startswith("{") and text) for name, text in pairs):
            return endpoint, {n[1:-1]: unquote(text) for n, text in pairs if n.startswith("{")}
    raise LookupError(f"{method} {path}")
