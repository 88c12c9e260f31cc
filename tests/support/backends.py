"""Real servers behind the gateway, each a process of its own.

They know nothing of the gateway and do not share its parsers' author: gunicorn
(pure Python), uvicorn (httptools), and httpbin as a whole real application.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.gateway import REPOSITORY, free_port
from tests.support.raw import exchange, head
from tests.support.until import until

_STOP_S = 10.0


class RealServer:
    """A started server; `stop` ends it."""

    def __init__(self, command: Sequence[str], port: int, directory: Path, probe: str) -> None:
        self.port = port
        self._log = (directory / "server.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=REPOSITORY, stdout=self._log, stderr=self._log
        )
        until(lambda: self._answers(probe), what=f"{command[0]} on port {port}")

    def _answers(self, probe: str) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            return exchange(self.port, head("GET", probe, "Connection: close")).status == 200
        except (OSError, EOFError, TimeoutError):
            return False

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S)
        self._log.close()


def gunicorn_echo(directory: Path) -> RealServer:
    return _gunicorn("tests.support.echo:wsgi", directory, "/")


def httpbin(directory: Path) -> RealServer:
    return _gunicorn("httpbin:app", directory, "/get")


def _gunicorn(app: str, directory: Path, probe: str) -> RealServer:
    port = free_port()
    command = ["gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
    return RealServer(
        [*command, "--threads", "16", "--keep-alive", "30", app], port, directory, probe
    )


def uvicorn_echo(directory: Path) -> RealServer:
    port = free_port()
    command = ["uvicorn", "--host", "127.0.0.1", "--port", str(port), "--http", "httptools"]
    return RealServer([*command, "tests.support.echo:asgi"], port, directory, "/")
