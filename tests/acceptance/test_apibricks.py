"""API Bricks: usage credits, exact to the byte and the second, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from gateway.core.ledger import Balance
from gateway.core.periods import EVER_US, Span
from tests.acceptance.shop import Customer, Shop
from tests.support.until import until

acceptance = pytest.mark.acceptance

A_DAY = Decimal("42.5")  # UC of 195,000 rates in a day: the most that one answer here has


def uc(who: Customer, figure: str = "used") -> Decimal:
    return Decimal(str(who.usage("uc")[figure]))


def rates(who: Customer, count: int) -> None:
    assert who.get(f"/exchange-rates/{count}").status == 200


def consume(who: Customer, amount: str) -> None:
    """Use so many UC, a day for each 42.5 of them, by the tiers of the rates."""
    left = Decimal(amount)
    while left:
        part = min(left, A_DAY)
        if part <= 1:
            count = part * 1000
        elif part <= Decimal("5.5"):
            count = 1000 + (part - 1) * 2000
        else:
            count = 10_000 + (part - Decimal("5.5")) * 5000
        rates(who, int(count))
        left -= part
        who.shop.clock.go_on(days=1)
    assert uc(who) == Decimal(amount)


@acceptance("APIBRICKS-01")
def test_a_thousand_requests_are_ten_uc_exactly(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-64")
    for number in range(1, 1001):
        assert who.get("/market-data/rest/quotes").status == 200
        if number in (1, 3, 7, 333):
            assert uc(who) == Decimal(number) / 100
    assert uc(who) == 10


@acceptance("APIBRICKS-01")
def test_every_byte_counts_and_nothing_drifts(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-64")
    sizes = [1, 2, 3, 999_999_7, *range(1000, 1300, 7)]
    for size in sizes:
        assert len(who.get(f"/filings/{size}").body) == size
    assert uc(who) == Decimal(sum(sizes)) / 10**9
    apibricks.restart()
    assert uc(who) == Decimal(sum(sizes)) / 10**9
    assert apibricks.admin.get("/audit")["clean"] is True


@acceptance("APIBRICKS-01")
def test_millions_of_events_sum_exactly(apibricks: Shop) -> None:
    """The shipped prices without the network: requests, and seconds that do not divide."""
    book = apibricks.clocked.gateway.book
    prices = {route.name: route.prices["api_key"] for route in book.routes}
    ((_, a_call),) = prices["market-data"].charges
    (by_the_hour,) = [rule for rule in prices["market-data-stream"].rules if rule.counter]
    balance = Balance("uc", Span(0, EVER_US), 0, overage=True)
    counted = charged = 0
    for number in range(1_000_000):
        balance.post(0, a_call)
        before = by_the_hour.cost_of(counted)
        counted += number % 1_000_003
        charged += by_the_hour.cost_of(counted) - before
    assert balance.used == 10_000 * book.meters["uc"].unit
    assert charged == counted * 5 * 10**8 // (
        3600 * 10**6
    )  # half a UC for an hour, in microseconds


@acceptance("APIBRICKS-02")
def test_each_product_has_its_own_price_list(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-64")
    spent = Decimal(0)
    for method, path, cost in (
        ("GET", "/market-data/rest/trades", "0.01"),
        ("GET", "/indexes/cmc20", "0.01"),
        ("GET", "/exchange-rates/250", "0.25"),
        ("GET", "/filings/2000000", "0.002"),
        ("HEAD", "/flat-files/bucket/1000", "0.0004"),
        ("GET", "/flat-files/bucket/5000000", "0.0054"),
    ):
        assert who.call(method, path).status == 200, path
        spent += Decimal(cost)
        assert uc(who) == spent, path
    listing = who.get("/flat-files/bucket")
    spent += Decimal("0.005") + Decimal(len(listing.body)) / 10**9
    assert uc(who) == spent


@acceptance("APIBRICKS-03")
def test_pay_as_you_go_is_a_dollar_for_a_credit(apibricks: Shop) -> None:
    who = apibricks.customer()
    consume(who, "100")
    invoice = who.invoice("2026-03")
    assert invoice["plan"] == "pay-as-you-go"
    assert Decimal(invoice["total"]) == 100


@acceptance("APIBRICKS-04")
@pytest.mark.parametrize(
    ("price", "shown", "exact"),
    [
        (64, "75.29", "75.294117647"),
        (256, "341.33", "341.333333333"),
        (512, "731.43", "731.428571428"),
        (1024, "1575.38", "1575.384615384"),
    ],
)
def test_committed_plans_include_price_by_rate(
    apibricks: Shop, price: int, shown: str, exact: str
) -> None:
    who = apibricks.customer(plan=f"committed-{price}")
    assert uc(who, "limit") == Decimal(exact)
    assert round(uc(who, "limit"), 2) == Decimal(shown)
    assert Decimal(who.invoice("2026-03")["total"]) == price


@acceptance("APIBRICKS-05")
def test_300_uc_on_committed_256_leave_41_33(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-256")
    consume(who, "300")
    assert round(uc(who, "remaining"), 2) == Decimal("41.33")
    assert uc(who, "overage") == 0
    invoice = who.invoice("2026-03")
    assert Decimal(invoice["total"]) == 256
    assert [line["kind"] for line in invoice["lines"]] == ["plan"]


@acceptance("APIBRICKS-06", "APIBRICKS-07")
def test_500_uc_on_committed_256_come_to_414_67(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-256")
    consume(who, "500")
    invoice = who.invoice("2026-03")
    shown = invoice["meters"]["uc"]
    assert Decimal(shown["used"]) == 500  # all of it, whatever the plan paid
    assert round(Decimal(shown["included"]), 2) == Decimal("341.33")
    assert round(Decimal(shown["overage"]), 2) == Decimal("158.67")
    amounts = {line["kind"]: Decimal(line["amount"]) for line in invoice["lines"]}
    assert amounts == {"plan": 256, "overage": Decimal("158.67")}
    assert Decimal(invoice["total"]) == Decimal("414.67")
    live = who.usage("uc")
    assert (Decimal(live["used"]), Decimal(live["remaining"])) == (500, 0)
    assert round(Decimal(live["overage_cost"]), 2) == Decimal("158.67")


@acceptance("APIBRICKS-08")
def test_a_request_across_a_tier_boundary_is_split_exactly(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-64")
    rates(who, 999)
    assert uc(who) == Decimal("0.999")
    rates(who, 2)  # one at the first price, one at the second
    assert uc(who) == Decimal("1.0005")
    rates(who, 8_998)
    assert uc(who) == Decimal("5.4995")
    rates(who, 2)
    assert uc(who) == Decimal("5.5002")


@acceptance("APIBRICKS-08")
def test_one_large_request_costs_what_many_small_ones_do(apibricks: Shop) -> None:
    one, many = (apibricks.customer(plan="committed-64") for _ in range(2))
    rates(one, 12_345)
    for _ in range(12):
        rates(many, 1000)
    rates(many, 345)
    assert uc(one) == uc(many) == Decimal("5.5") + Decimal(2345) / 5000


@acceptance("APIBRICKS-08")
def test_the_tiers_begin_anew_with_the_day_and_committed_usage_counts(apibricks: Shop) -> None:
    committed = apibricks.customer(plan="committed-1024")
    payg = apibricks.customer()
    for who in (committed, payg):
        rates(who, 10_000)
        rates(who, 1000)
        assert uc(who) == Decimal("5.7")
    apibricks.clock.go_to("2026-03-03T00:00:00Z", less_us=1)
    rates(committed, 1000)
    assert uc(committed) == Decimal("5.9")
    apibricks.clock.go_to("2026-03-03T00:00:00Z")
    rates(committed, 1000)
    assert uc(committed) == Decimal("6.9")


def _hold_open(shop: Shop, who: Customer, work: Callable[[Any], Any]) -> None:
    """Run `work` with an open WebSocket's `send` function; the socket stays open meanwhile."""

    async def main() -> None:
        url = f"http://127.0.0.1:{shop.port}/market-data/ws"
        headers = {"Authorization": f"Bearer {who.key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, headers=headers) as ws,
        ):
            loop = asyncio.get_running_loop()

            async def echo(data: bytes) -> None:
                await ws.send_bytes(data)
                assert await ws.receive_bytes() == data

            def send(data: bytes) -> None:
                asyncio.run_coroutine_threadsafe(echo(data), loop).result(10)

            await asyncio.to_thread(work, send)
            assert not ws.closed

    asyncio.run(main())


@acceptance("APIBRICKS-09")
def test_an_open_websocket_is_charged_for_its_bytes_and_hours(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-64")

    def work(send: Callable[[bytes], None]) -> None:
        send(b"x" * 500_000)
        # 500,000 each way, and a frame's head: ten bytes from the backend, four more masked
        traffic = Decimal(1_000_024) / 10**9
        until(lambda: uc(who), lambda used: used == traffic, what="the bytes")
        apibricks.clock.go_on(hours=1)
        until(lambda: uc(who), lambda used: used == traffic + Decimal("0.5"), what="an hour")
        apibricks.clock.go_on(hours=1.5)
        until(lambda: uc(who), lambda used: used == traffic + Decimal("1.25"), what="more hours")

    _hold_open(apibricks, who, work)
    events = until(who.events, lambda found: found[0]["outcome"] != "", what="the events")
    assert {e["outcome"] for e in events} <= {"charged", "continued"}
    assert sum(Decimal(str(e["charges"]["uc"])) for e in events) == uc(who)


@acceptance("APIBRICKS-09")
def test_seconds_of_a_connection_are_not_lost_to_rounding(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-64")

    def work(_: Callable[[bytes], None]) -> None:
        total = 0
        for seconds in (1, 7, 11, 17):
            total += seconds
            apibricks.clock.go_on(seconds=seconds)
            wanted = int(Decimal(total) * 10**9 / 7200) / Decimal(10**9)
            until(lambda: uc(who), lambda used, w=wanted: used == w, what=f"{total} seconds")

    _hold_open(apibricks, who, work)


@acceptance("APIBRICKS-10")
def test_all_products_take_from_one_balance(apibricks: Shop) -> None:
    who = apibricks.customer(plan="committed-64")
    start = uc(who, "remaining")
    who.get("/market-data/rest/trades")
    who.get("/indexes/cmc20")
    rates(who, 100)
    who.get("/filings/1000000")
    who.call("HEAD", "/flat-files/bucket/1")
    by_product = {name: Decimal(str(used)) for name, used in who.breakdown("project", "uc").items()}
    assert by_product == {
        "market-data": Decimal("0.01"),
        "indexes": Decimal("0.01"),
        "exchange-rates": Decimal("0.1"),
        "filings": Decimal("0.001"),
        "flat-files": Decimal("0.0004"),
    }
    assert start - uc(who, "remaining") == sum(by_product.values())
