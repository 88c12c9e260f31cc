"""Which requests on the proxy's listener are the gateway's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.proxy.own import OwnPaths


async def usage(_: Any) -> bytes | AsyncGenerator[bytes, None]:
    return b""


async def quota(_: Any) -> bytes | AsyncGenerator[bytes, None]:
    return b""


def asked(method: str, path: str) -> Any:
    return SimpleNamespace(method=method, target=SimpleNamespace(canonical=path))


PATHS = OwnPaths({"/v1/usage": usage}, {"/api/{project}/quota": quota})


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_exact_path_is_ours_with_every_method(method: str) -> None:
    found = PATHS.find(asked(method, "/v1/usage"))
    assert found is not None and (found.answer, found.parameters) == (usage, {})


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_view_has_parameters(method: str) -> None:
    found = PATHS.find(asked(method, "/api/shop/quota"))
    assert found is not None and (found.answer, found.parameters) == (quota, {"project": "shop"})


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/shop/quota"), ("GET", "/v1/usage/"), ("GET", "/v1"), ("GET", "/api/quota")],
)
def test_everything_else_is_the_backends(method: str, path: str) -> None:
    assert PATHS.find(asked(method, path)) is None


def test_without_views_nothing_is_matched() -> None:
    assert OwnPaths({}, {}).find(asked("GET", "/")) is None
