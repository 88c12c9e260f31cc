"""What does the gateway under test run with? The full product, as YAML.

Key by hash, a table of routes, an hourly limit and a weekly budget that are
counted but never reached, the durable journal and the store, RateLimit and
budget headers, request id, metrics on the admin listener. Defaults are left
alone wherever the benchmark has no reason to name them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from gateway.core.identity import format_key

# Counted on every request, reached by none; the hourly one is the highest that is allowed.
ALLOWANCE = 1_000_000_000_000
HOURLY = 1_000_000_000


@dataclass(frozen=True, slots=True)
class GatewaySetup:
    """Everything the generated configuration depends on."""

    directory: Path  # of gateway.yaml and the data
    port: int
    admin_port: int
    backend_port: int
    routes: int = 60
    key: str | None = None  # declared in the YAML; None: keys are in the store only
    transfers: bool = False  # one route more, for large bodies
    priced: bool = False  # two routes more, one of them with a measured price
    store_url: str = ""  # of a PostgreSQL database, instead of the file
    state_url: str = ""  # of a Redis or Valkey server
    workers: int = 1

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.directory / "data" / "tallygate.db"


def bench_key() -> str:
    """The key all contestants are called with: valid in form, always the same."""
    return format_key("test", hashlib.sha256(b"tallygate bench").digest())


def route_paths(routes: int) -> list[str]:
    """A path that is answered by each route of the table, in its order."""
    return [_route(number)[1] for number in range(routes)]


def measured_path(routes: int) -> str:
    """The one path of the main benchmark: a route with a parameter, mid-table."""
    middle = routes // 2
    return next(path for n in range(middle, middle + 3) if (path := _route(n)[1]).endswith("/42"))


def write_config(setup: GatewaySetup) -> Path:
    """Write gateway.yaml into the directory; returns its path."""
    setup.directory.mkdir(parents=True, exist_ok=True)
    path = setup.directory / "gateway.yaml"
    path.write_text(
        _HEAD.format(s=setup, data=setup.store.parent, allowance=ALLOWANCE, hourly=HOURLY)
    )
    with path.open("a") as file:
        if setup.key is not None:
            file.write(_KEY.format(digest=hashlib.sha256(setup.key.encode()).hexdigest()))
        file.write("routes:\n")
        for number in range(setup.routes):
            template, _ = _route(number)
            file.write(_ROUTE.format(number=number, template=template))
        if setup.transfers:
            file.write(_TRANSFERS)
        if setup.priced:
            file.write(_PRICED)
        if setup.store_url:
            file.write(f"store: {{url: {json.dumps(setup.store_url)}}}\n")
        if setup.state_url:
            prefix = f"bench-{setup.directory.name}"
            file.write(f"state: {{url: {json.dumps(setup.state_url)}, prefix: {prefix}}}\n")
            file.write(f"workers: {setup.workers}\n")
    return path


def _route(number: int) -> tuple[str, str]:
    """Template and a path it answers: by turns one of one parameter, exact, and two parameters."""
    base = f"/api/v{number % 4 + 1}/resource-{number}"
    match number % 3:
        case 0:
            return base + "/{id}", base + "/42"
        case 1:
            return base, base
        case _:
            return base + "/{id}/parts/{part}", base + "/42/parts/7"


_HEAD = """\
listeners:
  proxy: 127.0.0.1:{s.port}
  admin: 127.0.0.1:{s.admin_port}
data_dir: {data}
upstreams:
  backend:
    url: http://127.0.0.1:{s.backend_port}
identify:
  sources: [bearer]
  forward: {{account: X-Account, user: X-User, project: X-Project}}
meters:
  coins: {{title: Coins, decimals: 0}}
plans:
  bench:
    allowances:
      coins: {{amount: {allowance}, per: week, when_exhausted: block, status: 429}}
    limits:
      hourly: {hourly}/hour
default_plan: bench
accounts:
  bench: {{plan: bench, title: Bench, cycle_start: 2026-01-05T00:00:00Z}}
unmatched: {{action: refuse}}
"""

_KEY = """\
keys:
  - {{id: bench, account: bench, user: wrk, project: bench, hash: "sha256:{digest}"}}
"""

_ROUTE = """\
  - name: route-{number}
    match: GET {template}
    upstream: backend
    operation: REST API call
    price: {{coins: 1}}
"""

_TRANSFERS = """\
  - name: transfer
    match: GET,PUT /transfer/{path...}
    upstream: backend
    operation: Transfer
    price: {coins: 1}
"""

_PRICED = """\
  - name: priced-fixed
    match: GET /priced/fixed
    upstream: backend
    operation: Fixed
    price: {coins: 1}
  - name: priced-json
    match: GET /priced/json
    upstream: backend
    operation: Measured
    price: {coins: {per: 1000, of: answer.json:usage.total_tokens, reserve: 4000}}
"""
