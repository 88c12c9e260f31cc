"""The public raw requests, against the gateway before a recorder and real servers.

Judged as tests/hostile/judge.py says. Each run sends all cases once; each test
then looks at one of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile import deviations
from tests.hostile.cases import Case, Outcome, load_cases, run_cases
from tests.hostile.judge import (
    connection_problems,
    nothing_passed_problems,
    safety_problems,
    verdict_problems,
)
from tests.support.backends import RealServer, gunicorn_echo, uvicorn_echo
from tests.support.configs import Config, config, route
from tests.support.gateway import Gateway
from tests.support.recorder import Recorder

CASES = load_cases()
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# Short patience, so that unfinished requests end soon; no limit of ours in the way.
_SERVER = {"head_timeout": "1s", "body_timeout": "400ms"}


def _open_config(port: int) -> Config:
    """Everybody is let in everywhere, at a price."""
    return config(
        port,
        routes=[
            route("* /{path...}", {"coins": 1}, name="everything", callers=["api_key", "anonymous"])
        ],
        plans={"open": {}},
        accounts={"public": {"plan": "open"}},
        identify={"anonymous": {"account": "public"}, "failures_per_minute": 1_000_000},
        server=_SERVER,
    )


def _closed_config(port: int) -> Config:
    """The same routes, for keys only."""
    return config(
        port,
        routes=[route("* /{path...}", {"coins": 1}, name="everything")],
        identify={"failures_per_minute": 1_000_000},
        server=_SERVER,
    )


Run = dict[int, Outcome]


def _run(built: Config, directory: object, recorder: Recorder | None) -> Run:
    gateway = Gateway(built, directory).start()  # type: ignore[arg-type]
    try:
        return {o.case.number: o for o in run_cases(gateway, CASES, recorder)}
    finally:
        gateway.stop()


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    started = Recorder()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def open_run(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _run(_open_config(recorder.port), tmp_path_factory.mktemp("open"), recorder)


@pytest.fixture(scope="module")
def closed_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    behind = Recorder()
    yield _run(_closed_config(behind.port), tmp_path_factory.mktemp("closed"), behind)
    behind.stop()


@pytest.fixture(scope="module", params=[gunicorn_echo, uvicorn_echo], ids=["gunicorn", "uvicorn"])
def real_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    server: RealServer = request.param(tmp_path_factory.mktemp("server"))
    try:
        yield _run(_open_config(server.port), tmp_path_factory.mktemp("real"), None)
    finally:
        server.stop()


@every_case
def test_case_is_safe_before_a_recorder(open_run: Run, case: Case) -> None:
    assert not safety_problems(open_run[case.number]), open_run[case.number]


@every_case
def test_case_is_judged_as_its_source_expects(open_run: Run, case: Case) -> None:
    assert not verdict_problems(open_run[case.number]), open_run[case.number]


def test_nothing_ambiguous_was_forwarded(open_run: Run, recorder: Recorder) -> None:
    assert len(open_run) == len(CASES)
    assert recorder.errors == []


def test_every_request_kept_exactly_one_framing(open_run: Run, recorder: Recorder) -> None:
    for request in recorder.requests:
        framings = request.all("content-length") + request.all("transfer-encoding")
        assert len(framings) <= 1, request
        assert len(request.all("host")) == 1, request


def test_deviations_are_still_true(open_run: Run) -> None:
    """Every entry names a case, and one that behaves as the entry says."""
    by_id = {case.id: open_run[case.number] for case in CASES}
    for entry in deviations.REFUSED_BY_POLICY:
        assert not by_id[entry].forwarded, by_id[entry]
    for entry in deviations.FORWARDED_NORMALISED:
        assert len(by_id[entry].forwarded) == 1, by_id[entry]


@every_case
def test_case_without_a_key_reaches_nothing(closed_run: Run, case: Case) -> None:
    assert not nothing_passed_problems(closed_run[case.number]), closed_run[case.number]


@every_case
def test_case_is_safe_before_a_real_server(real_run: Run, case: Case) -> None:
    outcome = real_run[case.number]
    assert not connection_problems(outcome), outcome
    echoed = [a for a in outcome.relayed if a.get("x-echo") is not None]
    assert echoed == outcome.relayed, ("the backend refused what was forwarded", outcome)
    assert len(outcome.relayed) == len(outcome.charged), outcome
