"""The same commands while a gateway runs: through its admin API, effective at once."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.conftest import DECLARED, Ran, configuration, run
from tests.support.configs import Caller
from tests.support.gateway import REPOSITORY, Gateway
from tests.support.recorder import Recorder
from tests.support.until import until


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    recorder = Recorder()
    running = Gateway(configuration(recorder.port), tmp_path_factory.mktemp("cli")).start()
    yield running
    running.stop()
    recorder.stop()


def tallygate(gateway: Gateway, *arguments: str) -> Ran:
    return run(gateway.file, *arguments)


def new_caller(gateway: Gateway, account: str) -> tuple[Caller, str]:
    made = tallygate(gateway, "keys", "create", account, "--json").json
    return Caller(account, made["key"]), made["id"]


def test_keys_are_effective_at_once(gateway: Gateway) -> None:
    assert tallygate(gateway, "accounts", "create", "acme").code == 0
    who, key_id = new_caller(gateway, "acme")
    assert gateway.get("/one", who).status == 200
    assert tallygate(gateway, "accounts", "update", "acme", "--disable").code == 0
    assert gateway.get("/one", who).code == "account_disabled"
    assert tallygate(gateway, "accounts", "update", "acme", "--enable").code == 0
    rotated = tallygate(gateway, "keys", "rotate", key_id, "--json").json
    for key in (who.key, rotated["key"]):
        assert gateway.get("/one", Caller("acme", key)).status == 200
    assert tallygate(gateway, "keys", "revoke", key_id).code == 0
    assert gateway.get("/one", who).code == "key_invalid"
    assert gateway.get("/one", Caller("acme", rotated["key"])).status == 200


def test_usage_topup_and_audit(gateway: Gateway) -> None:
    tallygate(gateway, "accounts", "create", "spender")
    who, _ = new_caller(gateway, "spender")
    assert [gateway.get("/one", who).status for _ in range(6)] == [200] * 5 + [429]
    shown = tallygate(gateway, "usage", "spender", "--json").json["meters"]["coins"]
    assert (shown["used"], shown["remaining"]) == (5, 0)
    assert tallygate(gateway, "topup", "spender", "coins", "1", "--reason", "sorry").code == 0
    assert [gateway.get("/one", who).status for _ in range(2)] == [200, 429]
    table = tallygate(gateway, "usage", "spender").out
    assert "One" in table
    assert "100.0%" in table
    audited = tallygate(gateway, "audit")
    assert (audited.code, audited.out[:6]) == (0, "clean:")
    assert re.search(r"\b[1-9][\d,]* live counters, up to record [1-9]", audited.out), audited.out


def test_events_are_the_latest_oldest_first(gateway: Gateway) -> None:
    tallygate(gateway, "accounts", "create", "caller")
    who, key_id = new_caller(gateway, "caller")
    for _ in range(4):
        gateway.get("/one", who)
    for more in (["--account", "caller"], ["--key", key_id], []):
        ran = tallygate(gateway, "events", "--json", "--limit", "3", *more)
        events = [json.loads(line) for line in ran.out.splitlines()]
        assert [event["account"] for event in events] == ["caller"] * 3
        times = [event["time"] for event in events]
        assert times == sorted(times)
    table = tallygate(gateway, "events", "--limit", "1").out.splitlines()
    assert table[0].split()[:3] == ["TIME", "ACCOUNT", "KEY"]
    assert "coins=1" in table[1]


def test_events_follow_until_interrupted(gateway: Gateway) -> None:
    tallygate(gateway, "accounts", "create", "followed")
    who, _ = new_caller(gateway, "followed")
    command = [sys.executable, "-m", "gateway", "events", "--follow", "--json", "--account",
               "followed", "--config", str(gateway.file)]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        seen: list[Any] = []
        for _ in range(3):
            gateway.get("/one", who)
            seen.append(json.loads(process.stdout.readline()))
        assert len({event["id"] for event in seen}) == 3
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
        assert (process.returncode, rest, errors) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


class Following:
    """`events --follow --json` as a process of its own, and what it has printed so far."""

    def __init__(self, gateway: Gateway) -> None:
        command = [sys.executable, "-m", "gateway", "events", "--follow", "--json", "--account",
                   DECLARED.account, "--config", str(gateway.file)]  # fmt: skip
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.printed: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=_read, args=(self._process.stdout, self.printed)),
            threading.Thread(target=_read, args=(self._process.stderr, self.errors)),
        ]
        for reader in self._readers:
            reader.start()

    def wait(self, events: int) -> list[str]:
        """The ids, once there are so many."""
        until(lambda: len(self.printed), lambda n: n >= events, what=f"{events} events")
        return [json.loads(line)["id"] for line in self.printed]

    def wait_told(self, times: int) -> None:
        until(lambda: len(self.errors), lambda n: n >= times, what="what it says of the absence")

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(20)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)
        for reader in self._readers:
            reader.join(20)


def _read(stream: IO[str], into: list[str]) -> None:
    with stream:
        for line in stream:
            into.append(line)


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Gateway]:
    """One that a test may stop and start; each start is on other ports with another token."""
    recorder = Recorder()
    running = Gateway(configuration(recorder.port), tmp_path).start()
    yield running
    running.kill()
    recorder.stop()


def test_events_follow_goes_on_when_the_gateway_is_started_anew(restarted: Gateway) -> None:
    following = Following(restarted)
    try:
        assert restarted.get("/one", DECLARED).status == 200
        following.wait(1)
        for times, end in enumerate((restarted.stop, restarted.kill), 1):
            # The one that is killed may have told of this or not, shipped it or not.
            assert restarted.get("/one", DECLARED).status == 200
            end()
            following.wait_told(times)
            restarted.start()
            assert restarted.get("/one", DECLARED).status == 200
            following.wait(1 + 2 * times)
        stored = [event.id for event in restarted.events(account=DECLARED.account)]
        assert following.interrupt() == 0
        assert following.wait(5) == stored
        assert len(following.errors) == 2
        for line in following.errors:
            assert re.match(r"tallygate: the gateway at http://127.0.0.1:\d+ does not", line), line
            assert line.endswith("; trying again\n")
    finally:
        following.close()


def test_a_long_poll_does_not_hold_the_end_up(restarted: Gateway) -> None:
    following = Following(restarted)
    try:
        assert restarted.get("/one", DECLARED).status == 200
        following.wait(1)
        began_s = time.monotonic()
        restarted.stop()
        assert time.monotonic() - began_s < 8
        following.wait_told(1)
        assert following.interrupt() == 0, "Ctrl-C ends it while nobody answers, too"
        assert (len(following.printed), len(following.errors)) == (1, 1)
    finally:
        following.close()


def test_refusals_are_the_same_as_offline(gateway: Gateway) -> None:
    ran = tallygate(gateway, "keys", "create", DECLARED.account, "--route", "on")
    assert ran.code == 1
    assert ran.err == (
        "tallygate: routes: expected the name of a route, found 'on' (did you mean one?)\n"
    )


def test_control_file_goes_with_the_gateway(tmp_path: Path) -> None:
    running = Gateway(configuration(), tmp_path).start()
    assert (running.data_dir / "control.json").exists()
    running.stop()
    assert not (running.data_dir / "control.json").exists()
    assert run(running.file, "accounts", "list").code == 0


def test_after_a_kill_the_store_has_everything(tmp_path: Path) -> None:
    """The command line takes the lock and ships what the journal still has."""
    recorder = Recorder()
    running = Gateway(configuration(recorder.port), tmp_path).start()
    try:
        statuses = [running.get("/one", DECLARED).status for _ in range(5)]
        assert statuses == [200] * 5
    finally:
        running.kill()
        recorder.stop()
    events = run(running.file, "events", "--json")
    assert len(events.out.splitlines()) == 5
    usage = run(running.file, "usage", DECLARED.account, "--json").json["meters"]["coins"]
    assert (usage["used"], usage["remaining"]) == (5, 0)
    assert run(running.file, "audit").code == 0


def test_healthcheck_of_the_image(gateway: Gateway) -> None:
    """The command that the Dockerfile runs inside the container."""
    text = (REPOSITORY / "Dockerfile").read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith('CMD ["python"'))
    command = json.loads(line.strip().removeprefix("CMD "))
    for port, code in ((gateway.admin_port, 0), (9, 1)):
        done = subprocess.run(
            [sys.executable, *command[1:]], env={"ADMIN_PORT": str(port)}, capture_output=True
        )
        assert done.returncode == code


def test_serve_refuses_a_second_gateway(gateway: Gateway) -> None:
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(gateway.file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"in use by process {gateway.pid}" in done.stderr
    until(lambda: gateway.admin("/readyz").status == 200)
