"""Configurations for the tests, as YAML text that an operator could have written.

JSON is YAML, so a dictionary dumped as JSON is a configuration. Every one has
the free route /mark/{n}, called with a key of its own, that the harness uses to
know that everything before it has reached the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.core.identity import format_key
from tests.support.stores import store_entry

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """An account with one key; nobody else spends its budget."""

    account: str
    key: str

    @property
    def bearer(self) -> str:
        """The header line that says who calls."""
        return f"Authorization: Bearer {self.key}"


def caller(account: str) -> Caller:
    """The account's key, the same in every run."""
    return Caller(account, format_key("test", hashlib.sha256(account.encode()).digest()))


MARKER = caller("harness-marker")


def key_entry(who: Caller, **more: Any) -> Config:
    digest = hashlib.sha256(who.key.encode()).hexdigest()
    return {"id": f"key-{who.account}", "account": who.account, "hash": f"sha256:{digest}", **more}


def pool(prefix: str, count: int) -> list[Caller]:
    """Accounts for tests that each need a budget of their own."""
    return [caller(f"{prefix}-{number:03}") for number in range(count)]


def upstream(port: int, **more: Any) -> Config:
    return {"url": f"http://127.0.0.1:{port}", "connect_timeout": "2s", **more}


def route(match: str, price: Any = None, **more: Any) -> Config:
    """A route to the upstream `main`; free unless a price is given."""
    name = more.pop("name", None) or match.lower().translate(_NAME).strip("-")
    return {"name": name, "match": match, "upstream": "main", "price": price or "free", **more}


_NAME = str.maketrans(dict.fromkeys(" /{}.,*", "-"))


def config(
    main: int | Config,
    *,
    routes: Sequence[Config] = (),
    callers: Mapping[str, Sequence[Caller]] | None = None,
    plans: Config | None = None,
    **more: Any,
) -> Config:
    """A whole configuration in front of one backend.

    `main` is its port or its upstream entry; `callers` are the accounts of each
    plan. Listeners and data_dir are added when the gateway starts.
    """
    main_entry = upstream(main) if isinstance(main, int) else main
    by_plan = {"marker": [MARKER], **(callers or {})}
    built: Config = {
        "upstreams": {"main": main_entry, **more.pop("upstreams", {})},
        "identify": {"sources": ["bearer", {"header": "X-API-Key"}], **more.pop("identify", {})},
        "meters": more.pop("meters", {"coins": {"title": "Coins", "decimals": 0}}),
        "plans": {"marker": {}, **(plans or {})},
        "accounts": {who.account: {"plan": plan} for plan, them in by_plan.items() for who in them},
        "keys": [key_entry(who) for them in by_plan.values() for who in them]
        + more.pop("keys", []),
        "routes": [route("GET /mark/{n}", name="harness-mark"), *routes],
    }
    built["accounts"].update(more.pop("accounts", {}))
    return {**built, **more}


def write(built: Config, path: Path, *, port: int, admin_port: int, data_dir: Path) -> None:
    """The configuration file of one run."""
    listeners = {"proxy": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin_port}"}
    whole = {"listeners": listeners, "data_dir": str(data_dir), **store_entry(data_dir), **built}
    text = json.dumps(whole, indent=1)
    path.write_text(text, "utf-8")
