"""The gateway that most hostile tests share: everything priced, short patience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.configs import Caller, route
from tests.support.stage import Stage, stage

_SOURCES = ["bearer", {"header": "X-API-Key"}, {"query": "api_key"}]


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """GET /five costs 5 coins, everything else 1."""
    routes = [
        route("GET /five", {"coins": 5}),
        route("* /{path...}", {"coins": 1}, name="everything"),
    ]
    with stage(
        tmp_path_factory.mktemp("hostile"),
        routes,
        accounts=600,
        identify={"sources": _SOURCES},
        server={"head_timeout": "1s", "body_timeout": "1s", "keepalive_timeout": "30s"},
        main={"read_timeout": "2s"},
    ) as running:
        yield running


@pytest.fixture
def who(hostile: Stage) -> Caller:
    """An account of this test alone."""
    return hostile.newcomer()
