"""The gateway that the end-to-end tests share, before a recorder, httpbin and a bulk server.

Which backend is asked is said by Host: httpbin.test, bulk.test, dead.test,
slow.test (the recorder with little patience); anything else is the recorder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import RealServer, httpbin
from tests.support.bulk import BulkServer
from tests.support.configs import Caller, Config, route, upstream
from tests.support.gateway import free_port
from tests.support.postgres import Server
from tests.support.recorder import Recorder
from tests.support.stage import Stage, stage
from tests.support.valkey import Valkey


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL that a module may kill."""
    home = Path(tempfile.mkdtemp(prefix="tallygate-pg-"))
    made = Server(home)
    yield made
    made.close()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """One that a module may kill."""
    made = Valkey().start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def httpbin_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    server = httpbin(tmp_path_factory.mktemp("httpbin"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def bulk() -> Iterator[BulkServer]:
    server = BulkServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def impatient() -> Iterator[Recorder]:
    """The recorder that the gateway does not wait long for."""
    server = Recorder()
    yield server
    server.stop()


def _everything(name: str, **more: object) -> Config:
    return route("* /{path...}", {"coins": 1}, name=name, **more)


@pytest.fixture(scope="session")
def e2e(
    tmp_path_factory: pytest.TempPathFactory,
    httpbin_server: RealServer,
    bulk: BulkServer,
    impatient: Recorder,
) -> Iterator[Stage]:
    upstreams = {
        "httpbin": upstream(httpbin_server.port),
        "bulk": upstream(bulk.port),
        "dead": upstream(free_port()),
        "slow": upstream(impatient.port, read_timeout="400ms"),
        "brief": upstream(impatient.port, read_timeout="30s", total_timeout="700ms"),
    }
    routes = [_everything(name, host=f"{name}.test", upstream=name) for name in upstreams]
    with stage(
        tmp_path_factory.mktemp("e2e"),
        [*routes, _everything("recorded")],
        accounts=300,
        upstreams=upstreams,
        main={"read_timeout": "20s"},
    ) as running:
        yield running


@pytest.fixture
def who(e2e: Stage) -> Caller:
    """An account of this test alone."""
    return e2e.newcomer()
