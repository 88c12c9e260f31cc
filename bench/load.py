"""What did the load see? Runs wrk and reads its report; one request by hand for checks.

Invariant: a run with any answer other than 2xx or any socket error is an error,
never a result. Must not know which contestant it talks to.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, Server

REPORT_SCRIPT = Path(__file__).with_name("wrk_report.lua")
ERRORS = ("status", "connect", "read", "write", "timeout")
READY_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk is told: connections, one thread, the core it runs on."""

    connections: int
    core: int
    key: str  # sent as Authorization: Bearer
    targets: Path | None = None  # lines of "PATH<tab>KEY" to spread the requests over


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `cpu_us` is the gateway's processor time per request, put-off work included."""

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    cpu_share: float  # of one core, while the load ran
    settle_s: float  # how long it worked on after the load ended
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


def measure(server: Server, url: str, load: Load, seconds: float) -> Measured:
    """Put load on a server and say what it used.

    Raises BenchError when any answer is not 2xx or a socket failed.
    """
    server.settle()
    before = server.cpu_s()
    report = run_wrk(url, load, seconds)
    during = server.cpu_s() - before
    server.check_alive()
    settle_s = server.settle()
    used = server.cpu_s() - before
    requests, duration_s = report["requests"], report["duration_us"] / 1e6
    return Measured(
        requests=requests,
        rps=requests / duration_s,
        p50_ms=report["p50_us"] / 1e3,
        p99_ms=report["p99_us"] / 1e3,
        max_ms=report["max_us"] / 1e3,
        cpu_us=used / requests * 1e6,
        cpu_share=during / duration_s,
        settle_s=settle_s,
        rss_mb=server.rss_mb(),
    )


def run_wrk(url: str, load: Load, seconds: float) -> dict[str, int]:
    """One run of wrk: its report, see wrk_report.lua. Raises BenchError."""
    command = ["taskset", "-c", str(load.core), "wrk", "--latency"]
    command += ["-t", "1", "-c", str(load.connections), "-d", f"{max(1, round(seconds))}s"]
    command += ["-H", f"Authorization: Bearer {load.key}", "-s", str(REPORT_SCRIPT), url]
    if load.targets is not None:
        command += ["--", str(load.targets)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("REPORT ")]
    if run.returncode != 0 or not lines:
        raise BenchError(f"wrk failed: {(run.stderr or run.stdout).strip()[-500:]}")
    report: dict[str, int] = json.loads(lines[0].removeprefix("REPORT "))
    wrong = {name: report[name] for name in ERRORS if report[name]}
    if wrong or report["requests"] == 0:
        raise BenchError(f"not a result: {report['requests']} requests, errors {wrong}")
    return report


def ask(port: int, path: str, key: str | None, timeout_s: float = 5.0) -> Answer:
    """One GET on a connection of its own. Raises OSError, http.client.HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, body)
    finally:
        connection.close()


def wait_until_ready(
    server: Server, port: int, path: str, key: str | None, timeout_s: float = 30.0
) -> None:
    """Ask until the answer is 200. Raises BenchError when the server ends or takes too long."""
    until = time.monotonic() + timeout_s
    last = "nothing listened"
    while time.monotonic() < until:
        server.check_alive()
        try:
            answer = ask(port, path, key)
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        else:
            if answer.status == 200:
                return
            last = f"{answer.status} {answer.body[:300]!r}"
        time.sleep(READY_POLL_S)
    raise BenchError(f"{server.name} is not ready after {timeout_s:.0f} s: {last}. {server.tail()}")
