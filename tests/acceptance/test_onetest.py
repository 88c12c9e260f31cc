"""OneTest: coins for API calls, nothing for the browser."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from tests.acceptance.shop import Customer, Shop
from tests.support.until import until

acceptance = pytest.mark.acceptance

JUNIT = b'<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'


def api(who: Customer) -> int:
    return who.get("/api/tests").status


def exhaust(who: Customer) -> None:
    """Use the last coin of the week."""
    who.spend("coins", who.remaining("coins") - 1)
    assert api(who) == 200
    assert who.remaining("coins") == 0


@acceptance("ONETEST-01")
def test_the_browser_passes_is_never_charged_and_outlives_the_budget(onetest: Shop) -> None:
    who = onetest.customer()
    browser = who.browser("bob")
    for method, path in (
        ("GET", "/api/tests"),
        ("POST", "/mcp"),
        ("POST", "/agent"),
        ("POST", "/reportportal/launch"),
        ("POST", "/import/junit"),
    ):
        assert browser.call(method, path).status == 200, path
    assert who.used("coins") == 0
    exhaust(who)
    assert api(who) == 429
    assert browser.get("/api/tests").status == 200
    assert browser.post("/agent", {"steps": 500}).status == 200
    assert who.used("coins") == 1
    by_browser = [e for e in who.events() if e["caller"] == "browser"]
    assert len(by_browser) == 7
    assert all(not any(e["charges"].values()) for e in by_browser)


@acceptance("ONETEST-01")
def test_a_key_beside_the_cookie_pays(onetest: Shop) -> None:
    who = onetest.customer()
    assert who.get("/api/tests", Cookie=who.browser().cookie).status == 200
    assert who.used("coins") == 1


@acceptance("ONETEST-02", "ONETEST-03")
def test_every_operation_type_has_its_price(onetest: Shop) -> None:
    who = onetest.customer()
    calls = (
        ("GET", "/api/tests", None, "REST API call"),
        ("DELETE", "/api/anything/else", None, "REST API call"),
        ("POST", "/mcp", {"method": "tools/call"}, "MCP action"),
        ("POST", "/reportportal/launch/1/item", {"name": "x"}, "Test ingestion"),
        ("POST", "/import/junit", JUNIT, "JUnit import"),
    )
    for spent, (method, path, body, operation) in enumerate(calls, 1):
        assert who.call(method, path, body).status == 200
        assert who.used("coins") == spent
        newest = who.events()[0]
        assert (newest["operation"], newest["charges"]) == (operation, {"coins": 1})
    shown = {o["operation"]: o["amount"] for o in who.usage("coins")["operations"]}
    assert shown == {
        "REST API call": 2,
        "MCP action": 1,
        "Test ingestion": 1,
        "JUnit import": 1,
    }


@acceptance("ONETEST-04")
def test_ten_calls_of_one_step_are_one_coin(onetest: Shop) -> None:
    who = onetest.customer()
    for _ in range(9):
        assert who.post("/agent", {"steps": 1}).status == 200
    assert who.used("coins") == 0
    assert who.post("/agent", {"steps": 1}).status == 200
    assert who.used("coins") == 1
    for _ in range(9):
        who.post("/agent")  # one that does not say how many took one
    assert who.used("coins") == 1
    who.post("/agent")
    assert who.used("coins") == 2


@acceptance("ONETEST-04")
@pytest.mark.parametrize(
    ("steps", "coins"), [((100,), 10), ((25,), 2), ((25, 5), 3), ((3, 7, 9), 1), ((3, 7, 9, 1), 2)]
)
def test_a_call_of_many_steps_is_batched(onetest: Shop, steps: tuple[int, ...], coins: int) -> None:
    who = onetest.customer()
    for number in steps:
        assert who.post("/agent", {"steps": number}).status == 200
    assert who.used("coins") == coins


@acceptance("ONETEST-04")
def test_steps_are_carried_over_a_restart_and_a_week(onetest: Shop) -> None:
    who = onetest.customer()
    who.post("/agent", {"steps": 6})
    onetest.restart()
    onetest.clock.go_on(days=7)
    who.post("/agent", {"steps": 4})
    assert who.used("coins") == 1


@acceptance("ONETEST-05")
def test_the_size_of_the_data_does_not_matter(onetest: Shop) -> None:
    who = onetest.customer()
    small = who.post("/api/tests", {"items": [1]})
    large = who.post("/api/tests", {"items": list(range(100))})
    assert len(large.json()["json"]["items"]) == 100 > len(small.json()["json"]["items"])
    assert [e["charges"] for e in who.events()] == [{"coins": 1}, {"coins": 1}]


@acceptance("ONETEST-06")
def test_a_thousand_coins_and_not_one_more(onetest: Shop) -> None:
    who = onetest.customer()
    assert who.usage("coins")["limit"] == 1000
    assert [api(who) for _ in range(1000)] == [200] * 1000
    refused = who.get("/api/tests")
    assert (refused.status, refused.code) == (429, "budget_exhausted")
    assert (who.used("coins"), who.remaining("coins")) == (1000, 0)


@acceptance("ONETEST-06", "ONETEST-08")
def test_the_week_ends_seven_days_after_the_cycle_began_to_the_microsecond(onetest: Shop) -> None:
    who = onetest.customer(cycle_start="2026-02-25T15:30:00Z")
    exhaust(who)
    shown = who.usage("coins")["period"]
    assert shown == {"start": "2026-02-25T15:30:00Z", "end": "2026-03-04T15:30:00Z"}
    onetest.clock.go_to(shown["end"], less_us=1)
    assert api(who) == 429
    onetest.clock.go_to(shown["end"])
    assert api(who) == 200
    after = who.usage("coins")
    assert (after["used"], after["limit"], after["remaining"]) == (1, 1000, 999)
    assert after["period"] == {"start": shown["end"], "end": "2026-03-11T15:30:00Z"}


@acceptance("ONETEST-06")
def test_weeks_of_downtime_are_caught_up(onetest: Shop) -> None:
    who = onetest.customer(cycle_start="2026-02-25T15:30:00Z")
    exhaust(who)
    onetest.clock.go_to("2026-04-02T00:00:00Z")
    onetest.restart()
    assert api(who) == 200
    assert who.usage("coins")["period"]["start"] == "2026-04-01T15:30:00Z"
    assert who.remaining("coins") == 999


@acceptance("ONETEST-07")
def test_the_activity_log_shows_each_event_as_it_happens(onetest: Shop) -> None:
    who = onetest.customer(user="ada")
    bob = who.colleague("bob")
    who.get("/api/tests")
    onetest.clock.go_on(days=1)
    bob.post("/mcp", {"method": "tools/call"})
    items = who.get("/v1/usage/activity").json()["items"]
    shown = [(e["user"], e["operation"], e["service"], e["charges"], e["time"]) for e in items]
    assert shown == [
        ("bob", "MCP action", "agents", {"coins": 1}, "2026-03-03T09:00:00Z"),
        ("ada", "REST API call", "tests", {"coins": 1}, "2026-03-02T09:00:00Z"),
    ]
    first_day = who.get("/v1/usage/activity?from=2026-03-02&to=2026-03-03").json()["items"]
    assert [e["user"] for e in first_day] == ["ada"]


@acceptance("ONETEST-08")
def test_the_summary_has_the_breakdown_in_coins_and_per_cent(onetest: Shop) -> None:
    who = onetest.customer(allowances={"coins": 20})
    calls = (("/api/tests", 9), ("/mcp", 6), ("/reportportal/launch", 3), ("/import/junit", 2))
    for path, times in calls:
        for _ in range(times):
            assert who.post(path).status == 200
    shown = who.get("/v1/usage").json()["meters"]["coins"]
    assert (shown["used"], shown["remaining"], shown["limit"]) == (20, 0, 20)
    rows = [(o["operation"], o["amount"], o["percent"]) for o in shown["operations"]]
    assert rows == [
        ("REST API call", 9, 45.0),
        ("MCP action", 6, 30.0),
        ("Test ingestion", 3, 15.0),
        ("JUnit import", 2, 10.0),
    ]


@acceptance("ONETEST-09")
def test_the_export_has_the_documented_columns(onetest: Shop) -> None:
    who = onetest.customer(user="ada")
    who.get("/api/tests")
    onetest.clock.go_on(hours=1)
    who.post("/mcp", {"method": "tools/call"})
    answer = who.get("/v1/usage/export?from=2026-03-01&to=2026-04-01")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig"))))
    assert [name.lower() for name in rows[0]] == [
        "timestamp", "user", "event type", "source", "service", "operation", "coin cost",
    ]  # fmt: skip
    shown = [(row[0], row[1], row[4], row[5], row[6]) for row in rows[1:]]
    assert sorted(shown) == [
        ("2026-03-02T09:00:00Z", "ada", "tests", "REST API call", "1"),
        ("2026-03-02T10:00:00Z", "ada", "agents", "MCP action", "1"),
    ]


@acceptance("ONETEST-09")
def test_an_export_of_more_than_three_months_is_refused(onetest: Shop) -> None:
    who = onetest.customer()
    assert who.get("/v1/usage/export?from=2026-01-01&to=2026-04-01").status == 200
    refused = who.get("/v1/usage/export?from=2026-01-01&to=2026-04-10")
    assert refused.status == 400
    assert "month" in refused.body.decode() or "days" in refused.body.decode()


@acceptance("ONETEST-09")
def test_what_a_spreadsheet_would_execute_is_neutralised(onetest: Shop) -> None:
    who = onetest.customer(user="=1+2")
    who.get("/api/tests")
    text = who.get("/v1/usage/export?from=2026-03-01&to=2026-04-01").body.decode("utf-8-sig")
    row = list(csv.reader(io.StringIO(text)))[1]
    assert not row[1].startswith("=")
    assert "=1+2" in row[1]


@acceptance("ONETEST-10", "ONETEST-13")
@pytest.mark.parametrize("budget", [0, 1, 2, 10**12])
def test_the_weekly_budget_is_what_the_product_sets(onetest: Shop, budget: int) -> None:
    who = onetest.customer()
    assert who.usage("coins")["limit"] == 1000
    who.change(allowances={"coins": budget})
    assert who.usage("coins")["limit"] == budget
    assert [api(who) for _ in range(3)] == [200] * min(budget, 3) + [429] * max(0, 3 - budget)
    onetest.clock.go_on(days=7)
    assert who.usage("coins")["limit"] == budget


@acceptance("ONETEST-11", "ONETEST-13")
def test_overage_goes_on_and_switching_takes_effect_at_once(onetest: Shop) -> None:
    who = onetest.customer()
    exhaust(who)
    refused = who.get("/api/tests")
    assert (refused.status, refused.code) == (429, "budget_exhausted")
    who.change(overage=True)
    assert [api(who) for _ in range(3)] == [200, 200, 200]
    shown = who.usage("coins")
    assert (shown["used"], shown["overage"], shown["remaining"]) == (4, 3, 0)
    who.change(overage=False)
    assert api(who) == 429


@acceptance("ONETEST-12", "ONETEST-13")
def test_the_hourly_limit_is_unlimited_until_it_is_set(onetest: Shop) -> None:
    who = onetest.customer()
    assert [api(who) for _ in range(30)] == [200] * 30
    who.change(limits={"hourly": 5})
    onetest.clock.go_to("2026-03-02T10:00:00Z")
    assert [api(who) for _ in range(6)] == [200] * 5 + [429]
    assert who.get("/api/tests").code == "rate_limited"
    onetest.clock.go_to("2026-03-02T11:00:00Z", less_us=1)
    assert api(who) == 429
    onetest.clock.go_to("2026-03-02T11:00:00Z")
    assert api(who) == 200
    who.change(limits={"hourly": 0})
    assert [api(who) for _ in range(10)] == [200] * 10


@acceptance("ONETEST-12")
@pytest.mark.parametrize(
    ("quota", "status"),
    [(0, 200), (1, 200), (10_000, 200), (10_001, 400), (-1, 400), (1.5, 400), ("many", 400)],
)
def test_hourly_limits_are_from_1_to_10000(onetest: Shop, quota: object, status: int) -> None:
    who = onetest.customer(limits={"hourly": 7})
    assert who.ask_change(limits={"hourly": quota}).status == status
    kept = onetest.admin.get(f"/accounts/{who.account}")["limits"].get("hourly", 0)
    assert kept == (quota if status == 200 else 7)


@acceptance("ONETEST-14")
def test_a_top_up_counts_at_once_and_ends_with_the_cycle(onetest: Shop) -> None:
    who = onetest.customer()
    exhaust(who)
    assert api(who) == 429
    left = who.usage("coins")["limit"]
    who.top_up("coins", 3)
    assert who.usage("coins")["limit"] == left + 3
    assert [api(who) for _ in range(4)] == [200, 200, 200, 429]
    who.top_up("coins", 50)
    onetest.clock.go_on(days=7)
    shown = who.usage("coins")
    assert (shown["limit"], shown["remaining"], shown["topped_up"]) == (1000, 1000, 0)


@acceptance("ONETEST-15")
def test_history_by_week_goes_back_twelve_weeks(onetest: Shop) -> None:
    who = onetest.customer(cycle_start="2026-03-02T00:00:00Z")
    for week in range(13):
        for _ in range(week % 3 + 1):
            assert api(who) == 200
        who.post("/mcp")
        onetest.clock.go_on(days=7)
    weeks = who.history("coins")
    assert len(weeks) >= 13  # the one that runs now, and at least twelve before it
    assert weeks[0]["period"]["start"] == "2026-06-01T00:00:00Z"
    for number, week in enumerate(weeks[1:13]):
        calls = (12 - number) % 3 + 1
        assert (week["consumed"], week["events"]) == (calls + 1, calls + 1)
        shown = {row["operation"]: row["amount"] for row in week["operations"]}
        assert shown == {"REST API call": calls, "MCP action": 1}


@acceptance("ONETEST-07")
def test_an_event_is_in_the_log_when_its_answer_is(onetest: Shop) -> None:
    who = onetest.customer()

    def newest(count: int) -> Callable[[], bool]:
        return lambda: len(who.get("/v1/usage/activity").json()["items"]) == count

    for number in (1, 2, 3):
        assert api(who) == 200
        until(newest(number), what="the event", deadline_s=2.0)
