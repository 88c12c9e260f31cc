"""/healthz, /readyz and /metrics on the admin listener.

`healthz`: the process runs and its loop turns. `readyz`: it should get traffic
(not draining, journal has room, the shipper keeps up); `?exclude=store` leaves out what
befalls all gateways of a fleet at once. `metrics`: the figures of proxy/tally.py in
Prometheus' text format, made only when asked for. Labels are routes, outcomes, statuses
and codes; never accounts, keys or paths.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from gateway.proxy.tally import BUCKETS_US, Tally
from gateway.workers.siblings import FiguresMissing

# Made for each scrape. Raises FiguresMissing.
Collect = Callable[[], Awaitable[Collector]]
Readiness = Callable[[], list[str]]

GAUGES = {
    "connections": "Client connections that are open.",
    "in_flight": "Requests that are on their way.",
    "upstream_connections": "Connections to backends that are open.",
    "upstream_idle": "Connections to backends that wait for use.",
    "journal_unshipped_bytes": "Bytes of the journal that are not in the store yet.",
    "journal_unshipped_records": "Records of the journal that are not in the store yet.",
    "journal_full": "1 while the journal cannot take another request; of workers, how many.",
    "state_away": "1 while some of the shared state does not answer; of workers, how many.",
    "accounts_loaded": "Accounts held in memory, by each worker that has called for them.",
    "workers": "Processes that serve on these listeners.",
    "book_info": "The price book in force; always 1.",
}


class TallyCollector(Collector):
    """Turns the plain figures into Prometheus families at scrape time."""

    def __init__(
        self, tally: Tally, figures: dict[str, float], book_version: str, restarts: int
    ) -> None:
        self._tally = tally
        self._figures = figures
        self._book_version = book_version
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        yield from self._routes()
        refusals = CounterMetricFamily(
            "tallygate_refusals", "Requests refused.", labels=["route", "code"]
        )
        for (route, code), count in list(self._tally.refusals.items()):
            refusals.add_metric([route, code], count)
        yield refusals
        for counter, total, text in (
            ("unmetered_requests", self._tally.unmetered_requests,
             "Requests forwarded without a record, because the journal was full."),
            ("unpriced_requests", self._tally.unpriced_requests,
             "Requests that no route names and that passed free."),
            ("internal_errors", self._tally.internal_errors, "Faults of the gateway itself."),
            ("worker_restarts", self._restarts, "Workers that ended and were started again."),
        ):  # fmt: skip
            yield CounterMetricFamily(f"tallygate_{counter}", text, value=total)
        info = GaugeMetricFamily("tallygate_book_info", GAUGES["book_info"], labels=["version"])
        info.add_metric([self._book_version], 1)
        yield info
        for name, value in self._figures.items():
            yield GaugeMetricFamily(f"tallygate_{name}", GAUGES[name], value=value)

    def _routes(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "tallygate_requests", "Requests that were forwarded, by how they ended.",
            labels=["route", "outcome", "status"],
        )  # fmt: skip
        seconds = HistogramMetricFamily(
            "tallygate_request_duration_seconds", "From the head to the settlement.",
            labels=["route"],
        )  # fmt: skip
        received = CounterMetricFamily(
            "tallygate_request_body_bytes", "Request bodies.", labels=["route"]
        )
        sent = CounterMetricFamily(
            "tallygate_response_body_bytes", "Answer bodies.", labels=["route"]
        )
        charged = CounterMetricFamily(
            "tallygate_charged_units", "Charges in the meter's smallest unit.",
            labels=["route", "meter"],
        )  # fmt: skip
        for name, route in list(self._tally.routes.items()):
            for (outcome, status), count in list(route.outcomes.items()):
                requests.add_metric([name, outcome, str(status)], count)
            seconds.add_metric([name], _cumulative(route.buckets), route.duration_us / 1e6)
            received.add_metric([name], route.bytes_in)
            sent.add_metric([name], route.bytes_out)
            for meter, amount in list(route.charged.items()):
                charged.add_metric([name, meter], amount)
        return iter((requests, seconds, received, sent, charged))


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    """Prometheus' buckets count everything up to their bound."""
    rows: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*BUCKETS_US, None), buckets, strict=True):
        total += count
        rows.append(("+Inf" if bound is None else str(bound / 1e6), total))
    return rows


def add_health_routes(app: web.Application, collect: Collect, problems: Readiness) -> None:
    """Mount the three paths."""

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        excluded = request.query.getall("exclude", [])
        found = [text for text in problems() if text.partition(":")[0] not in excluded]
        body: dict[str, Any] = {"status": "not ready" if found else "ready", "problems": found}
        return web.json_response(body, status=503 if found else 200)

    async def metrics(request: web.Request) -> web.Response:
        registry = CollectorRegistry()
        try:
            registry.register(await collect())
        except FiguresMissing as missing:
            return web.Response(status=503, text=f"{missing}\n")
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
