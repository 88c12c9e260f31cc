"""A live system moves from one embedded gateway to two with PostgreSQL and Valkey.

docs/operations.md, "From embedded to distributed", step by step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_crash import assert_audit_is_clean
from tests.support import valkey
from tests.support.configs import Caller, Config, config, pool, route
from tests.support.gateway import Gateway
from tests.support.recorder import Recorder
from tests.support.stores import postgres_url
from tests.support.until import until

pytestmark = pytest.mark.sqlite

TIGHT, CAREFUL, RATED, TOPPED = pool("acct", 4)
PLANS = {
    "tight": {"allowances": {"coins": {"amount": 12, "per": "month"}}},
    "careful": {
        "allowances": {"coins": [{"amount": 1_000, "per": "month"}, {"amount": 12, "per": "week"}]}
    },
    "rated": {"limits": {"hourly": {"rate": "12/hour"}}},
    "topped": {"allowances": {"coins": {"amount": 2, "per": "month"}}},
}
CALLERS = dict(zip(PLANS, ([c] for c in (TIGHT, CAREFUL, RATED, TOPPED)), strict=True))
BOUGHT = 10  # coins, beside the allowance


def of(recorder: Recorder, **more: Any) -> Config:
    routes = [route("GET /n/{id}", {"coins": 1})]
    return config(recorder.port, routes=routes, callers=CALLERS, plans=PLANS, **more)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    running = Recorder()
    yield running
    running.stop()


@pytest.fixture
def started() -> Iterator[Callable[[Config, Path], Gateway]]:
    """Gateways that end with the test, whatever comes of it."""
    made: list[Gateway] = []

    def start(built: Config, directory: Path) -> Gateway:
        directory.mkdir(exist_ok=True)
        made.append(Gateway(built, directory))
        return made[-1].start()

    yield start
    for gateway in made:
        gateway.kill()


def calls(gateway: Gateway, who: Caller, count: int) -> Counter[int]:
    with ThreadPoolExecutor(8) as threads:
        return Counter(threads.map(lambda n: gateway.get(f"/n/{n}", who).status, range(count)))


def figures(gateway: Gateway, who: Caller) -> tuple[int, int]:
    coins = gateway.settled_usage(who)
    return coins["used"], coins["remaining"]


def test_balances_go_on_exactly_and_rate_windows_begin_anew(
    tmp_path: Path, recorder: Recorder, started: Callable[[Config, Path], Gateway]
) -> None:
    embedded = started(of(recorder), tmp_path / "one")
    assert embedded.cli("topup", TOPPED.account, "coins", str(BOUGHT), "--id", "o-1").code == 0
    for who in (TIGHT, CAREFUL, RATED, TOPPED):
        assert calls(embedded, who, 5) == {200: 5}
    spenders = (TIGHT, CAREFUL, TOPPED)
    before = [figures(embedded, who) for who in spenders]
    assert before == [(5, 7), (5, 7), (5, 7)]
    assert_audit_is_clean(embedded)

    # What a kill leaves in the journal is copied too.
    embedded.kill()
    url = postgres_url(tmp_path)
    copied = embedded.cli("copy-store", "--to", url)
    assert copied.code == 0, copied.err
    assert copied.out.count("clean;") == 2 and "equal;" in copied.out
    assert "events: 20 rows" in copied.out

    state = {"url": valkey.server().url, "prefix": f"move-{tmp_path.name}"}
    distributed = of(recorder, store={"url": url}, state=state)
    one = started(distributed, tmp_path / "one")  # the old data_dir: its journal goes on
    two = started(distributed, tmp_path / "two")
    for gateway in (one, two):
        assert [figures(gateway, who) for who in spenders] == before
    for who in spenders:
        assert calls(one, who, 4) == {200: 4}
        assert calls(two, who, 10) == {200: 3, 429: 7}
    # 5 of 12 were taken in this hour; in the shared state the window begins anew.
    assert calls(one, RATED, 6) + calls(two, RATED, 7) == {200: 12, 429: 1}
    for gateway in (one, two):
        assert_audit_is_clean(gateway)
    entries = json.loads(two.cli("ledger", TOPPED.account, "--json").out)
    assert "o-1" in str(entries)
    one.stop()
    two.stop()


def test_the_way_back_before_traffic_has_come(
    tmp_path: Path, recorder: Recorder, started: Callable[[Config, Path], Gateway]
) -> None:
    """The SQLite file stays as it was, and so does its place in the journal."""
    embedded = started(of(recorder), tmp_path / "one")
    assert calls(embedded, TIGHT, 5) == {200: 5}
    embedded.stop()
    url = postgres_url(tmp_path)
    assert embedded.cli("copy-store", "--to", url).code == 0
    state = {"url": valkey.server().url, "prefix": f"back-{tmp_path.name}"}
    distributed = started(of(recorder, store={"url": url}, state=state), tmp_path / "one")
    assert figures(distributed, TIGHT) == (5, 7)
    distributed.stop()
    again = started(of(recorder), tmp_path / "one")
    assert figures(again, TIGHT) == (5, 7)
    assert calls(again, TIGHT, 10) == {200: 7, 429: 3}
    assert_audit_is_clean(again)
    until(lambda: len(again.events(account=TIGHT.account)) == 12, what="the events of both times")
    again.stop()
