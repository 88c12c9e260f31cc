"""What does a contestant use? Processes of our own: started on one core, measured, ended.

Invariant: every process started here is ended by `Fleet.stop`, also after an
error or Ctrl-C, and no other process is ever signalled. Processor time comes
from /proc/PID/stat (utime + stime, all threads, and children already waited
for), memory from /proc/PID/status. Linux only. Must not know what is measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SETTLE_STEP_S = 0.3
SETTLE_TICKS = 1  # processor ticks per step that count as idle: timers, nothing more
SETTLE_MAX_S = 60.0
STOP_WAIT_S = 15.0  # a drain may take this long before SIGKILL


class BenchError(Exception):
    """A measurement that is not one; the text says why."""


@dataclass(slots=True)
class Server:
    """A running process and its children: `<Server caddy 1234>`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.process.pid}>"

    def pids(self) -> list[int]:
        """Its own process id and those of all its descendants."""
        return _tree(self.process.pid)

    def cpu_s(self) -> float:
        """Processor seconds, user and system, since it was started."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / TICKS_PER_S

    def rss_mb(self) -> float:
        """Resident memory of all its processes, in MB of 1,000,000 bytes."""
        return sum(_status_kib(pid, "VmRSS") for pid in self.pids()) * 1024 / 1e6

    def peak_rss_mb(self) -> float:
        """Sum of the highest resident memory each of its processes had."""
        return sum(_status_kib(pid, "VmHWM") for pid in self.pids()) * 1024 / 1e6

    def settle(self) -> float:
        """Wait until it is idle, so that work put off is paid by those who caused it.

        Returns the seconds that took. Raises BenchError when it never is.
        """
        began = time.monotonic()
        while time.monotonic() - began < SETTLE_MAX_S:
            before = self.cpu_s()
            time.sleep(SETTLE_STEP_S)
            if (self.cpu_s() - before) * TICKS_PER_S < SETTLE_TICKS + 0.5:
                return max(0.0, time.monotonic() - began - SETTLE_STEP_S)
        raise BenchError(f"{self.name} is still busy {SETTLE_MAX_S:.0f} s after its load ended")

    def check_alive(self) -> None:
        """Raises BenchError with the end of its log when it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self.process.returncode}: {self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-1500:].strip()
        return ""

    def stop(self) -> None:
        """Ask it to end, wait, then insist. It has a process group of its own."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_WAIT_S)
        self.kill()

    def kill(self) -> None:
        """End it and whatever is left of its children now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(slots=True)
class Fleet:
    """All servers of one benchmark; leaving its context ends them."""

    directory: Path
    servers: list[Server] = field(default_factory=list)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        core: int,
        environment: dict[str, str] | None = None,
    ) -> Server:
        """Start a command on one core; its output goes to NAME.out in the directory."""
        log = self.directory / f"{name}.out"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(name, process, log)
        self.servers.append(server)
        return server

    def end(self, server: Server) -> None:
        """End one server now."""
        server.stop()
        self.servers.remove(server)

    def stop(self) -> None:
        """End all servers; a second Ctrl-C ends them without waiting."""
        try:
            for server in self.servers:
                server.process.terminate()
            for server in self.servers:
                server.stop()
        finally:
            for server in self.servers:
                server.kill()
            self.servers.clear()


@contextlib.contextmanager
def workshop() -> Iterator[Fleet]:
    """A fleet in a temporary directory; both are gone afterwards, after SIGTERM too."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as directory,
            Fleet(Path(directory)) as fleet,
        ):
            yield fleet
    finally:
        signal.signal(signal.SIGTERM, before)


def two_cores() -> tuple[int, int]:
    """The core of the gateway and the core of backend and load.

    Raises BenchError when this process may use only one.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError("two cores are needed: one for the gateway, one for backend and load")
    return cores[0], cores[1]


def free_port() -> int:
    """A loopback port nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parent = int(_stat_fields(int(entry))[1])
                children.setdefault(parent, []).append(int(entry))
    found, open_ = [], [root]
    while open_:
        pid = open_.pop()
        found.append(pid)
        open_.extend(children.get(pid, ()))
    return found


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, ..."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def _cpu_ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(int(ticks) for ticks in _stat_fields(pid)[11:15])
    return 0


def _status_kib(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0
