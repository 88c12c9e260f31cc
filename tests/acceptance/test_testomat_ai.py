"""Testomat.io's AI tokens: estimated before, reconciled with what the provider counted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.shop import Answer, Customer, Shop
from tests.support.raw import connected
from tests.support.until import until

acceptance = pytest.mark.acceptance

PATH = "/api/shop/ai/generate"


def ask(who: Customer, prompt: str, **more: Any) -> Answer:
    return who.post(PATH, {"prompt": prompt, **more})


def words(count: int, first: str = "w") -> str:
    return " ".join([first] + ["w"] * (count - 1))


def in_flight(who: Customer) -> int:
    return int(who.shop.admin.get(f"/usage/{who.account}")["meters"]["tokens"]["in_flight"])


@contextmanager
def running(who: Customer, **body: Any) -> Iterator[list[int]]:
    """A slow streamed call on a connection of its own; its status at the end."""
    data = json.dumps({"stream": True, **body}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    ended: list[int] = []

    def run() -> None:
        with connected(who.shop.port) as connection:
            connection.send(head.encode() + data)
            ended.append(connection.answer("POST").status)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        thread.join(10)


@acceptance("TESTOMAT-13")
@pytest.mark.parametrize("stream", [False, True])
def test_the_charge_is_what_the_provider_counted(testomat_ai: Shop, stream: bool) -> None:
    who = testomat_ai.customer(plan="professional")
    assert ask(who, words(137), max_tokens=5000, stream=stream).status == 200
    assert who.used("tokens") == 137
    assert ask(who, words(900), max_tokens=10, stream=stream).status == 200
    assert who.used("tokens") == 1037  # the estimate was too small: still the exact count


@acceptance("TESTOMAT-13")
def test_the_estimate_is_held_while_the_call_runs(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional")
    with running(who, prompt=words(20, "late"), max_tokens=700):
        until(lambda: in_flight(who), lambda held: held == 700, what="the estimate")
    assert who.used("tokens") == 20
    with running(who, prompt=words(20, "late")):  # no max_tokens: the route's recent mean
        until(lambda: in_flight(who), lambda held: 0 < held <= 2000, what="the estimate")
    assert who.used("tokens") == 40


@acceptance("TESTOMAT-13")
def test_parallel_calls_cannot_all_take_the_last_tokens(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional")
    who.spend("tokens", 99_000)
    with running(who, prompt=words(20, "late"), max_tokens=600) as ended:
        until(lambda: in_flight(who), lambda held: held == 600, what="the estimate")
        assert ask(who, words(10), max_tokens=600).status == 402
        assert ask(who, words(10), max_tokens=400).status == 200
    assert ended == [200]
    assert who.used("tokens") == 30
    assert ask(who, words(10), max_tokens=600).status == 200  # what was held came back


@acceptance("TESTOMAT-13")
def test_a_client_that_goes_away_pays_for_what_it_started(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional")
    data = json.dumps({"stream": True, "prompt": words(333, "late"), "max_tokens": 5}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {who.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    with connected(testomat_ai.port) as connection:
        connection.send(head.encode() + data)
        connection.receive(lambda received: b"delta" in received)
        connection.abort()
    until(lambda: who.used("tokens"), lambda used: used == 333, what="the provider's count")


@acceptance("TESTOMAT-13")
def test_a_call_that_breaks_off_costs_what_was_reported(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional")
    for kind, cost in (("cut", 0), ("torn", 50)):
        before = who.used("tokens")
        try:
            ask(who, words(50, kind), max_tokens=400, stream=True)
        except Exception as exc:
            assert "IncompleteRead" in type(exc).__name__ or isinstance(exc, OSError), exc
        assert who.used("tokens") - before == cost, kind
    assert ask(who, words(50, "broken"), max_tokens=400).status == 500
    assert who.used("tokens") == 50


@acceptance("TESTOMAT-13")
def test_an_answer_without_a_count_costs_the_estimate(testomat_ai: Shop) -> None:
    who = testomat_ai.customer(plan="professional")
    assert ask(who, words(50, "silent"), max_tokens=400).status == 200
    assert who.used("tokens") == 400


@acceptance("TESTOMAT-14")
@pytest.mark.parametrize("stream", [False, True])
def test_a_company_with_its_own_provider_is_not_metered(testomat_ai: Shop, stream: bool) -> None:
    who = testomat_ai.customer(plan="professional", settings={"llm": "own"})
    assert ask(who, words(400_000), max_tokens=400_000, stream=stream).status == 200
    assert who.used("tokens") == 0
    who.change(settings={"llm": "testomat"})
    assert ask(who, words(10), stream=stream).status == 200
    assert who.used("tokens") == 10
