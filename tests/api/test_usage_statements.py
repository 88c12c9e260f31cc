"""History, breakdown, invoice and export on the proxy's listener, while weeks pass."""

from __future__ import annotations

import csv
import http.client
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.api.admin_client import Admin
from tests.support.clocked import Clocked
from tests.support.configs import Caller, config, route, write
from tests.support.raw import RawConnection, connected, exchange, head
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

    def __init__(self, directory: Path) -> None:
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


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    running = Scene(tmp_path)
    try:
        yield running
    except BaseException:
        running.clocked.stop()
        running.recorder.stop()
        raise
    running.stop()


# -- history ------------------------------------------------------------------------


def test_weeks_with_and_without_calls_and_days_of_downtime(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin", 12)
    scene.clock.go_on(days=21)
    scene.call(who, "/coin", 3)
    scene.clocked.stop()
    scene.clock.go_on(days=70)
    scene.clocked.start()
    scene.admin = Admin(scene.clocked.data_dir)
    items = scene.read(who, "/history")["items"]
    assert len(items) == 13  # the present week and twelve before it
    told = [(i["granted"], i["consumed"], i["expired"], i["overage"], i["events"]) for i in items]
    assert told[0] == (10, 0, 0, 0, 0)
    assert told[10] == (10, 3, 7, 0, 3)
    assert told[1:10] == [(10, 0, 10, 0, 0)] * 9
    everything = scene.read(who, "/history", meter="coins", periods="100")["items"]
    assert len(everything) == 14
    first = everything[-1]
    assert (first["consumed"], first["overage"], first["expired"]) == (12, 2, 0)
    assert (first["utilization"], first["is_over"]) == (120.0, True)
    assert first["operations"] == [
        {"operation": "Coin", "events": 12, "amount": 12, "percent": 100.0}
    ]
    for after, before in zip(everything, everything[1:], strict=False):
        assert before["period"]["end"] == after["period"]["start"]


def test_rollover_is_the_same_in_history_and_summary(scene: Scene) -> None:
    who = scene.caller("walled")
    scene.call(who, "/credit", 2)
    scene.clock.go_to("2026-04-10T00:00:00Z")
    assert scene.read(who)["meters"]["credits"]["limit"] == "7.00"
    assert scene.read(who)["meters"]["credits"]["carried_in"] == "2.00"
    april, march = scene.read(who, "/history")["items"]
    assert (march["consumed"], march["carried_out"], march["expired"]) == ("2.50", "2.00", "0.50")
    assert (april["granted"], april["carried_in"], april["allowance"]) == ("5.00", "2.00", "5.00")


def test_a_meter_that_no_plan_limits_has_a_history_too(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/credit", 2)
    (month,) = scene.read(who, "/history", meter="credits")["items"]
    assert (month["consumed"], month["allowance"], month["overage"]) == ("2.50", None, "0.00")


# -- summary --------------------------------------------------------------------------


def test_the_summary_of_a_plan_with_everything(scene: Scene) -> None:
    who = scene.caller("paid", seats=2, cap="40")
    scene.admin.make("/bundles", account=who.account, bundle="starter")
    scene.clock.go_to("2026-03-16T12:00:00Z")  # the middle of March
    scene.call(who, "/credit", 6)
    document = scene.read(who)
    assert (document["billing"], document["seats"], document["overage"]) == ("paid", 2, True)
    assert (document["spending_cap"], document["spending_cap_reached"]) == ("40.00", False)
    shown = document["meters"]["credits"]
    assert (shown["used"], shown["limit"], shown["from_lots"]) == ("7.50", "5.00", "2.00")
    assert (shown["overage"], shown["overdraft"], shown["overage_cost"]) == ("0.50", "0.00", "0.03")
    assert document["overage_cost"] == "0.03"
    assert [(lot["kind"], lot["amount"], lot["left"]) for lot in shown["lots"]] == [
        ("bundle", "2.00", "0.00")
    ]
    assert shown["projected"] == "15.00"
    assert shown["projected_overage"] == "8.00"
    assert shown["projected_overage_cost"] == "0.40"
    assert shown["thresholds"] == ["80%", "100%", "overage_started"]
    (day,) = shown["further_limits"]
    assert (day["per"], day["used"], day["remaining"]) == ("day", "7.50", "92.50")
    assert day["resets_at"] == "2026-03-17T00:00:00Z"


def test_a_trial_is_shown_and_costs_nothing(scene: Scene) -> None:
    who = scene.caller("try")
    scene.call(who, "/credit", 4)
    shown = scene.read(who)["meters"]["credits"]
    assert (shown["used"], shown["overage"], shown["overage_cost"]) == ("5.00", "4.00", None)
    assert shown["thresholds"] == ["80%", "100%"]
    assert scene.read(who, "/invoice")["total"] == "0.00"


def test_a_meter_of_lots_alone_is_shown(scene: Scene) -> None:
    who = scene.caller("weekly")
    assert "credits" not in scene.read(who)["meters"]
    scene.admin.make("/grants", account=who.account, meter="credits", amount="7.5")
    assert scene.read(who)["meters"]["credits"]["lots"][0]["left"] == "7.50"


# -- breakdown, invoice -----------------------------------------------------------------


def test_breakdown_by_everything(scene: Scene) -> None:
    ada = scene.caller("weekly")
    bob = scene.admin.new_caller(ada.account, user="bob", project="site")
    scene.call(ada, "/coin", 3)
    scene.call(bob, "/coin", 1)
    scene.call(bob, "/free", 5)
    for by, names in (
        ("operation", {"Coin": 4}),
        ("user", {"ada": 3, "bob": 1}),
        ("project", {"web": 3, "site": 1}),
    ):
        found = scene.read(ada, "/breakdown", by=by, meter="coins")
        assert {row[by]: row["amount"] for row in found["items"]} == names
        assert (found["by"], found["total"]) == (by, 4)
    rows = scene.read(ada, "/breakdown", by="user", meter="coins")["items"]
    assert [(row["events"], row["percent"]) for row in rows] == [(3, 75.0), (1, 25.0)]
    assert len(scene.read(ada, "/breakdown", by="key", meter="coins")["items"]) == 2
    future = scene.read(
        ada, "/breakdown", meter="coins", **{"from": "2027-01-01", "to": "2027-02-01"}
    )
    assert (future["items"], future["total"]) == ([], 0)


def test_the_invoice_of_a_month_and_of_the_one_before(scene: Scene) -> None:
    who = scene.caller("paid", seats=3)
    scene.admin.make("/bundles", account=who.account, bundle="starter")
    scene.call(who, "/credit", 16)  # 20.00: 5 included, 2 bought, 13 over
    march = scene.read(who, "/invoice")
    assert [(line["kind"], line["amount"]) for line in march["lines"]] == [
        ("plan", "20.00"),
        ("seats", "4.50"),
        ("overage", "0.65"),
        ("bundle", "3.00"),
    ]
    assert (march["total"], march["is_final"]) == ("28.15", False)
    assert march["meters"]["credits"] == {
        "title": "Credits",
        "included": "5.00",
        "used": "20.00",
        "from_lots": "2.00",
        "remaining": "0.00",
        "overage": "13.00",
        "overdraft": "0.00",
        "overage_cost": "0.65",
        "rate": {"price": "0.50", "per": "10.00", "rounding": "unit"},
    }
    scene.clock.go_to("2026-04-05T00:00:00Z")
    assert scene.read(who, "/invoice", month="2026-03") == {**march, "is_final": True}
    april = scene.read(who, "/invoice")
    assert (april["month"], april["total"]) == ("2026-04", "24.50")


def test_the_daily_report_waits_for_what_is_in_flight(scene: Scene) -> None:
    who = scene.caller("paid")
    scene.call(who, "/credit", 6)
    scene.recorder.hold = True  # type: ignore[attr-defined]
    path = f"/usage/{who.account}/overage"
    assert scene.admin.get(path, month="2026-03")["items"] == []  # the day is not over
    scene.clock.go_to("2026-03-03T00:00:00Z")
    (row,) = scene.admin.get(path, month="2026-03")["items"]
    assert row == {
        "id": f"overage:{who.account}:credits:2026-03-02",
        "day": "2026-03-02",
        "meter": "credits",
        "units": "2.50",
        "amount": "0.125",
    }


# -- export -------------------------------------------------------------------------------

RANGE = {"from": "2026-03-01", "to": "2026-04-01"}


def test_export_has_every_event_of_the_range_oldest_first(scene: Scene) -> None:
    who, other = scene.caller("weekly"), scene.caller("weekly")
    for n in range(1, 1203):
        scene.clock.go_on(us=1)
        scene.call(who, "/coin" if n % 2 else "/free")
    scene.call(other, "/coin")
    rows = scene.rows(who, **RANGE)
    assert rows[0] == [
        "timestamp", "user", "event type", "source", "service", "operation", "coin cost",
    ]  # fmt: skip
    assert len(rows) == 1203
    assert [row[0] for row in rows[1:]] == sorted(row[0] for row in rows[1:])
    assert sum(int(row[6]) for row in rows[1:]) == 601
    assert rows[1] == [
        "2026-03-02T09:00:00.000001Z", "ada", "charged", "127.0.0.1", "main", "Coin", "1",
    ]  # fmt: skip
    assert len(scene.rows(who, **RANGE, operation="Free")) == 602
    assert scene.rows(who, **{"from": "2026-03-03", "to": "2026-03-04"}) == rows[:1]
    kyiv = scene.rows(who, **RANGE, timezone="Europe/Kyiv")
    assert kyiv[1][0] == "2026-03-02T11:00:00.000001+02:00"


def test_export_keeps_the_connection_and_head_has_no_body(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin", 2)
    target = f"/own/file.csv?{urlencode(RANGE)}"
    with connected(scene.clocked.port) as connection:
        for method in ("GET", "HEAD", "GET"):
            connection.send(head(method, target, who.bearer))
            answer = connection.answer(method)
            assert answer.status == 200
            assert answer.get("transfer-encoding") == "chunked"
            assert answer.get("content-disposition") == 'attachment; filename="activity.csv"'
            assert answer.get("x-request-id")
            assert answer.body.count(b"\r\n") == (3 if method == "GET" else 0)


def test_export_for_http_1_0_ends_with_the_connection(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin")
    target = f"/own/file.csv?{urlencode(RANGE)}"
    text = f"GET {target} HTTP/1.0\r\nHost: x\r\n{who.bearer}\r\n\r\n".encode()
    answer = exchange(scene.clocked.port, text)
    assert (answer.status, answer.get("transfer-encoding")) == (200, None)
    assert answer.body.count(b"\r\n") == 2


def test_a_client_that_leaves_in_the_middle_harms_nobody(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin", 600)
    target = f"/own/file.csv?{urlencode(RANGE)}"
    for _ in range(10):
        left = RawConnection(scene.clocked.port)
        left.send(head("GET", target, who.bearer))
        left.close()
    assert len(scene.rows(who, **RANGE)) == 601


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "wrong"),
    [
        ("/own/usage/history", {"meter": "gold"}, "meter"),
        ("/own/usage/history", {"periods": "0"}, "periods"),
        ("/own/usage/history", {"periods": "401"}, "periods"),
        ("/own/usage/breakdown", {"by": "colour", "meter": "coins"}, "by"),
        ("/own/usage/breakdown", {}, "meter"),
        (
            "/own/usage/breakdown",
            {"meter": "coins", "from": "2026-03-02", "to": "2026-03-01"},
            "to",
        ),
        ("/own/usage/invoice", {"month": "2026-13"}, "month"),
        ("/own/usage/invoice", {"month": "2026-3"}, "month"),
        ("/own/usage/invoice", {"month": "2026-04"}, "month"),
        ("/own/usage/invoice", {"month": "2026-02"}, "month"),
        ("/own/usage/invoice", {"month": "0001-01"}, "month"),
        ("/own/usage/invoice", {"account": "weekly-1"}, "account"),
        ("/own/file.csv", {}, "from, to"),
        ("/own/file.csv", {"from": "2026-01-01", "to": "2026-04-02"}, "up to 3 months"),
        ("/own/file.csv", {**RANGE, "timezone": "Mars/Olympus"}, "timezone"),
        ("/of/web/quota", {"kind": "x"}, "kind"),
    ],
)
def test_400_says_what_was_expected(
    scene: Scene, path: str, query: dict[str, str], wrong: str
) -> None:
    status, headers, body = scene.ask(scene.caller("weekly"), path, **query)
    assert (status, headers["content-type"]) == (400, "application/problem+json"), body
    assert wrong in json.loads(body)["detail"]


def test_nobody_and_other_methods(scene: Scene) -> None:
    who = scene.caller("weekly")
    names = ("", "/activity", "/history", "/breakdown", "/invoice")
    for path in (*(f"/own/usage{name}" for name in names), "/own/file.csv"):
        assert scene.ask(None, path)[0] == 401, path
        assert scene.ask(who, path, "POST")[0] == 405, path
    assert scene.ask(who, "/v1/usage")[0] == 404
    assert scene.read(who)["meters"]["coins"]["used"] == 0


def test_a_view_has_path_parameters_and_is_never_charged(scene: Scene) -> None:
    who = scene.caller("weekly")
    scene.call(who, "/coin", 2)
    status, headers, body = scene.ask(who, "/of/my%20web/quota")
    assert (status, json.loads(body)["used"]) == (200, 2)
    assert headers["x-slug"] == json.loads(body)["slug"]
    assert "x-request-id" in headers
    assert scene.ask(who, "/of/a%0d%0aSet-Cookie:%20x=1/quota")[1].get("set-cookie") is None
    status, headers, body = scene.ask(who, "/of/web/quota", "HEAD")
    assert (status, body, headers["x-slug"]) == (200, b"", "web")
    assert scene.ask(None, "/of/web/quota")[0] == 401
    assert scene.read(who)["meters"]["coins"]["used"] == 2
