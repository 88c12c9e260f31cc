"""Each test of a Stage runs on a hot state in memory, and on two that share one.

What they share is a Valkey server, or some groups of a Cluster of three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.state.fleet import ClusterFleet, Fleet
from tests.state.shop import Shop

SHARED = {"shared": Fleet, "cluster": ClusterFleet}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One process has no others: what looks into it, or is not of a stage, runs in memory."""
    is_staged = hasattr(metafunc.module, "Stage")
    is_alone = any(mark.name == "one_process" for mark in metafunc.definition.iter_markers())
    kinds = ["memory", *SHARED] if is_staged and not is_alone else ["memory"]
    metafunc.parametrize("hot_state", kinds, indirect=True)


@pytest.fixture(autouse=True)
def hot_state(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kind of hot state that the test's module stages."""
    made: list[Fleet] = []

    kind = getattr(request, "param", "memory")

    def stage(*plans: Any, **more: Any) -> Fleet:
        made.append(SHARED[kind](*plans, **more))
        return made[-1]

    if kind in SHARED:
        monkeypatch.setattr(request.module, "Stage", stage)
    yield kind
    for fleet in made:
        fleet.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Shop]]:
    """Shops, which end with the test."""
    made: list[Shop] = []

    def shop(*room: int, **more: Any) -> Shop:
        made.append(Shop(*room, **more))
        return made[-1]

    yield shop
    for each in made:
        each.close()
