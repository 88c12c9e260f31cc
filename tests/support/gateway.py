"""The real gateway as a process of its own, on free ports, with its own data.

Started as an operator would start it; asked through its two listeners, its
command line and its store. `stop` insists on a clean end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import raw
from tests.support.configs import MARKER, Caller, Config, write
from tests.support.events import StoredEvent, read_events
from tests.support.until import until

REPOSITORY = Path(__file__).resolve().parents[2]
_START_S = 20.0
_STOP_S = 20.0
_START_TRIES = 3  # a free port may be taken before the gateway binds it


class NotStarted(Exception):
    """The gateway ended or stayed silent; the text is its log."""


class Ended(NamedTuple):
    """What a command line call gave."""

    code: int
    out: str
    err: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Gateway:
    """One data directory, and the process that runs on it now."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        env: Mapping[str, str] | None = None,
        *,
        module: str = "gateway",
    ) -> None:
        """`module` has the command line."""
        self.config = config
        self._module = module
        self.directory = directory
        self.file = directory / "gateway.yaml"
        self.data_dir = directory / "data"
        self.port = self.admin_port = 0
        self._env = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})}
        self._log_file = directory / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._marks = 0

    def __repr__(self) -> str:
        state = "up" if self.is_running else "down"
        return f"<Gateway {state} port={self.port} {self.directory}>"

    def start(self) -> Gateway:
        """Start and wait until it is ready. Raises NotStarted."""
        for left in reversed(range(_START_TRIES)):
            try:
                return self._start_once()
            except NotStarted as error:
                if not left or "address already in use" not in str(error).lower():
                    raise
        raise AssertionError("unreachable")

    def _start_once(self) -> Gateway:
        self.port, self.admin_port = free_port(), free_port()
        self._write_config()
        command = [sys.executable, "-m", self._module, "serve", "--config", str(self.file)]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory, env=self._env, stdout=log, stderr=log
            )
        give_up = time.monotonic() + _START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise NotStarted(self.log[-4000:])
            time.sleep(0.02)
        return self

    def _write_config(self) -> None:
        self.data_dir.mkdir(exist_ok=True)
        write(
            self.config,
            self.file,
            port=self.port,
            admin_port=self.admin_port,
            data_dir=self.data_dir,
        )

    def _is_ready(self) -> bool:
        try:
            return self.admin("/readyz").status == 200
        except (OSError, EOFError, TimeoutError):
            return False

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log_file.read_text("utf-8", "replace") if self._log_file.exists() else ""

    def stop(self) -> None:
        """SIGTERM; the gateway drains and exits 0, or the test fails."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            late = f"still running {_STOP_S} s after SIGTERM: {self.log[-2000:]}"
            raise AssertionError(late) from None
        assert code == 0, f"exit code {code} after SIGTERM: {self.log[-2000:]}"

    def terminate(self) -> None:
        """SIGTERM without waiting for the end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = _STOP_S) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer does it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)

    def reload(self) -> None:
        """Write the configuration again and send SIGHUP."""
        self._write_config()
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def cli(self, *arguments: str) -> Ended:
        """Run `tallygate ARGUMENTS --config FILE`."""
        command = [sys.executable, "-m", self._module, *arguments, "--config", str(self.file)]
        done = subprocess.run(
            command, cwd=self.directory, env=self._env, capture_output=True, text=True, timeout=60
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def admin(self, path: str) -> raw.Answer:
        return raw.exchange(self.admin_port, raw.head("GET", path, "Connection: close"))

    def get(self, path: str, who: Caller | None = None, *lines: str) -> raw.Answer:
        """One GET on a fresh connection, with the caller's key."""
        return self.call("GET", path, who, *lines)

    def call(
        self, method: str, path: str, who: Caller | None = None, *lines: str, body: bytes = b""
    ) -> raw.Answer:
        """One request on a fresh connection that is closed afterwards."""
        sent = [*lines, "Connection: close"]
        if who is not None:
            sent.append(who.bearer)
        if body or method in ("POST", "PUT", "PATCH"):
            sent.append(f"Content-Length: {len(body)}")
        return raw.exchange(self.port, raw.head(method, path, *sent) + body, method)

    def usage(self, who: Caller, meter: str = "coins") -> dict[str, Any]:
        """What GET /v1/usage says of one meter."""
        answer = self.get("/v1/usage", who)
        assert answer.status == 200, answer
        figures: dict[str, Any] = answer.json()["meters"][meter]
        return figures

    def settled_usage(self, who: Caller, meter: str = "coins") -> dict[str, Any]:
        """The same, once no request of the account is in flight."""
        return until(
            lambda: self.usage(who, meter),
            lambda figures: not figures.get("in_flight"),
            what=f"the end of the holds of {who.account}",
        )

    def flush(self) -> None:
        """Wait until every event closed before now is in the store."""
        self._marks += 1
        path = f"/mark/{os.getpid()}-{time.time_ns()}-{self._marks}"
        answer = self.get(path, MARKER)
        assert answer.status == 200, answer
        until(lambda: read_events(self.data_dir, path=path), what=f"the event of {path}")

    def events(self, **match: object) -> list[StoredEvent]:
        """Events in the store after a flush, oldest first, e.g. account="a", path="/x"."""
        self.flush()
        return read_events(self.data_dir, **match)

    def wait_events(self, count: int, **match: object) -> list[StoredEvent]:
        """Exactly `count` events: waits for them, then makes sure that no more follow."""
        until(
            lambda: read_events(self.data_dir, **match),
            lambda found: len(found) >= count,
            what=f"{count} events with {match}",
        )
        found = self.events(**match)
        assert len(found) == count, found
        return found

    def wait_event(self, **match: object) -> StoredEvent:
        return self.wait_events(1, **match)[0]

    def rss_peak_mb(self) -> float:
        """The most memory that the process ever held, in MB of 1,000,000 bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise AssertionError("no VmHWM in /proc/PID/status")


@contextmanager
def running(gateways: Sequence[Gateway]) -> Iterator[None]:
    """All of them: started, and stopped cleanly after a test that passed."""
    try:
        for gateway in gateways:
            gateway.start()
        yield
        for gateway in gateways:
            gateway.stop()
    finally:
        for gateway in gateways:
            gateway.kill()
