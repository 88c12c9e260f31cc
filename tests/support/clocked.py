"""A real gateway in a thread of the tests, with a clock that the test moves.

Everything is as in a process of its own: listeners, journal, store, admin API.
Only the clock is the test's: it stands still until it is moved, so a period's
last microsecond can be asked for, and weeks pass at once.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from gateway.app import Gateway

T = TypeVar("T")
_WAIT_S = 20.0


class Clock:
    """Microseconds since the epoch, UTC; stands still."""

    def __init__(self, at: str) -> None:
        self.now_us = instant_us(at)

    def __call__(self) -> int:
        return self.now_us

    def __repr__(self) -> str:
        return f"<Clock {self.text}>"

    @property
    def text(self) -> str:
        return datetime.fromtimestamp(self.now_us / 1e6, UTC).isoformat()

    def go_to(self, at: str, *, less_us: int = 0) -> None:
        """An instant, or so many microseconds before it; never back."""
        to_us = instant_us(at) - less_us
        assert to_us >= self.now_us, f"{at} is before {self.text}"
        self.now_us = to_us

    def go_on(self, *, days: float = 0, hours: float = 0, seconds: float = 0, us: int = 0) -> None:
        self.now_us += round((days * 86_400 + hours * 3600 + seconds) * 1_000_000) + us


def instant_us(text: str) -> int:
    """`2026-03-02T09:00:00Z`, or a date, in microseconds since the epoch."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


class Notes:
    """Takes what the gateway logs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __call__(self, event: str, *, level: str = "info", **facts: Any) -> None:
        self.lines.append((level, event, facts))

    @property
    def errors(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [line for line in self.lines if line[0] == "error"]


class Clocked:
    """One gateway on a configuration file; `start` and `stop` may alternate."""

    def __init__(self, config: Path, directory: Path, env: Mapping[str, str], at: str) -> None:
        self.config = config
        self.data_dir = directory / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.clock = Clock(at)
        self.notes = Notes()
        self._env = {**env, "PORT": "0", "ADMIN_PORT": "0", "DATA_DIR": str(self.data_dir)}

    def start(self) -> Clocked:
        """Serve on free ports. Raises what the gateway's own start raises."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="gateway", daemon=True)
        self._thread.start()
        self.gateway = Gateway(self.config, self._env, self.notes)  # type: ignore[arg-type]
        self.gateway.now_us = self.clock
        try:
            self._run(self._start())
        except BaseException:
            self._end_loop()
            raise
        return self

    async def _start(self) -> None:
        thresholds = gc.get_threshold()
        await self.gateway.start()
        gc.set_threshold(*thresholds)  # the tests' process is not the gateway's own
        gc.unfreeze()
        self.gateway.proxy.now_us = self.gateway.server.now_us = self.clock

    def stop(self) -> None:
        """A clean end, as SIGTERM brings it about."""
        self._run(self.gateway.stop())
        self._end_loop()

    def _end_loop(self) -> None:
        self._run(self.loop.shutdown_asyncgens())
        self._run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_WAIT_S)
        self.loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_WAIT_S)

    @property
    def port(self) -> int:
        return self.gateway.proxy_port
