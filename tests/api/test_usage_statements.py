"""History, summary, breakdown and invoice on the proxy's listener, while weeks pass."""

from __future__ import annotations

import json
import threading
from itertools import pairwise

from tests.api.admin_client import Admin
from tests.api.scene import Scene
from tests.support.scripts import Gate

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
    for after, before in pairwise(everything):
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
    assert (shown["overage"], shown["overdraft"], shown["overage_cost"]) == (
        "0.50",
        "0.00",
        "0.025",
    )
    assert document["overage_cost"] == "0.025"
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


def test_the_bill_of_a_month_stays_when_its_meter_is_taken_away(scene: Scene) -> None:
    who = scene.caller("paid", seats=3)
    scene.admin.make("/bundles", account=who.account, bundle="starter")
    scene.call(who, "/credit", 16)
    march = scene.read(who, "/invoice")
    scene.clock.go_to("2026-04-05T00:00:00Z")
    _take_away(scene, "credits", "/credit")
    left = scene.read(who, "/invoice", month="2026-03")
    # Its title is gone with it; all figures are the same.
    march["meters"]["credits"]["title"] = march["lines"][2]["title"] = "credits"
    assert left == {**march, "is_final": True}
    assert (left["lines"][2]["units"], left["lines"][3]["units"]) == ("13.00", "2.00")


def _take_away(scene: Scene, meter: str, path: str) -> None:
    """Start the gateway anew without a meter, what is priced in it and what plans have of it."""
    scene.clocked.stop()
    built = json.loads(scene.clocked.config.read_text())
    del built["meters"][meter]
    built["routes"] = [one for one in built["routes"] if path not in one["match"]]
    for plan in built["plans"].values():
        plan.get("allowances", {}).pop(meter, None)
        plan.pop("bundles", None)
    scene.clocked.config.write_text(json.dumps(built))
    scene.clocked.start()


def test_the_daily_report_waits_for_what_is_in_flight(scene: Scene) -> None:
    who = scene.caller("paid")
    scene.call(who, "/credit", 5)
    path = f"/usage/{who.account}/overage"
    gate = scene.recorder.scripts["/credit"] = Gate()
    late = threading.Thread(target=scene.call, args=(who, "/credit"))
    late.start()
    assert gate.reached.wait(10)
    assert scene.admin.get(path, month="2026-03")["items"] == []  # the day is not over
    scene.clock.go_to("2026-03-03T00:00:00Z")
    assert scene.admin.get(path, month="2026-03")["items"] == []  # nor are its requests
    gate.open()
    late.join()
    row = {
        "id": f"overage:{who.account}:credits:2026-03-02",
        "day": "2026-03-02",
        "meter": "credits",
        "units": "2.50",
        "amount": "0.125",
    }
    assert scene.admin.get(path, month="2026-03")["items"] == [row]
    scene.clock.go_to("2026-07-07T00:00:00Z")
    assert scene.admin.get(path, month="2026-03")["items"] == [row]
    assert scene.admin.get(path)["items"] == []
