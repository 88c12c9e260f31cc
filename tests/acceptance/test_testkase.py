"""TestKase: one balance of AI credits, bundles, quality levels, and who may change what."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.shop import Answer, Customer, Shop
from tests.support.products import SEEN, ThreadedApp

acceptance = pytest.mark.acceptance

BUNDLES = {"starter": 1000, "professional": 5500, "enterprise": 28000, "ultimate": 58000}


def ask(who: Customer, tokens: int, path: str = "/ai/agent", **more: Any) -> Answer:
    """An AI call that takes so many tokens; the standard model costs a credit for 1,000."""
    prompt = " ".join(["w"] * tokens)
    return who.post(path, {"model": "standard", "max_tokens": tokens, "prompt": prompt, **more})


def buy(who: Customer, bundle: str) -> int:
    fields = {"account": who.account, "bundle": bundle}
    return who.shop.admin.ask("POST", "/bundles", fields).status


@acceptance("TESTKASE-01")
def test_a_new_organization_has_100_credits(testkase: Shop) -> None:
    shown = testkase.customer().usage("credits")
    assert (float(shown["limit"]), float(shown["remaining"])) == (100, 100)


@acceptance("TESTKASE-02")
def test_all_users_take_from_one_balance(testkase: Shop) -> None:
    ada = testkase.customer(user="ada")
    bob = ada.colleague("bob")
    assert ask(ada, 3000).status == 200
    assert ask(bob, 2000, "/ai/test-cases").status == 200
    assert ask(ada.browser("cyd"), 5000, "/ai/reports").status == 200
    assert float(ada.remaining("credits")) == 90
    shown = {(e["user"], e["operation"], float(e["charges"]["credits"])) for e in ada.events()}
    assert shown == {
        ("ada", "AI Agent", 3),
        ("bob", "Test Case Generation", 2),
        ("cyd", "AI reports", 5),
    }


@acceptance("TESTKASE-02")
def test_the_last_credit_is_for_whoever_comes_first(testkase: Shop) -> None:
    ada = testkase.customer()
    bob = ada.colleague("bob")
    assert ask(ada, 99_000).status == 200
    assert ask(bob, 1_001).status == 402
    assert ask(bob, 1_000).status == 200
    assert ask(ada, 1).status == 402


@acceptance("TESTKASE-03")
def test_the_allowance_begins_anew_on_the_first_and_nothing_rolls_over(testkase: Shop) -> None:
    who = testkase.customer()
    ask(who, 10_000)
    shown = who.usage("credits")["period"]
    assert shown == {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"}
    testkase.clock.go_to("2026-04-01T00:00:00Z", less_us=1)
    assert float(who.remaining("credits")) == 90
    testkase.clock.go_to("2026-04-01T00:00:00Z")
    assert float(who.remaining("credits")) == 100
    march = who.history("credits")[1]
    assert (float(march["granted"]), float(march["consumed"]), float(march["expired"])) == (
        100, 10, 90,
    )  # fmt: skip


@acceptance("TESTKASE-04")
def test_bundles_stay_and_are_used_after_the_allowance(testkase: Shop) -> None:
    who = testkase.customer(plan="premium")
    assert buy(who, "starter") == 201
    assert float(who.remaining("credits")) == 1100
    ask(who, 40_000)
    testkase.clock.go_to("2026-04-01T00:00:00Z")
    assert float(who.remaining("credits")) == 1100  # 60 of the allowance expired, no bundle credit
    ask(who, 150_000)
    assert float(who.remaining("credits")) == 950
    testkase.clock.go_to("2027-02-01T00:00:00Z")
    assert float(who.remaining("credits")) == 1050  # what is left of the bundle, and a month's


@acceptance("TESTKASE-05")
def test_four_bundles_are_offered_with_price_rate_and_savings(testkase: Shop) -> None:
    who = testkase.customer(plan="premium")
    offered = {b["name"]: b for b in testkase.admin.get(f"/usage/{who.account}")["bundles"]}
    shown = {
        name: (
            float(b["amount"]),
            float(b["price"]),
            float(b["per_dollar"]),
            b["savings"],
        )
        for name, b in offered.items()
    }
    assert shown == {
        "starter": (1000, 10, 100, None),
        "professional": (5500, 50, 110, "10%"),
        "enterprise": (28000, 250, 112, "12%"),
        "ultimate": (58000, 500, 116, "15%"),
    }
    assert offered["professional"]["badge"] == "Popular"


@acceptance("TESTKASE-05")
@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_counts_at_once(testkase: Shop, bundle: str) -> None:
    who = testkase.customer(plan="enterprise")
    assert ask(who, 100_001).status == 402
    assert buy(who, bundle) == 201
    assert float(who.remaining("credits")) == 100 + BUNDLES[bundle]
    assert ask(who, 100_001).status == 200


@acceptance("TESTKASE-05")
def test_the_free_plan_has_to_upgrade_first(testkase: Shop) -> None:
    who = testkase.customer()
    assert buy(who, "starter") == 403
    assert float(who.remaining("credits")) == 100
    who.change(plan="premium")
    assert buy(who, "starter") == 201
    assert float(who.remaining("credits")) == 1100


@acceptance("TESTKASE-05")
def test_a_purchase_that_is_sent_twice_adds_once(testkase: Shop) -> None:
    who = testkase.customer(plan="premium")
    fields = {"account": who.account, "bundle": "starter"}
    for status in (201, 200):
        reply = testkase.admin.ask(
            "POST", "/bundles", fields, headers={"Idempotency-Key": f"order-{who.account}"}
        )
        assert reply.status == status
    assert float(who.remaining("credits")) == 1100


@acceptance("TESTKASE-06")
def test_beyond_bundles_a_credit_costs_40_cents_where_overage_is_on(testkase: Shop) -> None:
    who = testkase.customer(plan="premium")
    buy(who, "starter")
    assert ask(who, 220_000, model="large").status == 200  # five credits for 1,000
    assert ask(who, 1).status == 402
    who.change(overage=True)
    assert ask(who, 25_000).status == 200
    assert ask(who, 10).status == 200
    shown = who.usage("credits")
    assert float(shown["overage"]) == 25.01
    (line,) = [row for row in who.invoice("2026-03")["lines"] if row["kind"] == "overage"]
    assert (float(line["units"]), float(line["exact"])) == (25.01, 10.004)
    assert float(line["amount"]) == 10.00


@acceptance("TESTKASE-06")
def test_the_free_plan_has_no_overage(testkase: Shop) -> None:
    who = testkase.customer()
    assert who.ask_change(overage=True).status == 400
    ask(who, 100_000)
    assert ask(who, 1).status == 402


@acceptance("TESTKASE-07")
def test_the_switch_refuses_ai_and_only_the_owner_may_flip_it(
    testkase: Shop, model: ThreadedApp
) -> None:
    who = testkase.customer()
    for user, role in (("olga", "owner"), ("adam", "admin"), ("mia", "member")):
        who.member(user, role)
    for user in ("adam", "mia", "nobody"):
        assert who.ask_change(settings={"ai": "off"}, as_=user).status == 403
        assert ask(who, 1).status == 200
    assert who.ask_change(settings={"ai": "off"}, as_="olga").status == 200
    used, reached = who.used("credits"), len(model.app[SEEN])
    for path in ("/ai/agent", "/ai/test-cases", "/ai/reports"):
        for caller in (who, who.browser()):
            refused = ask(caller, 1, path)
            assert (refused.status, refused.code) == (403, "feature_disabled"), path
    assert who.used("credits") == used
    assert len(model.app[SEEN]) == reached
    assert who.ask_change(settings={"ai": "on"}, as_="adam").status == 403
    assert ask(who, 1).status == 403
    assert who.ask_change(settings={"ai": "on"}, as_="olga").status == 200
    assert ask(who, 1).status == 200


@acceptance("TESTKASE-08")
def test_quality_is_chosen_per_feature_for_all_users_and_reaches_the_backend(
    testkase: Shop, model: ThreadedApp
) -> None:
    ada = testkase.customer()
    bob = ada.colleague("bob")
    costs = {"cheap": 1, "medium": 2, "best": 4}
    assert ask(bob, 2000).status == 200
    assert model.app[SEEN][-1]["x-ai-quality"] == "medium"  # the default
    for quality, credits in costs.items():
        ada.change(settings={"agent-quality": quality})
        for who in (ada, bob):
            before = float(ada.used("credits"))
            assert ask(who, 2000).status == 200
            assert model.app[SEEN][-1]["x-ai-quality"] == quality
            assert float(ada.used("credits")) - before == credits
        assert ask(bob, 2000, "/ai/test-cases").status == 200
        assert model.app[SEEN][-1]["x-ai-quality"] == "medium"  # the other feature's own
    assert ada.ask_change(settings={"agent-quality": "premium"}).status == 400


@acceptance("TESTKASE-08")
def test_a_client_cannot_choose_the_quality_by_itself(testkase: Shop, model: ThreadedApp) -> None:
    who = testkase.customer(settings={"agent-quality": "cheap"})
    who.post("/ai/agent", {"model": "standard", "prompt": "a"}, X_AI_Quality="best")
    assert model.app[SEEN][-1]["x-ai-quality"] == "cheap"


@acceptance("TESTKASE-09")
def test_the_figures_of_every_members_page(testkase: Shop) -> None:
    who = testkase.customer(user="ada", timezone="Asia/Kolkata")
    testkase.clock.go_to("2026-03-10T20:00:00Z")
    ask(who, 2500)
    ask(who.colleague("bob"), 500, "/ai/test-cases")
    account = testkase.admin.get(f"/accounts/{who.account}")
    assert account["settings"] == {
        "ai": "on",
        "agent-quality": "medium",
        "generation-quality": "medium",
    }
    assert account["timezone"] == "Asia/Kolkata"
    shown = who.usage("credits")
    assert (float(shown["used"]), float(shown["remaining"])) == (3, 97)
    first = who.get("/v1/usage/activity?limit=1").json()
    second = who.get(f"/v1/usage/activity?limit=1&cursor={first['next']}").json()
    rows = [
        (e["time"], e["user"], e["operation"], float(e["charges"]["credits"]))
        for e in (*first["items"], *second["items"])
    ]
    assert rows == [
        ("2026-03-10T20:00:00Z", "bob", "Test Case Generation", 0.5),
        ("2026-03-10T20:00:00Z", "ada", "AI Agent", 2.5),
    ]
    assert second["next"] is None


@acceptance("TESTKASE-10")
def test_monthly_history_shows_granted_consumed_expired_and_utilization(testkase: Shop) -> None:
    who = testkase.customer(plan="premium")
    ask(who, 25_000)
    testkase.clock.go_to("2026-04-05T00:00:00Z")
    buy(who, "starter")
    ask(who, 110_000, model="large")  # five credits for 1,000
    testkase.clock.go_to("2026-05-01T00:00:00Z")
    ask(who, 10_000)
    may, april, march = who.history("credits")[:3]

    def row(month: dict[str, Any]) -> tuple[str, float, float, float, float]:
        names = ("granted", "consumed", "expired", "utilization")
        return (month["period"]["start"][:7], *(float(month[name]) for name in names))  # type: ignore[return-value]

    assert row(march) == ("2026-03", 100, 25, 75, 25)
    assert row(april) == ("2026-04", 1100, 550, 0, 50)
    assert row(may)[:4] == ("2026-05", 100, 10, 0)


@acceptance("TESTKASE-11")
@pytest.mark.parametrize(("name", "credits"), [("small", 2), ("standard", 10), ("large", 50)])
def test_each_model_has_its_rate(testkase: Shop, name: str, credits: float) -> None:
    who = testkase.customer()
    assert ask(who, 10_000, model=name).status == 200
    assert float(who.used("credits")) == credits
    assert ask(who, 10, model=name, stream=True).status == 200
    assert float(who.used("credits")) == pytest.approx(credits + max(0.01, credits / 1000))


@acceptance("TESTKASE-11")
def test_a_model_without_a_rate_is_refused_and_costs_nothing(testkase: Shop) -> None:
    who = testkase.customer()
    refused = ask(who, 10, model="unheard-of")
    assert (refused.status, refused.code) == (400, "unpriceable")
    assert float(who.used("credits")) == 0


@acceptance("TESTKASE-12")
def test_members_read_and_a_refused_edit_changes_nothing(testkase: Shop) -> None:
    who = testkase.customer(plan="premium")
    for user, role in (("olga", "owner"), ("adam", "admin"), ("mia", "member")):
        who.member(user, role)
    before = testkase.admin.get(f"/accounts/{who.account}")
    logged = len(testkase.admin.get("/audit-log", limit="1000")["items"])
    for user in ("mia", "nobody"):
        for change in (
            {"settings": {"ai": "off"}},
            {"settings": {"agent-quality": "best"}},
            {"settings": {"agent-quality": "best", "ai": "off"}},
            {"plan": "enterprise"},
            {"overage": True},
        ):
            assert who.ask_change(**change, as_=user).status == 403, (user, change)
    assert testkase.admin.get(f"/accounts/{who.account}") == before
    assert len(testkase.admin.get("/audit-log", limit="1000")["items"]) == logged
    assert who.browser("mia").get("/v1/usage").status == 200  # everybody may look
    assert who.ask_change(settings={"agent-quality": "best"}, as_="olga").status == 200
