"""Testomat.io: quotas pooled over seats, overage by the unit, and what is billable."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.shop import Customer, Shop
from tests.acceptance.testomat_calls import V2_TESTS, complete, upload, write

acceptance = pytest.mark.acceptance

PER_SEAT = {"reports": 5000, "requests": 10_000, "tokens": 100_000}
FREE = {"reports": 500, "requests": 300, "tokens": 10_000}


def quotas(who: Customer) -> dict[str, Any]:
    return {meter: who.usage(meter)["limit"] for meter in PER_SEAT}


def overage_lines(who: Customer, month: str) -> dict[str, tuple[int, float]]:
    """Units and dollars over each quota on the month's invoice."""
    lines = [line for line in who.invoice(month)["lines"] if line["kind"] == "overage"]
    return {line["meter"]: (int(line["units"]), float(line["exact"])) for line in lines}


@acceptance("TESTOMAT-01")
def test_three_metrics_have_their_own_quotas_pooled_over_the_company(testomat: Shop) -> None:
    ada = testomat.customer(plan="professional", user="ada", project="shop")
    bob = ada.colleague("bob", "site")
    assert quotas(ada) == PER_SEAT
    assert upload(ada, 3000) == upload(bob, 2000) == 201
    assert upload(bob, 1) == upload(ada, 1) == 402  # one pool, and it is empty
    assert write(ada) == write(bob) == 201  # the others have their own
    assert (ada.used("reports"), ada.used("requests"), ada.used("tokens")) == (5000, 2, 0)


@acceptance("TESTOMAT-02")
def test_the_quota_follows_the_seats_at_once(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", seats=10)
    assert quotas(who) == {meter: 10 * amount for meter, amount in PER_SEAT.items()}
    assert upload(who, 20_000) == 201
    who.change(seats=4)
    assert (who.usage("reports")["limit"], who.remaining("reports")) == (20_000, 0)
    assert upload(who, 1) == 402
    who.change(seats=5)
    assert who.remaining("reports") == 5000
    assert upload(who, 5000) == 201
    assert upload(who, 1) == 402


@acceptance("TESTOMAT-03")
@pytest.mark.parametrize("plan", ["professional", "professional-yearly"])
def test_the_period_is_the_calendar_month(testomat: Shop, plan: str) -> None:
    who = testomat.customer(plan=plan, cycle_start="2026-02-17T12:00:00Z")
    assert upload(who, 5000) == 201
    months = [f"{2026 + n // 12}-{n % 12 + 1:02}-01T00:00:00Z" for n in range(2, 15)]
    for start, end in pairwise(months):
        assert who.usage("reports")["period"] == {"start": start, "end": end}
        testomat.clock.go_to(end, less_us=1)
        assert upload(who, 1) == 402
        testomat.clock.go_to(end)
        assert upload(who, 5000) == 201  # a fresh quota on the first of each month


@acceptance("TESTOMAT-04")
def test_a_trial_is_shown_and_never_enforced(testomat: Shop) -> None:
    who = testomat.customer(plan="trial")
    assert upload(who, 7000) == upload(who, 1) == 201
    shown = who.usage("reports")
    assert (shown["used"], shown["limit"], shown["remaining"]) == (7001, 5000, 0)
    invoice = who.invoice("2026-03")
    assert (invoice["lines"], float(invoice["total"])) == ([], 0)


@acceptance("TESTOMAT-05")
def test_the_free_plan_is_a_hard_cap_until_the_month_ends(testomat: Shop) -> None:
    who = testomat.customer()
    assert quotas(who) == FREE
    who.change(seats=5)
    assert quotas(who) == FREE  # fixed
    assert upload(who, 500) == 201
    assert upload(who, 1) == 402
    refused = who.ask_change(overage=True)
    assert refused.status == 400
    assert upload(who, 1) == 402
    assert float(who.invoice("2026-03")["total"]) == 0
    testomat.clock.go_to("2026-04-01T00:00:00Z", less_us=1)
    assert upload(who, 1) == 402
    testomat.clock.go_to("2026-04-01T00:00:00Z")
    assert upload(who, 1) == 201


@acceptance("TESTOMAT-05")
def test_an_upgrade_lifts_the_free_plans_cap_at_once(testomat: Shop) -> None:
    who = testomat.customer()
    assert upload(who, 500) == 201
    assert upload(who, 1) == 402
    who.change(plan="professional")
    assert (who.usage("reports")["limit"], who.used("reports")) == (5000, 500)
    assert upload(who, 4500) == 201
    assert upload(who, 1) == 402


@acceptance("TESTOMAT-06")
def test_with_overage_off_a_quota_is_a_wall_of_402(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional")
    for meter, ask in (
        ("reports", lambda: upload(who, 1)),
        ("requests", lambda: write(who)),
        ("tokens", lambda: complete(who, 1)),
    ):
        who.spend(meter, who.remaining(meter) - 1)
        assert ask() == 200, meter
        assert ask() == 402, meter
    assert who.get(V2_TESTS).status == 200  # what is not billable goes on
    who.change(overage=True)
    assert [upload(who, 1), write(who), complete(who, 1)] == [200] * 3
    who.change(overage=False)
    assert [upload(who, 1), write(who), complete(who, 1)] == [402] * 3
    testomat_ai.clock.go_to("2026-04-01T00:00:00Z")
    assert [upload(who, 1), write(who), complete(who, 1)] == [200] * 3


@acceptance("TESTOMAT-07")
def test_each_unit_past_the_quota_is_billed_exactly(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional", overage=True, seats=2)
    assert upload(who, 10_000) == 200
    assert complete(who, 200_000) == 200
    who.spend("requests", 19_999)
    assert write(who) == 200
    assert overage_lines(who, "2026-03") == {}
    assert upload(who, 1) == complete(who, 1) == write(who) == 200
    assert overage_lines(who, "2026-03") == {
        "reports": (1, 0.0001),
        "requests": (1, 0.00001),
        "tokens": (1, 0.000005),
    }
    assert upload(who, 99) == complete(who, 9_999) == 200
    assert [write(who) for _ in range(999)] == [200] * 999
    assert overage_lines(who, "2026-03") == {
        "reports": (100, 0.01),
        "requests": (1000, 0.01),
        "tokens": (10_000, 0.05),
    }
    assert float(who.invoice("2026-03")["total"]) == 60.07  # two seats and 1 + 1 + 5 cents


@acceptance("TESTOMAT-07")
def test_a_charge_that_crosses_the_quota_is_billed_for_its_part_beyond(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", overage=True)
    assert upload(who, 4_999) == upload(who, 101) == 201
    assert overage_lines(who, "2026-03") == {"reports": (100, 0.01)}


@acceptance("TESTOMAT-08")
def test_one_switch_for_all_metrics_and_only_for_those_who_may(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional")
    for user, role in (("mona", "manager"), ("bill", "billing"), ("quin", "qa")):
        who.member(user, role)
    for meter in PER_SEAT:
        who.spend(meter, who.remaining(meter))
    everything = [lambda: upload(who, 1), lambda: write(who), lambda: complete(who, 1)]
    for user in ("quin", "stranger"):
        assert who.ask_change(overage=True, as_=user).status == 403
        assert [ask() for ask in everything] == [402] * 3
    testomat_ai.clock.go_to("2026-03-09T10:11:12Z")
    assert who.ask_change(overage=True, as_="bill", as_address="203.0.113.9").status == 200
    assert [ask() for ask in everything] == [200] * 3
    consent = testomat_ai.admin.get("/audit-log")["items"][0]
    assert (consent["action"], consent["subject"]) == ("account.overage_on", who.account)
    shown = {**consent, **(consent.get("detail") or {})}
    assert (shown["member"], shown["member_address"]) == ("bill", "203.0.113.9")
    assert shown["time"] == "2026-03-09T10:11:12Z"
    assert (shown["before"]["overage"], shown["after"]["overage"]) == (None, True)
    assert who.ask_change(overage=False, as_="mona").status == 200
    assert [ask() for ask in everything] == [402] * 3


@acceptance("TESTOMAT-09")
def test_the_spending_cap_blocks_every_metric_for_the_rest_of_the_month(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional", overage=True, cap="0.05")
    assert upload(who, 5000) == 200
    assert upload(who, 499) == 200
    assert upload(who, 2) == 402  # would pass the cap
    assert upload(who, 1) == 200  # reaches it
    refused = who.post(V2_TESTS, {})
    assert (refused.status, refused.code) == (402, "spending_cap_reached")
    assert complete(who, 1) == upload(who, 1) == 402  # far below their quotas
    assert who.get(V2_TESTS).status == 200
    assert float(who.invoice("2026-03")["total"]) == 30.05
    testomat_ai.clock.go_to("2026-04-01T00:00:00Z", less_us=1)
    assert write(who) == 402
    testomat_ai.clock.go_to("2026-04-01T00:00:00Z")
    assert write(who) == upload(who, 5000) == upload(who, 400) == 200


@acceptance("TESTOMAT-09")
def test_a_higher_cap_or_none_lets_traffic_on_again(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", overage=True, cap="0.01")
    assert upload(who, 5100) == 201
    assert upload(who, 1) == 402
    who.change(cap="0.02")
    assert upload(who, 100) == 201
    assert upload(who, 1) == write(who) == 402
    who.change(cap=None)
    assert upload(who, 10_000) == write(who) == 201


@acceptance("TESTOMAT-15")
def test_the_live_figures_of_each_metric(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", overage=True)
    testomat.clock.go_to("2026-03-11T08:00:00Z")
    assert upload(who, 4000) == 201  # a third of the month has passed
    shown = who.usage("reports")
    assert (shown["used"], shown["limit"], shown["remaining"]) == (4000, 5000, 1000)
    elapsed = (10 + 8 / 24) / 31
    assert abs(shown["projected"] - 4000 / elapsed) <= 1
    assert abs(shown["projected_overage"] - (4000 / elapsed - 5000)) <= 1
    cost = (4000 / elapsed - 5000) / 100 * 0.01
    assert float(shown["projected_overage_cost"]) == pytest.approx(cost, abs=0.0002)
    assert who.usage("requests")["projected_overage"] == 0


@acceptance("TESTOMAT-16")
def test_the_quota_endpoint(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", seats=2, overage=True, cap="12.50")
    upload(who, 3)
    write(who)
    answer = who.get("/api/shop/quota")
    assert answer.status == 200
    assert answer.json() == {
        "test_reports": {"quota": 10_000, "used": 3, "remaining": 9_997},
        "api_requests": {"quota": 20_000, "used": 1, "remaining": 19_999},
        "ai_tokens": {"quota": 200_000, "used": 0, "remaining": 200_000},
        "overage": True,
        "spending_cap": 12.5,
    }
    who.change(overage=False, cap=None)
    after = who.get("/api/another-project/quota").json()
    assert (after["overage"], after["spending_cap"]) == (False, None)
    assert after["api_requests"]["used"] == 1
    assert len(who.events()) == 2  # reading the quota is no event


@acceptance("TESTOMAT-17")
def test_usage_by_project_and_by_user(testomat_ai: Shop) -> None:
    ada = testomat_ai.customer(plan="professional", user="ada")
    bob = ada.colleague("bob")
    for who, project, times in ((ada, "shop", 3), (bob, "shop", 2), (bob, "site", 4)):
        for _ in range(times):
            assert who.post(f"/api/v2/{project}/tests", {}).status == 200
    assert bob.post("/api/site/ai/chat", {"prompt": "a b c"}).status == 200
    assert ada.breakdown("project", "requests") == {"shop": 5, "site": 4}
    assert ada.breakdown("user", "requests") == {"ada": 3, "bob": 6}
    assert ada.breakdown("user", "tokens") == {"bob": 3}
    assert ada.breakdown("project", "tokens") == {"site": 3}


@acceptance("TESTOMAT-18")
def test_the_thresholds_that_notices_are_sent_at(testomat: Shop) -> None:
    """What a sender of notices asks for: each metric's share, blocks, cost and the receivers."""
    who = testomat.customer(plan="professional")
    for user, role in (("mona", "manager"), ("bill", "billing"), ("quin", "qa")):
        who.member(user, role)

    def share() -> float:
        shown = who.usage("reports")
        return float(shown["used"] / shown["limit"])

    upload(who, 3999)
    assert share() < 0.8
    upload(who, 1)
    assert share() == 0.8
    upload(who, 1000)
    assert share() == 1
    assert who.usage("reports")["when_exhausted"] == "block"
    who.change(overage=True, cap="0.01")
    upload(who, 1)
    assert who.usage("reports")["overage"] == 1
    upload(who, 99)
    assert testomat.admin.get(f"/usage/{who.account}")["spending_cap_reached"] is True
    members = testomat.admin.get(f"/accounts/{who.account}/members")["items"]
    told = {m["user"] for m in members if m["role"] in ("manager", "billing")}
    assert told == {"mona", "bill"}


@acceptance("TESTOMAT-19")
def test_the_daily_report_of_overage_never_bills_twice(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", overage=True)
    for day, results in ((3, 5000), (4, 150), (6, 50), (7, 1)):
        testomat.clock.go_to(f"2026-03-{day:02}T23:59:59.999999Z")
        assert upload(who, results) == 201
    testomat.clock.go_to("2026-03-08T00:00:00Z", less_us=1)
    before = _daily(who)
    assert [(r["day"], r["units"], float(r["amount"])) for r in before.values()] == [
        ("2026-03-04", 150, 0.015),
        ("2026-03-06", 50, 0.005),
    ]
    testomat.clock.go_to("2026-03-08T00:00:00Z")
    after = _daily(who)
    assert list(after.values())[-1]["units"] == 1
    assert {key: row for key, row in after.items() if key in before} == before
    testomat.restart()
    testomat.clock.go_to("2026-05-20T12:00:00Z")
    assert _daily(who) == after  # told again, the same reports under the same ids
    units, dollars = overage_lines(who, "2026-03")["reports"]
    assert sum(row["units"] for row in after.values()) == units == 201
    assert sum(float(row["amount"]) for row in after.values()) == pytest.approx(dollars)


@acceptance("TESTOMAT-20")
def test_enterprise_blocks_and_never_bills_overage(testomat: Shop) -> None:
    who = testomat.customer(plan="enterprise", allowances={"reports": 60})
    assert quotas(who) == {"reports": 60, "requests": 1_000_000, "tokens": 10_000_000}
    assert upload(who, 60) == 201
    assert upload(who, 1) == 402
    assert who.ask_change(overage=True).status == 400
    assert upload(who, 1) == 402
    assert overage_lines(who, "2026-03") == {}
    assert _daily(who) == {}


@acceptance("TESTOMAT-20")
def test_self_hosted_is_neither_enforced_nor_reported(testomat: Shop) -> None:
    who = testomat.customer(plan="self-hosted", overage=True, cap="0.01")
    assert upload(who, 9000) == upload(who, 9000) == write(who) == 201
    assert who.used("reports") == 18_000
    testomat.clock.go_to("2026-04-02T00:00:00Z")
    invoice = who.invoice("2026-03")
    assert (invoice["lines"], float(invoice["total"])) == ([], 0)
    assert _daily(who) == {}


@acceptance("TESTOMAT-21")
def test_a_plan_change_keeps_what_remains_until_the_next_period(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", seats=2)
    assert upload(who, 4000) == 201
    who.change(plan="business")
    assert (who.usage("reports")["limit"], who.remaining("reports")) == (10_000, 6_000)
    assert upload(who, 6000) == 201
    assert upload(who, 1) == 402
    testomat.clock.go_to("2026-04-01T00:00:00Z")
    assert (who.usage("reports")["limit"], who.remaining("reports")) == (40_000, 40_000)
    assert upload(who, 30_000) == 201
    testomat.clock.go_on(hours=1)
    who.change(plan="professional")  # and down again: what remains is kept
    assert who.remaining("reports") == 10_000
    testomat.clock.go_to("2026-05-01T00:00:00Z")
    assert who.remaining("reports") == 10_000
    assert who.usage("reports")["limit"] == 10_000


@acceptance("TESTOMAT-21", "TESTOMAT-02")
def test_seats_count_at_once_while_a_plan_change_waits(testomat: Shop) -> None:
    who = testomat.customer(plan="professional", seats=2)
    who.change(plan="business")
    who.change(seats=3)
    assert who.usage("reports")["limit"] == 15_000
    testomat.clock.go_to("2026-04-01T00:00:00Z")
    assert who.usage("reports")["limit"] == 60_000


def _daily(who: Customer) -> dict[str, dict[str, Any]]:
    """What has to be reported of March, by id."""
    found = who.shop.admin.get(f"/usage/{who.account}/overage", month="2026-03")["items"]
    return {row["id"]: row for row in found}
