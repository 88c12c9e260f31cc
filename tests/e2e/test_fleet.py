"""Two gateways that share a store and a state decide as one."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import scripts
from tests.support.configs import Caller, Config, config, pool, route
from tests.support.gateway import Gateway, running
from tests.support.raw import head
from tests.support.recorder import Recorder
from tests.support.stores import postgres_url
from tests.support.until import until
from tests.support.valkey import Valkey

TIGHT, ROOMY, CAREFUL, RATED = pool("acct", 4)
PLANS = {
    "tight": {"allowances": {"coins": {"amount": 7, "per": "month"}}},
    "roomy": {"allowances": {"coins": {"amount": 1_000_000, "per": "month"}}},
    # Two allowances of one meter: more than one number decides.
    "careful": {
        "allowances": {"coins": [{"amount": 1_000, "per": "month"}, {"amount": 7, "per": "day"}]}
    },
    "rated": {"limits": {"hourly": {"rate": "7/hour"}}},
}
LEASE = "5s"
CALLERS = dict(zip(PLANS, ([c] for c in (TIGHT, ROOMY, CAREFUL, RATED)), strict=True))


class Pair:
    """Two gateways with a journal each."""

    def __init__(self, home: Path, valkey: Valkey, recorder: Recorder) -> None:
        self.valkey = valkey
        self.recorder = recorder
        self.url = postgres_url(home)
        self.gateways = []
        for name in ("one", "two"):
            directory = home / name
            directory.mkdir()
            self.gateways.append(Gateway(self._config(recorder, home.name), directory))

    def _config(self, recorder: Recorder, prefix: str) -> Config:
        routes = [route("GET /n/{id}", {"coins": 1}), route("GET /hang/{id}", {"coins": 1})]
        state = {"url": self.valkey.url, "prefix": f"t-{prefix}", "lease": LEASE}
        return config(
            recorder.port,
            routes=routes,
            callers=CALLERS,
            plans=PLANS,
            store={"url": self.url},
            state=state,
        )

    def race(self, who: Caller, calls: int) -> Counter[int]:
        """So many calls at once, every other one at each gateway."""

        gateways = self.gateways
        return self._race(lambda n: gateways[n % 2].get(f"/n/{who.account}-{n}", who).status, calls)

    def race_at(self, gateway: Gateway, who: Caller, calls: int) -> Counter[int]:
        return self._race(lambda n: gateway.get(f"/n/{who.account}-{n}", who).status, calls)

    def _race(self, call: Callable[[int], int], calls: int) -> Counter[int]:
        with ThreadPoolExecutor(32) as threads:
            return Counter(threads.map(call, range(calls)))


@pytest.fixture
def pair(tmp_path: Path, valkey: Valkey) -> Iterator[Pair]:
    recorder = Recorder()
    recorder.scripts["/hang/1"] = scripts.Gate()
    made = Pair(tmp_path, valkey, recorder)
    try:
        with running(made.gateways):
            yield made
    finally:
        recorder.stop()


@pytest.mark.parametrize("who", [TIGHT, CAREFUL, RATED], ids=["budget", "cap", "rate"])
def test_100_parallel_requests_against_7_let_exactly_7_through(pair: Pair, who: Caller) -> None:
    assert pair.race(who, 100) == {200: 7, 429: 93}


def test_what_one_has_counted_the_other_tells(pair: Pair) -> None:
    one, two = pair.gateways
    assert pair.race(ROOMY, 40) == {200: 40}
    for gateway in (one, two):
        until(lambda g=gateway: g.usage(ROOMY)["used"], lambda n: n == 40, what="all of them")  # type: ignore[misc]


def test_nobody_gets_the_answer_to_another_where_clients_leave(pair: Pair) -> None:
    """Also before they are let in: what they were to have is given back once."""
    gateway, paths = pair.gateways[0], [f"/n/mine-{n}" for n in range(200)]
    for path in paths:
        body = path.encode()
        sent = scripts.OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        pair.recorder.scripts[path] = scripts.sends(sent)

    async def call(path: str, leaves_after_s: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head("GET", path, ROOMY.bearer, "Connection: close"))
        if leaves_after_s:
            await asyncio.sleep(leaves_after_s)
            writer.transport.abort()
        else:
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.endswith(path.encode())
            writer.close()

    async def many() -> None:
        chance = random.Random(7)
        for _ in range(10):
            leaving = [chance.choice((0.0, 0.0005, 0.001, 0.002)) for _ in paths]
            await asyncio.gather(*map(call, paths, leaving))

    asyncio.run(many())


def test_what_one_has_counted_of_a_rate_the_other_tells(pair: Pair) -> None:
    """Also one that has had no request of that account."""
    one, two = pair.gateways
    assert pair.race_at(one, RATED, 3) == {200: 3}
    for gateway in (two, one):
        limit = rate_of(gateway)
        assert (limit["name"], limit["used"], limit["remaining"]) == ("hourly", 3, 4)
    assert pair.race_at(two, RATED, 6) == {200: 4, 429: 2}
    until(lambda: rate_of(one)["used"], lambda used: used == 7, what="what the other let in")


def rate_of(gateway: Gateway) -> dict[str, Any]:
    (limit,) = gateway.get("/v1/usage", RATED).json()["rate_limits"]
    return dict(limit)


def test_holds_are_of_one_gateway_and_say_so_what_is_held_in_all_is_told_by_both(
    pair: Pair,
) -> None:
    one, two = pair.gateways
    gate = pair.recorder.scripts["/hang/1"]
    hanging = threading.Thread(target=one.get, args=("/hang/1", ROOMY))
    hanging.start()
    try:
        assert gate.reached.wait(10)
        for gateway in (one, two):
            until(
                lambda g=gateway: g.usage(ROOMY)["in_flight"],  # type: ignore[misc]
                lambda n: n == 1,
                what="the hold",
            )
        shown = [gateway.cli("holds", "--json") for gateway in (one, two)]
    finally:
        gate.open()
        hanging.join(20)
    assert [[hold["account"] for hold in json.loads(done.out)] for done in shown] == [
        [ROOMY.account],
        [],
    ]
    text = "only holds of this gateway and its workers: others that share the state tell theirs\n"
    assert [done.err for done in shown] == [text, text]


def seconds_to_refuse(one: Gateway, two: Gateway) -> float:
    """A key that one has revoked, at two."""
    made = one.cli("keys", "create", ROOMY.account, "--json")
    assert made.code == 0, made.err
    key = json.loads(made.out)
    who = Caller(ROOMY.account, key["key"])
    assert two.get("/n/1", who).status == 200
    assert one.cli("keys", "revoke", key["id"]).code == 0
    revoked_s = time.monotonic()
    until(lambda: two.get("/n/1", who).status, lambda status: status == 401, what="the refusal")
    return time.monotonic() - revoked_s


def test_a_key_that_one_revokes_the_other_refuses_within_a_second(pair: Pair) -> None:
    one, two = pair.gateways
    took_s = [seconds_to_refuse(one, two), seconds_to_refuse(two, one)]
    assert min(took_s) < 1.0  # the better of both: others use this machine, too


def test_a_state_that_is_emptied_is_begun_anew_from_the_store(pair: Pair) -> None:
    assert pair.race(TIGHT, 5) == {200: 5}
    pair.valkey.command("FLUSHALL")
    assert pair.race(TIGHT, 20) == {200: 2, 429: 18}


def is_state_away(gateway: Gateway) -> bool:
    return b"\ntallygate_state_away 0" not in gateway.admin("/metrics").body


def test_a_state_that_comes_back_with_less_is_begun_anew_too(pair: Pair) -> None:
    assert pair.race(TIGHT, 2) == {200: 2}
    pair.valkey.command("SAVE")
    assert pair.race(TIGHT, 3) == {200: 3}
    pair.valkey.kill()
    pair.valkey.start()
    for gateway in pair.gateways:  # one that found nobody decides alone for a moment
        until(lambda g=gateway: not is_state_away(g), what="the state's return")  # type: ignore[misc]
    assert pair.race(TIGHT, 20) == {200: 2, 429: 18}


def test_what_a_killed_gateway_had_not_shipped_counts_in_documents_that_were_begun_without(
    pair: Pair,
) -> None:
    one, two = pair.gateways
    assert pair.race_at(one, TIGHT, 3) == {200: 3}
    one.kill()  # before half a second is over, so the store has none of it
    pair.valkey.command("FLUSHALL")
    assert pair.race_at(two, TIGHT, 2) == {200: 2}
    one.start()
    assert pair.race(TIGHT, 20) == {200: 2, 429: 18}
    for gateway in pair.gateways:
        assert gateway.cli("audit").code == 0


def test_while_the_state_is_away_no_request_fails_and_all_are_counted(pair: Pair) -> None:
    assert pair.race(ROOMY, 20) == {200: 20}
    pair.valkey.kill()
    assert pair.race(ROOMY, 40) == {200: 40}
    pair.valkey.start()
    assert pair.race(ROOMY, 20) == {200: 20}
    for gateway in pair.gateways:
        until(lambda g=gateway: g.usage(ROOMY)["used"], lambda n: n == 80, what="all of them")  # type: ignore[misc]


def test_what_a_killed_gateway_held_the_other_can_use_again(pair: Pair) -> None:
    one, two = pair.gateways
    asking = threading.Thread(target=lambda: _hang(one))
    asking.start()
    until(lambda: two.usage(TIGHT)["remaining"], lambda left: left == 6, what="the hold")
    one.kill()
    asking.join()
    until(
        lambda: two.usage(TIGHT)["remaining"],
        lambda left: left == 7,
        what="the end of the hold",
        deadline_s=40,
    )
    assert pair.race_at(two, TIGHT, 10) == {200: 7, 429: 3}


def _hang(gateway: Gateway) -> None:
    with suppress(EOFError, OSError):
        gateway.get("/hang/1", TIGHT)
