"""Every operator's operation: method, path, function, and what it does in one line.

The admin API mounts this table and the command line calls it, so neither can do
what the other cannot. Paths are below PREFIX; {names} are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.api import accounts, keys, reports, topups
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
    Endpoint("GET", "/topups", topups.show_topups, "List an account's top-ups"),
    Endpoint("POST", "/topups", topups.create_topup, "Add units to the current period"),
    Endpoint("GET", "/usage/{account}", reports.show_usage, "Show an account's usage"),
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
