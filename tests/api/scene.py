"""A gateway whose clock a test moves, for what callers read of their own usage."""

from __future__ import annotations

import csv
import http.client
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.api.admin_client import Admin
from tests.support.clocked import Clocked
from tests.support.configs import Caller, config, route, write
from tests.support.recorder import Recorder

START = "2026-03-02T09:00:00Z"  # a Monday
OVERAGE = {"price": 0.5, "per": 10}
PLANS: dict[str, Any] = {
    "weekly": {"allowances": {"coins": {"amount": 10, "per": "week", "when_exhausted": "overage"}}},
    "paid": {
        "title": "Paid",
        "price": 20,
        "seat_price": 1.5,
        "allowances": {
            "credits": [
                {"amount": 5, "per": "month", "when_exhausted": "overage", "overage": OVERAGE},
                {"amount": 100, "per": "day"},
            ]
        },
        "bundles": {"starter": {"meter": "credits", "amount": 2, "price": 3, "title": "Starter"}},
    },
    "walled": {"allowances": {"credits": {"amount": 5, "per": "month", "rollover": 2}}},
    "try": {"billing": "trial", "allowances": {"credits": {"amount": 1, "per": "month"}}},
}


class Scene:
    """A gateway whose clock the test moves; every caller has an account of its own."""

    def __init__(self, directory: Path, **sections: Any) -> None:
        self.recorder = Recorder()
        file = directory / "gateway.yaml"
        built = config(
            self.recorder.port,
            routes=[
                route("GET /coin", {"coins": 1}, name="coin", operation="Coin"),
                route("GET /credit", {"credits": 1.25}, name="credit", operation="Credit"),
                route("GET /free", name="free", operation="Free"),
            ],
            meters={"coins": {"title": "Coins"}, "credits": {"title": "Credits", "decimals": 2}},
            plans=PLANS,
            default_plan="weekly",
            usage_api={"path": "/own/usage", "export_path": "/own/file.csv"},
            views=[
                {
                    "path": "GET /of/{project}/quota",
                    "headers": {"X-Slug": "{project}"},
                    "body": {"slug": "{project}", "used": "{meter.coins.used}"},
                }
            ],
            **sections,
        )
        write(built, file, port=0, admin_port=0, data_dir=directory / "data")
        self.clocked = Clocked(file, directory, {}, START).start()
        self.clock = self.clocked.clock
        self.admin = Admin(self.clocked.data_dir)
        self._made = 0

    def stop(self) -> None:
        self.clocked.stop()
        self.recorder.stop()
        assert not self.clocked.notes.errors, self.clocked.notes.errors[:3]

    def caller(self, plan: str, **fields: Any) -> Caller:
        self._made += 1
        name = f"{plan}-{self._made}"
        self.admin.make("/accounts", id=name, plan=plan, **fields)
        return self.admin.new_caller(name, user="ada", project="web")

    def ask(self, who: Caller | None, path: str, method: str = "GET", **query: str) -> Any:
        """(status, headers by lower name, body)."""
        target = path + (f"?{urlencode(query)}" if query else "")
        connection = http.client.HTTPConnection("127.0.0.1", self.clocked.port, timeout=30)
        headers = {"Authorization": f"Bearer {who.key}"} if who else {}
        try:
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, names, answer.read()
        finally:
            connection.close()

    def call(self, who: Caller, path: str, times: int = 1) -> None:
        for _ in range(times):
            assert self.ask(who, path)[0] == 200

    def read(self, who: Caller, name: str = "", **query: str) -> Any:
        status, _, body = self.ask(who, f"/own/usage{name}", **query)
        assert status == 200, body
        return json.loads(body)

    def rows(self, who: Caller, **query: str) -> list[list[str]]:
        status, headers, body = self.ask(who, "/own/file.csv", **query)
        assert (status, headers["content-type"][:8]) == (200, "text/csv"), body
        return list(csv.reader(io.StringIO(body.decode(), newline="")))
