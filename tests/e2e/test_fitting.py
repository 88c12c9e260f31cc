"""A configuration that does not fit what the store has is refused, at a start and by SIGHUP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.configs import caller, config, route
from tests.support.gateway import Gateway, NotStarted
from tests.support.recorder import Recorder
from tests.support.until import until

WHO = caller("acct")
START_S = 60.0  # of several interpreters


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    recorder = Recorder()
    made = Gateway(
        config(
            recorder.port,
            routes=[route("GET /n/{id}", {"words": 1})],
            callers={"small": [WHO]},
            meters={"words": {"decimals": 2}, "spare": {"decimals": 2}},
            plans={"small": {"allowances": {"words": {"amount": 100, "per": "month"}}}},
            default_plan="small",
        ),
        tmp_path,
    )
    yield made
    if made.is_running:
        made.stop()
    recorder.stop()


def scale(gateway: Gateway, meter: str, decimals: int) -> None:
    gateway.config["meters"][meter]["decimals"] = decimals


def not_started(gateway: Gateway) -> str:
    """What the log says, in its one line, of a start that is refused with 1."""
    before = len(facts(gateway, "not_started"))
    with pytest.raises(NotStarted):
        gateway.start()
    said = facts(gateway, "not_started")[before:]
    assert gateway.wait() == 1
    assert len(said) == 1 and "Traceback" not in gateway.log
    error: str = said[0]["error"]
    return error


def facts(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def refused(gateway: Gateway) -> list[str]:
    """The problems of a reload that is refused."""
    before = len(facts(gateway, "reload_refused"))
    gateway.reload()
    said = until(
        lambda: facts(gateway, "reload_refused")[before:], lambda lines: bool(lines), what="refusal"
    )
    assert len(said) == 1
    problems: list[str] = said[0]["problems"]
    return problems


CHANGED = (
    "meters.words.decimals: expected 2, in which its figures are kept, found 3;"
    " give the meter another name"
)


def test_other_decimals_are_refused_at_a_start_where_there_are_figures(gateway: Gateway) -> None:
    gateway.start()
    assert gateway.get("/n/1", WHO).status == 200
    gateway.kill()  # the figures may be in the journal alone
    scale(gateway, "words", 3)
    assert not_started(gateway) == CHANGED
    offline = gateway.cli("usage", WHO.account)
    assert offline.code == 1 and CHANGED in offline.err
    scale(gateway, "words", 2)
    scale(gateway, "spare", 3)  # which has none
    gateway.start()
    assert gateway.get("/n/2", WHO).get("X-Budget-Remaining") == "words=98.00"


def test_a_meter_that_was_away_comes_back_in_its_own_decimals(gateway: Gateway) -> None:
    scale(gateway, "words", 2)
    gateway.start()
    assert gateway.get("/n/1", WHO).status == 200
    both = gateway.config["routes"], gateway.config["meters"], gateway.config["plans"]
    gateway.config["routes"] = [route("GET /n/{id}", {"spare": 1})]
    gateway.config["meters"] = {"spare": {"decimals": 2}}
    gateway.config["plans"] = {name: {} for name in both[2]}
    gateway.reload()
    until(lambda: facts(gateway, "reloaded"), lambda lines: bool(lines), what="reload")
    gateway.config["routes"], gateway.config["meters"], gateway.config["plans"] = both
    scale(gateway, "words", 3)
    assert refused(gateway) == [CHANGED]
    assert gateway.get("/n/2", WHO).status == 200  # by the one before
    gateway.stop()
    assert not_started(gateway) == CHANGED


def test_what_a_meter_had_that_is_gone_is_told_in_its_decimals(gateway: Gateway) -> None:
    gateway.start()
    assert gateway.get("/n/1", WHO).status == 200
    given = ("topup", WHO.account, "words", "2.50", "--reason", "order 17")
    assert gateway.cli(*given).code == 0
    gateway.config["routes"] = [route("GET /n/{id}", {"spare": 1})]
    gateway.config["meters"] = {"spare": {"decimals": 2}}
    gateway.config["plans"] = {name: {} for name in gateway.config["plans"]}
    gateway.reload()
    until(lambda: facts(gateway, "reloaded"), lambda lines: bool(lines), what="reload")
    told = [told_of_words(gateway)]
    gateway.stop()
    told.append(told_of_words(gateway))  # by the command alone
    gateway.start()
    told.append(told_of_words(gateway))
    own = gateway.get("/v1/usage/activity", WHO)
    assert own.status == 200, own
    assert [item["charges"] for item in own.json()["items"]] == [{"words": "1.00"}]
    assert told == [("1.00", "2.50")] * 3


def told_of_words(gateway: Gateway) -> tuple[str, str]:
    """The charge of the one event, and the amount of the one entry of the ledger."""
    listed = gateway.cli("events", "--json", "--account", WHO.account)
    entries = gateway.cli("ledger", WHO.account, "--json")
    assert (listed.code, entries.code) == (0, 0), (listed.err, entries.err)
    (event,), (entry,) = [json.loads(listed.out)], json.loads(entries.out)
    return event["charges"]["words"], entry["amount"]


def test_a_plan_that_an_account_has_may_not_go(gateway: Gateway) -> None:
    gateway.config["plans"]["big"] = {"allowances": {"words": {"amount": 500, "per": "month"}}}
    gateway.start()
    assert gateway.cli("accounts", "create", "other", "--plan", "big").code == 0
    gateway.config["plans"]["large"] = big = gateway.config["plans"].pop("big")  # renamed
    gone = "plans: expected 'big', which 1 account has (other), found none"
    assert refused(gateway) == [gone]
    gateway.stop()
    assert not_started(gateway) == gone
    gateway.config["plans"]["big"] = big
    gateway.start()
    assert gateway.cli("accounts", "update", "other", "--plan", "large").code == 0
    del gateway.config["plans"]["big"]
    gateway.reload()
    until(lambda: facts(gateway, "reloaded"), lambda lines: len(lines) == 1, what="reload")
    assert "large" in gateway.cli("accounts", "show", "other").out
