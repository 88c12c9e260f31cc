"""Prices in words, with the example that the price itself has worked out."""

from __future__ import annotations

import pytest

from gateway.config.words import price_text
from tests.config.pricing import priced, route
from tests.config.writing import Folder

TIERS = "[{up_to: 1000, amount: 1, per: 1000}, {amount: 0.5, per: 1000}]"


@pytest.mark.parametrize(
    ("price", "text"),
    [
        ("free", "free"),
        ("{coins: 1.5, uc: 1}", "1.50 coins + 1.000000000 uc"),
        ("{coins: {of: 'request.items:a'}}",
         "1 coins per request.items:a (e.g. 2 -> 2.00 coins)"),
        ("{coins: {amount: 0.25, of: request.json:n}}",
         "0.25 coins per request.json:n (e.g. 2 -> 0.50 coins)"),
        ("{steps: {per: 10, of: [request.json:n, request.header:X-N]}}",
         "1 steps per 10 request.json:n or request.header:x-n (e.g. 25 -> 3 steps)"),
        ("{coins: {per: 10, of: request.json:n, round: carry, counter: steps}}",
         "1 coins per 10 request.json:n, carried over in steps (e.g. 25 -> 2.50 coins)"),
        ("{coins: {per: 3, of: request.json:n}}",
         "1 coins per 3 request.json:n (e.g. 7 -> 2.34 coins)"),
        ("{uc: [0.005, {per: 1GB, of: request.bytes}]}",
         "0.005000000 uc + 1 uc per 1GB request.bytes (e.g. 2.5GB -> 2.500000000 uc)"),
        ("{uc: {amount: 0.5, per: 1h, of: open.seconds, reserve: 10s}}",
         "0.5 uc per 1h open.seconds, reserves 10s (e.g. 2.5h -> 1.250000000 uc)"),
        ("{uc: {of: answer.bytes, reserve: {of: request.header:Range, otherwise: 1MB}, per: 1MB}}",
         "1 uc per 1MB answer.bytes, reserves request.header:range, else 1MB "
         "(e.g. 2.5MB -> 2.500000000 uc)"),
        (f"{{uc: {{of: answer.json:n, counter: gb, tiers: {TIERS}, reserve: average}}}}",
         "uc by tiers: up to 1000: 1 uc per 1000 answer.json:n; then 0.5 uc per 1000 "
         "answer.json:n; counted in gb, reserves the recent mean (e.g. 1500 -> 1.250000000 uc)"),
        ("{coins: {per: 1000, of: answer.json:n, times: {by: request.json:m, "
         "values: {a: 2, b: 0.5}}}}",
         "1 coins per 1000 answer.json:n, times request.json:m (a 2, b 0.5, else refused), "
         "reserves nothing (e.g. 2500, request.json:m a -> 5.00 coins)"),
        ("{coins: {times: {by: request.json:m, values: {a: 1, b: 2, c: 3, d: 4, e: 5}, "
         "otherwise: 9}}}",
         "1 coins per request, times request.json:m (a 1, b 2, c 3, d 4, …, else 9) "
         "(e.g. 1, request.json:m a -> 1.00 coins)"),
        ("{coins: {of: request.json:n, when: {account.setting:ai: \"on\", caller.kind: "
         "{not: [browser, anonymous]}, request.header:X-T: present}}}",
         "1 coins per request.json:n, when account.setting:ai is on and caller.kind is not "
         "anonymous or browser and request.header:x-t is there (e.g. 2 -> 2.00 coins)"),
    ],
)  # fmt: skip
def test_words(folder: Folder, price: str, text: str) -> None:
    book = folder.load(route(price)).book
    assert price_text(book.routes[0].prices["api_key"], book.meters) == text


def test_when_it_is_charged(folder: Folder) -> None:
    more = "charge_when: {answer.status: 2xx}\noutcomes: {polling: {answer.json:s: [a, b]}}"
    price = priced(folder, "{coins: 1}", more)
    meters = folder.load(route("free")).book.meters
    assert price_text(price, meters) == (
        "1.00 coins, charged when answer.status is 2xx, "
        "polling and not charged when answer.json:s is a or b"
    )


@pytest.mark.parametrize("amount", ["0", "0.000000001", "1e-30", "123456.789"])
@pytest.mark.parametrize("per", ["1", "7", "1000000000000"])
@pytest.mark.parametrize(
    "rule",
    ["of: request.json:n", "of: answer.bytes, reserve: 1", "of: open.seconds",
     "of: request.json:n, round: carry, counter: steps"],
)  # fmt: skip
def test_every_price_has_words(folder: Folder, amount: str, per: str, rule: str) -> None:
    text = route(f"{{coins: {{amount: {amount}, per: {per}, {rule}}}}}")
    book = folder.load(text).book
    assert " coins)" in price_text(book.routes[0].prices["api_key"], book.meters)
