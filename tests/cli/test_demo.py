"""The demo, as `make demo` runs it: a key to try, a clean end, and the data kept."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.configs import Caller
from tests.support.gateway import REPOSITORY, free_port
from tests.support.raw import Answer, exchange, head


class Demo:
    """A demo that has said what there is to try."""

    def __init__(self, data_dir: Path) -> None:
        self.port, self.admin_port = free_port(), free_port()
        command = [sys.executable, "-m", "gateway", "demo", "--port", str(self.port),
                   "--admin-port", str(self.admin_port), "--data-dir", str(data_dir)]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(self.process.communicate(timeout=10))

    @property
    def who(self) -> Caller:
        (key,) = [line.removeprefix("key: ") for line in self.lines if line.startswith("key: ")]
        return Caller("demo", key)

    def get(self, path: str, who: Caller | None = None) -> Answer:
        sent = ["Connection: close", *([who.bearer] if who else [])]
        return exchange(self.port, head("GET", path, *sent))

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; the exit code and what was said at the end."""
        self.process.send_signal(signal.SIGINT)
        out, errors = self.process.communicate(timeout=20)
        return self.process.returncode, out + errors


def tallygate(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An operator's command on the demo's data."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=30,
    )


@contextmanager
def demo(data_dir: Path) -> Iterator[Demo]:
    running = Demo(data_dir)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def test_demo_from_start_to_second_start(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        who = first.who
        answer = first.get("/items", who)
        assert answer.status == 200
        assert answer.get("ratelimit")
        assert answer.get("x-budget-remaining") == "coins=19"
        assert first.get("/items/2", who).json()["name"] == "Rope"
        assert first.get("/items").status == 401
        assert first.get("/status").status == 200
        statuses = [first.get("/items", who).status for _ in range(19)]
        assert statuses == [200] * 18 + [429]
        assert first.get("/v1/usage", who).json()["meters"]["coins"]["used"] == 20
        metrics = exchange(first.admin_port, head("GET", "/metrics", "Connection: close"))
        assert b"tallygate_requests_total" in metrics.body
        assert first.interrupt() == (0, "")
    key_file = tmp_path / "demo.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    with demo(tmp_path) as second:
        assert second.who == who
        assert second.get("/items", who).status == 429
        assert second.get("/v1/usage", who).json()["meters"]["coins"]["used"] == 20
        assert second.interrupt() == (0, "")


def test_the_curl_lines_are_ready_to_run(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        commands = [shlex.split(line) for line in running.lines if line.startswith("  curl ")]
        assert len(commands) == 3
        targets = [next(w for w in words if w.startswith("http")) for words in commands]
        assert all(target.startswith(f"http://127.0.0.1:{running.port}/") for target in targets)
        allowed, refused, usage = commands
        assert f"Authorization: Bearer {running.who.key}" in allowed
        assert f"Authorization: Bearer {running.who.key}" in usage
        assert not any("Authorization" in word for word in refused)
        more = next(line for line in running.lines if line.startswith("More coins: "))
        words = shlex.split(more.removeprefix("More coins: "))
        env = dict(word.split("=", 1) for word in words[:1])
        assert env == {"DATA_DIR": str(tmp_path)}
        done = tallygate(tmp_path, *words[words.index("topup") :])
        assert done.returncode == 0, done.stderr
        assert re.search(r"amount: +20", done.stdout)
        assert running.get("/v1/usage", running.who).json()["meters"]["coins"]["limit"] == 40


def test_a_revoked_demo_key_is_replaced(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        old = first.who
        (key,) = json.loads(tallygate(tmp_path, "keys", "list", "--json").stdout)
        assert tallygate(tmp_path, "keys", "revoke", key["id"]).returncode == 0
        assert first.get("/items", old).status == 401
        assert first.interrupt() == (0, "")
    with demo(tmp_path) as second:
        assert second.who != old
        assert second.get("/items", second.who).status == 200


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with demo(tmp_path / "one") as running:
        command = [sys.executable, "-m", "gateway", "demo", "--port", str(running.port),
                   "--admin-port", "0", "--data-dir", str(tmp_path / "two")]  # fmt: skip
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        named = f"listeners.proxy 127.0.0.1:{running.port}: address already in use"
        assert named in done.stderr
        assert len(done.stderr.splitlines()) == 1
