"""A gateway with everything that the admin API changes, and an operator of each role."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.api.admin_client import Admin
from tests.support.configs import Caller, route
from tests.support.stage import Stage, stage

ROLES = ("admin", "billing", "support", "reader")
METERS = {
    "coins": {"title": "Coins", "decimals": 0},
    "credits": {"title": "Credits", "decimals": 2},
    "calls": {"title": "Calls"},
}
SOLD = {
    "starter": {"title": "Starter", "meter": "coins", "amount": 10, "price": 5},
    "trial": {"meter": "coins", "amount": 3, "price": 0, "valid": "1d"},
}
COINS = {"amount": 5, "per": "month", "settable": True, "overage": {"price": 0.10}}
PLANS: dict[str, Any] = {
    "free": {"billing": "free", "allowances": {"coins": {"amount": 2, "per": "month"}}},
    "paid": {
        "price": 20,
        "allowances": {"coins": COINS, "credits": {"per_seat": 10, "per": "month"}},
        "bundles": SOLD,
        "limits": {"own": {"settable": {"from": 1, "to": 100}, "default": 0, "window": "hour"}},
    },
    "enterprise": {"billing": "enterprise", "allowances": {"coins": {"amount": 9, "per": "month"}}},
}
SETTINGS = {
    "ai": {"values": ["on", "off"], "editors": ["owner"]},
    "quality": {"values": ["low", "high"], "default": "low", "editors": ["owner", "manager"]},
}
_NUMBERS = count(1)


def token(role: str) -> str:
    return f"token-of-{role}-0123456789abcdef"


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Office:
    """The stage, and its admin API in the hands of an operator of any role."""

    def __init__(self, running: Stage) -> None:
        self.stage = running
        self.admin = Admin(running.gateway.data_dir)
        self._by_role = {role: Admin(running.gateway.data_dir, token(role)) for role in ROLES}

    def of(self, role: str) -> Admin:
        return self._by_role[role]

    def account(self, plan: str = "paid", **fields: Any) -> str:
        """A new account's id."""
        name = f"acme-{next(_NUMBERS)}"
        self.admin.make("/accounts", id=name, plan=plan, **fields)
        return name

    def caller(self, plan: str = "paid", **fields: Any) -> Caller:
        return self.admin.new_caller(self.account(plan, **fields), user="ada", project="web")

    def member(self, account: str, user: str, role: str) -> None:
        reply = self.admin.ask("PUT", f"/accounts/{account}/members/{user}", {"role": role})
        assert reply.status == 200, reply

    def call(self, who: Caller, path: str = "/one") -> int:
        return self.stage.gateway.get(path, who).status

    def coins(self, account: str) -> dict[str, Any]:
        """The figures of the meter in its current period."""
        return dict(self.admin.get(f"/usage/{account}")["meters"]["coins"])

    def event(self, account: str) -> dict[str, Any]:
        """The latest event."""
        return dict(self.admin.get("/events", account=account, limit="1")["items"][0])


@contextmanager
def office(directory: Path) -> Iterator[Office]:
    routes = [
        route("GET /one", {"coins": 1}, name="one", operation="One"),
        route("GET /four", {"coins": 4}, name="four", operation="Four"),
        route("GET /free", name="free"),
        route("GET /slow", {"coins": 2}, name="slow", operation="Slow"),
        route("GET /ai", name="ai", requires={"ai": "on"}),
    ]
    tokens = [{"name": f"ops-{role}", "role": role, "hash": digest(token(role))} for role in ROLES]
    with stage(
        directory,
        routes,
        meters=METERS,
        plans=PLANS,
        settings=SETTINGS,
        roles=["owner", "manager", "member"],
        admin={"tokens": tokens},
        default_plan="free",
        extra_accounts={"declared": {"plan": "paid", "members": {"dora": "owner"}}},
    ) as running:
        yield Office(running)
