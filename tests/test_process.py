"""A gateway in a process of its own: how a start that fails is told."""

from __future__ import annotations

import json
import sqlite3

import pytest

from gateway.app import Gateway
from gateway.config.load import load
from gateway.process import run
from gateway.store.database import DatabaseError
from tests.support.gateway import REPOSITORY

CONFIG = REPOSITORY / "config" / "gateway.yaml"


@pytest.mark.parametrize("error", [DatabaseError("it went away"), sqlite3.Error("it went away")])
def test_a_store_that_goes_away_meanwhile_is_said_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    async def start(_: Gateway) -> None:
        raise error

    monkeypatch.setattr(Gateway, "start", start)
    assert run(CONFIG, load(CONFIG, {})) == 1
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    [failed] = [line for line in told if line["event"] == "not_started"]
    assert (failed["error"], failed["kind"]) == ("it went away", type(error).__name__)
