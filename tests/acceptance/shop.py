"""A shipped configuration as its customers and its operator see it.

`Shop` is a running gateway with a file of config/examples as it stands: only
addresses, the data directory and secrets come from the environment. `Customer`
is an account with a key; calls are real HTTP on a kept connection.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from gateway.proxy.identify import sign_cookie
from tests.api.admin_client import Admin, Reply
from tests.support.clocked import Clocked
from tests.support.gateway import REPOSITORY
from tests.support.until import until

SECRET = "a secret of the tests, long enough"
EXAMPLES = REPOSITORY / "config" / "examples"
START = "2026-03-02T09:00:00Z"  # a Monday
_NUMBERS = count(1)


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Why the gateway refused; "" when the backend answered."""
        if not self.headers.get("content-type", "").startswith("application/problem+json"):
            return ""
        return str(self.json()["code"])


class Shop:
    """One shipped configuration, running."""

    def __init__(self, name: str, directory: Path, env: Mapping[str, str]) -> None:
        given = {**env, "SESSION_SECRET": SECRET}
        self.name = name
        self.clocked = Clocked(EXAMPLES / f"{name}.yaml", directory, given, START).start()
        self.clock = self.clocked.clock
        self.admin = Admin(self.clocked.data_dir)
        self._connection: http.client.HTTPConnection | None = None

    def stop(self) -> None:
        self._hang_up()
        self.clocked.stop()
        assert not self.clocked.notes.errors, self.clocked.notes.errors[:3]

    def restart(self) -> None:
        """End and start again, on the same data."""
        self._hang_up()
        self.clocked.stop()
        self.clocked.start()
        self.admin = Admin(self.clocked.data_dir)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def port(self) -> int:
        return self.clocked.port

    def customer(self, *, user: str = "ada", project: str = "", **fields: Any) -> Customer:
        """A new account with a key, made by the operator now."""
        name = f"{self.name}-{next(_NUMBERS)}"
        self.admin.make("/accounts", id=name, **fields)
        return Customer(self, name, self.new_key(name, user=user, project=project))

    def new_key(self, account: str, *, user: str = "", project: str = "") -> str:
        named = {k: v for k, v in (("user", user), ("project", project)) if v}
        return str(self.admin.make("/keys", account=account, **named)["key"])

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; a body that is neither bytes nor None is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**({"Content-Type": "application/json"} if data else {}), **(headers or {})}
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            self._connection.request(method, path, data, sent)
            answer = self._connection.getresponse()
            text = answer.read()
        except BaseException:
            self._hang_up()
            raise
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, text)


@dataclass(slots=True)
class Customer:
    """An account; every call is made with `key` unless headers say otherwise."""

    shop: Shop
    account: str
    key: str
    cookie: str = ""
    _more: dict[str, str] = field(default_factory=dict)

    # -- as a caller -------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {"Cookie": self.cookie} if self.cookie else {"Authorization": f"Bearer {self.key}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.shop.call(method, path, body, {**sent, **named})

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, None, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, body, **headers)

    def browser(self, user: str = "ada") -> Customer:
        """The same account's user in the web application."""
        expires_s = self.shop.clock.now_us // 1_000_000 + 366 * 86_400
        cookie = sign_cookie(self.account, user, expires_s, SECRET.encode())
        return Customer(self.shop, self.account, "", f"session={cookie}")

    def colleague(self, user: str, project: str = "") -> Customer:
        """Another user of the account, with a key of their own."""
        key = self.shop.new_key(self.account, user=user, project=project)
        return Customer(self.shop, self.account, key)

    # -- as the operator sees it -------------------------------------------

    def usage(self, meter: str) -> dict[str, Any]:
        """The meter's current period, once nothing is in flight."""
        found = until(
            lambda: self._meters(),
            lambda meters: all(float(m["in_flight"]) == 0 for m in meters.values()),
            what=f"the end of the holds of {self.account}",
            deadline_s=5.0,
        )
        return dict(found[meter])

    def _meters(self) -> dict[str, Any]:
        return dict(self.shop.admin.get(f"/usage/{self.account}")["meters"])

    def used(self, meter: str) -> Any:
        return self.usage(meter)["used"]

    def remaining(self, meter: str) -> Any:
        return self.usage(meter)["remaining"]

    def spend(self, meter: str, amount: int | str) -> None:
        """Take units away without traffic: the operator corrects what is left."""
        self.correct(meter, f"-{amount}")

    def correct(self, meter: str, amount: int | str) -> None:
        self.shop.admin.make(
            "/adjustments", account=self.account, meter=meter, amount=str(amount), reason="test"
        )

    def top_up(self, meter: str, amount: int | str) -> None:
        self.shop.admin.make("/topups", account=self.account, meter=meter, amount=str(amount))

    def ask_change(self, **fields: Any) -> Reply:
        if "as_" in fields:
            fields["as"] = fields.pop("as_")
        return self.shop.admin.ask("PATCH", f"/accounts/{self.account}", fields)

    def change(self, **fields: Any) -> None:
        reply = self.ask_change(**fields)
        assert reply.status == 200, reply

    def member(self, user: str, role: str) -> None:
        reply = self.shop.admin.ask(
            "PUT", f"/accounts/{self.account}/members/{user}", {"role": role}
        )
        assert reply.status == 200, reply

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """The account's events, newest first."""
        items = self.shop.admin.get("/events", account=self.account, limit="1000", **filters)
        return list(items["items"])

    # -- reports -----------------------------------------------------------

    def history(self, meter: str) -> list[dict[str, Any]]:
        """The meter's periods, newest first: granted, consumed, expired, events, operations."""
        return list(self.shop.admin.get(f"/usage/{self.account}/history", meter=meter)["items"])

    def breakdown(self, by: str, meter: str) -> dict[str, Any]:
        """What each operation, project, user or key used of the meter in its current period."""
        found = self.shop.admin.get(f"/usage/{self.account}/breakdown", by=by, meter=meter)
        return {row[by]: row["amount"] for row in found["items"]}

    def invoice(self, month: str) -> dict[str, Any]:
        """The preview of a month's invoice."""
        return dict(self.shop.admin.get(f"/invoices/{self.account}", month=month))
