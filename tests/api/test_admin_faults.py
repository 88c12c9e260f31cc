"""What the admin API says and counts when something of the gateway's own goes wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.api.admin import AdminGateway, Tokens, _AdminApi
from gateway.api.operations import Operator, Reply
from gateway.proxy.tally import Tally
from gateway.state.shared.link import StateUnavailable
from gateway.store.base import StoreUnavailable
from gateway.store.database import DatabaseError

TOKEN = "c" * 32


def answered(failure: Exception) -> tuple[web.Response, Tally, list[tuple[str, dict[str, Any]]]]:
    """The answer to a call that fails, what is counted, and what is logged."""
    said: list[tuple[str, dict[str, Any]]] = []

    def log(event: str, **fields: Any) -> None:
        said.append((event, fields))

    tally = Tally(log)
    gateway = SimpleNamespace(tally=tally, log=log, book=SimpleNamespace(operators={}))
    api = _AdminApi(cast(AdminGateway, gateway), Tokens(TOKEN))

    async def run(operator: Operator) -> Reply:
        raise failure

    request = make_mocked_request("GET", "/", headers={"Authorization": f"Bearer {TOKEN}"})
    return asyncio.run(api._answer(request, run)), tally, said


@pytest.mark.parametrize(
    "failure",
    [
        DatabaseError("refused"),
        sqlite3.OperationalError("locked"),
        StateUnavailable("silent"),
        StoreUnavailable("gone"),
    ],
)
def test_a_store_that_is_away_is_no_fault(failure: Exception) -> None:
    answer, tally, ((event, fields),) = answered(failure)
    assert isinstance(answer.body, bytes)
    problem = orjson.loads(answer.body)
    assert (answer.status, problem["code"]) == (503, "store_unavailable")
    assert str(failure) in problem["detail"]
    assert (event, fields["error"]) == ("store_unavailable", problem["detail"])
    assert "exc_info" not in fields
    assert tally.internal_errors == 0


def test_a_fault_is_counted() -> None:
    fault = RuntimeError("a mistake")
    answer, tally, ((event, fields),) = answered(fault)
    assert answer.status == 500
    assert (event, fields["exc_info"], tally.internal_errors) == ("admin_error", fault, 1)
