"""Every operator's operation: method, path, function, and what it does in one line.

The admin API mounts this table and the command line calls it, so neither can do
what the other cannot. Paths are below PREFIX; {names} are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.api import accounts, keys, ledger, reports
from gateway.api.operations import Call, Operations, Reply

PREFIX = "/admin/v1"


class Endpoint(NamedTuple):
    """One operation. `may_wait`: an empty answer may be held back until there is more."""

    method: str
    path: str
    run: Callable[[Operations, Call], Reply]
    title: str
    may_wait: bool = False


ENDPOINTS = (
    Endpoint("GET", "/accounts", accounts.list_accounts, "List accounts"),
    Endpoint("POST", "/accounts", accounts.create_account, "Create an account"),
    Endpoint("GET", "/accounts/{account}", accounts.show_account, "Show an account"),
    Endpoint("PATCH", "/accounts/{account}", accounts.change_account, "Change an account"),
    Endpoint("GET", "/keys", keys.list_keys, "List keys"),
    Endpoint("POST", "/keys", keys.create_key, "Create a key"),
    Endpoint("GET", "/keys/{key}", keys.show_key, "Show a key"),
    Endpoint("DELETE", "/keys/{key}", keys.revoke, "Revoke a key"),
    Endpoint("POST", "/keys/{key}/rotate", keys.rotate, "Replace a key"),
    Endpoint("GET", "/accounts/{account}/members", accounts.show_members, "List members"),
    Endpoint(
        "PUT", "/accounts/{account}/members/{user}", accounts.set_member, "Set a member's role"
    ),
    Endpoint(
        "DELETE", "/accounts/{account}/members/{user}", accounts.delete_member, "Remove a member"
    ),
    Endpoint("GET", "/ledger", ledger.list_ledger, "List an account's ledger, newest first"),
    Endpoint("POST", "/topups", ledger.create_topup, "Add units to the current period"),
    Endpoint("POST", "/grants", ledger.create_grant, "Give promotional or recurring units"),
    Endpoint("POST", "/bundles", ledger.buy_bundle, "Add a bundle that the plan offers"),
    Endpoint("POST", "/adjustments", ledger.create_adjustment, "Correct what an account has"),
    Endpoint("POST", "/refunds", ledger.create_refund, "Give back what an event was charged"),
    Endpoint("GET", "/usage/{account}", reports.show_usage, "Show an account's usage"),
    Endpoint("GET", "/usage/{account}/history", reports.show_history, "Show periods of a meter"),
    Endpoint("GET", "/usage/{account}/breakdown", reports.show_breakdown, "Show who used what"),
    Endpoint("GET", "/usage/{account}/overage", reports.show_overage, "Show overage by day"),
    Endpoint("GET", "/invoices/{account}", reports.show_invoice, "Preview a month's invoice"),
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
