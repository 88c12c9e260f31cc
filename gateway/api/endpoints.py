"""Every operator's operation: method, path, function, and what it does in one line.

The admin API mounts this table and the command line calls it, so neither can do
what the other cannot. Paths are below PREFIX; {names} are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.api import accounts, keys, ledger, members, reports
from gateway.api.operations import Call, Operations, Reply
from gateway.core.book import OperatorRole

PREFIX = "/admin/v1"


READ: tuple[OperatorRole, ...] = ("admin", "billing", "support", "reader")
MONEY: tuple[OperatorRole, ...] = ("admin", "billing")  # plans, seats, units, caps
CARE: tuple[OperatorRole, ...] = ("admin", "support")  # keys, members
CHANGE: tuple[OperatorRole, ...] = (
    "admin",
    "billing",
    "support",
)  # an account: which fields, api/accounts.py says


class Endpoint(NamedTuple):
    """One operation. `may_wait`: an empty answer may be held back until there is more."""

    method: str
    path: str
    run: Callable[[Operations, Call], Reply]
    title: str
    roles: tuple[OperatorRole, ...] = READ
    may_wait: bool = False


ENDPOINTS = (
    Endpoint("GET", "/accounts", accounts.list_accounts, "List accounts"),
    Endpoint("POST", "/accounts", accounts.create_account, "Create an account", CHANGE),
    Endpoint("GET", "/accounts/{account}", accounts.show_account, "Show an account"),
    Endpoint("PATCH", "/accounts/{account}", accounts.change_account, "Change an account", CHANGE),
    Endpoint("GET", "/accounts/{account}/members", members.show_members, "List members"),
    Endpoint("PUT", "/accounts/{account}/members/{user}", members.set_member, "Set a role", CARE),
    Endpoint(
        "DELETE", "/accounts/{account}/members/{user}", members.delete_member, "Remove one", CARE
    ),
    Endpoint("GET", "/accounts/{account}/bundles", ledger.show_bundles, "List the plan's bundles"),
    Endpoint("GET", "/keys", keys.list_keys, "List keys"),
    Endpoint("POST", "/keys", keys.create_key, "Create a key", CARE),
    Endpoint("GET", "/keys/{key}", keys.show_key, "Show a key"),
    Endpoint("DELETE", "/keys/{key}", keys.revoke, "Revoke a key", CARE),
    Endpoint("POST", "/keys/{key}/rotate", keys.rotate, "Replace a key", CARE),
    Endpoint("GET", "/ledger", ledger.list_ledger, "List an account's ledger, newest first"),
    Endpoint("POST", "/topups", ledger.create_topup, "Add units to the current period", MONEY),
    Endpoint("POST", "/grants", ledger.create_grant, "Give units of their own", MONEY),
    Endpoint("POST", "/bundles", ledger.buy_bundle, "Add a bundle that the plan offers", MONEY),
    Endpoint("POST", "/adjustments", ledger.create_adjustment, "Correct what is left", MONEY),
    Endpoint("POST", "/refunds", ledger.create_refund, "Give an event's charges back", MONEY),
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


def find_endpoint(method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
    """The operation of a path below PREFIX, and its parameters, decoded already.

    Raises LookupError when there is none.
    """
    segments = path.split("/")
    for endpoint in ENDPOINTS:
        wanted = endpoint.path.split("/")
        if endpoint.method != method or len(wanted) != len(segments):
            continue
        pairs = list(zip(wanted, segments, strict=True))
        if all(name == text or (name.startswith("{") and text) for name, text in pairs):
            return endpoint, {n[1:-1]: text for n, text in pairs if n.startswith("{")}
    raise LookupError(f"{method} {path}")
