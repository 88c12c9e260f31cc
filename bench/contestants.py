"""Who is compared? The backend and the five contestants: configuration, start, proof of work.

Invariant: before it is measured, each contestant has shown that it does its
task: the right answer with a key and, where it checks keys, 401 without one.
Must not know rounds or figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.gateway_config import GatewaySetup, write_config
from bench.load import ask, wait_until_ready
from bench.machine import find
from bench.processes import BenchError, Fleet, Server, free_port

NAMES = ("tallygate", "openresty", "caddy", "aiohttp_naive", "nginx")
TOOLS = {  # what each needs, see machine.PACKAGES; the backend and the load need nginx and wrk
    "tallygate": (),
    "openresty": ("nginx", "nginx-lua"),
    "caddy": ("caddy",),
    "aiohttp_naive": (),
    "nginx": ("nginx",),
}
CHECKS_KEYS = frozenset({"tallygate", "openresty", "caddy"})
FULL_PRODUCT_HEADERS = ("ratelimit", "ratelimit-policy", "x-request-id", "x-budget-remaining")
READY_WAIT_S = 120.0  # ten million events may have to be looked at
INLINE_BODY_MAX = 2_000  # nginx takes a longer `return` from a file only

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True, slots=True)
class Stage:
    """What all contestants share."""

    fleet: Fleet
    python: str
    gateway_core: int
    load_core: int
    backend_port: int
    key: str
    routes: int = 60

    @property
    def directory(self) -> Path:
        """The temporary directory of all configuration, logs and data."""
        return self.fleet.directory


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running gateway and where it listens."""

    name: str
    server: Server
    port: int

    def url(self, path: str) -> str:
        """The address of a path through it."""
        return f"http://127.0.0.1:{self.port}{path}"


def backend_body(size: int) -> bytes:
    """A JSON document of exactly `size` bytes, at least 60."""
    document = {"id": 42, "name": "widget", "state": "ready", "note": ""}
    empty = len(json.dumps(document))
    if size < empty:
        raise BenchError(f"the backend's answer has at least {empty} bytes")
    document["note"] = "x" * (size - empty)
    return json.dumps(document).encode()


def start_backend(fleet: Fleet, core: int, body: bytes) -> int:
    """Start the nginx that answers every path with `body`; returns its port."""
    port = free_port()
    if len(body) <= INLINE_BODY_MAX:
        answer = f"return 200 '{body.decode()}';"
    else:
        (fleet.directory / "body.json").write_bytes(body)
        files = "etag off; open_file_cache max=4; try_files /body.json =404;"
        answer = f"root {fleet.directory}; {files}"
    server = start_nginx(fleet, "backend", core, {"port": port, "answer": answer})
    wait_until_ready(server, port, "/", None)
    return port


def start_nginx(
    fleet: Fleet, template: str, core: int, values: dict[str, object], name: str = ""
) -> Server:
    """Start nginx with peers/TEMPLATE.conf; `name` tells several of one template apart."""
    name = name or template
    directory = fleet.directory / name
    directory.mkdir()
    values = {"dir": directory, "peers": PEERS, "user": _nginx_user(), "extra": "", **values}
    path = render(PEERS / f"{template}.conf", directory, values)
    nginx = find("nginx") or "nginx"
    return fleet.start(name, [nginx, "-p", str(directory), "-c", str(path)], core)


def render(template: Path, directory: Path, values: dict[str, object]) -> Path:
    """Fill @name@ places of a template; returns the file's path in the directory."""
    text = template.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = directory / template.name
    path.write_text(text)
    return path


def start(name: str, stage: Stage) -> Contestant:
    """Start a contestant by name; it answers with 200 when this returns. Raises BenchError."""
    return _STARTERS[name](stage)


def prove(contestant: Contestant, stage: Stage, path: str, body: bytes) -> None:
    """Raises BenchError unless the contestant does what is claimed of it."""
    name = contestant.name
    answer = ask(contestant.port, path, stage.key)
    if answer.status != 200 or answer.body != body:
        raise BenchError(f"{name} answers {answer.status} {answer.body[:200]!r}")
    if name in CHECKS_KEYS and (status := ask(contestant.port, path, None).status) != 401:
        raise BenchError(f"{name} answers {status} without a key, not 401")
    if name == "tallygate":
        missing = [header for header in FULL_PRODUCT_HEADERS if header not in answer.headers]
        if missing:
            raise BenchError(f"not the full product: no {', '.join(missing)} in the answer")


def start_tallygate(stage: Stage, setup: GatewaySetup) -> Contestant:
    """Start the gateway with a setup of its own and wait until /readyz says 200."""
    server = launch_tallygate(stage, setup)
    wait_until_ready(server, setup.admin_port, "/readyz", None, READY_WAIT_S)
    return Contestant("tallygate", server, setup.port)


def launch_tallygate(stage: Stage, setup: GatewaySetup) -> Server:
    """Start the gateway and return at once."""
    config = write_config(setup)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return stage.fleet.start(
        setup.directory.name,
        [stage.python, "-m", "gateway", "serve", "--config", str(config)],
        stage.gateway_core,
        {"PYTHONPATH": path},
    )


def setup_tallygate(stage: Stage, name: str = "tallygate") -> GatewaySetup:
    """The usual setup, on free ports, in a directory of its own."""
    return GatewaySetup(
        directory=stage.directory / name,
        port=free_port(),
        admin_port=free_port(),
        backend_port=stage.backend_port,
        routes=stage.routes,
        key=stage.key,
    )


def _tallygate(stage: Stage) -> Contestant:
    return start_tallygate(stage, setup_tallygate(stage))


def _openresty(stage: Stage) -> Contestant:
    limits = "hourly=1000000000000, weekly=1000000000000, cost=1"
    entry = f'{{account="bench", user="wrk", {limits}}}'
    # Where the template's lua_package_path looks.
    keys = stage.directory / "openresty_keys.lua"
    keys.write_text(f'return {{["{stage.key}"] = {entry}}}\n')
    return _nginx_contestant("openresty", stage)


def _nginx(stage: Stage) -> Contestant:
    return _nginx_contestant("nginx", stage)


def _nginx_contestant(name: str, stage: Stage) -> Contestant:
    port = free_port()
    values: dict[str, object] = {"port": port, "backend": stage.backend_port}
    server = start_nginx(stage.fleet, name, stage.gateway_core, values)
    wait_until_ready(server, port, "/", stage.key)
    return Contestant(name, server, port)


def _caddy(stage: Stage) -> Contestant:
    port = free_port()
    values: dict[str, object] = {"port": port, "backend": stage.backend_port, "key": stage.key}
    path = render(PEERS / "Caddyfile", stage.directory, values)
    home = str(stage.directory)
    server = stage.fleet.start(
        "caddy",
        [find("caddy") or "caddy", "run", "--config", str(path), "--adapter", "caddyfile"],
        stage.gateway_core,
        {"GOMAXPROCS": "1", "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home},
    )
    wait_until_ready(server, port, "/", stage.key)
    return Contestant("caddy", server, port)


def _aiohttp_naive(stage: Stage) -> Contestant:
    port = free_port()
    backend = f"http://127.0.0.1:{stage.backend_port}"
    command = [stage.python, str(PEERS / "aiohttp_naive.py"), str(port), backend]
    server = stage.fleet.start("aiohttp_naive", command, stage.gateway_core)
    wait_until_ready(server, port, "/", stage.key)
    return Contestant("aiohttp_naive", server, port)


def _nginx_user() -> str:
    """Workers keep root's rights where the master has them: the directory is private."""
    return "user root;" if os.geteuid() == 0 else ""


_STARTERS: dict[str, Callable[[Stage], Contestant]] = {
    "tallygate": _tallygate,
    "openresty": _openresty,
    "caddy": _caddy,
    "aiohttp_naive": _aiohttp_naive,
    "nginx": _nginx,
}
