"""Logging: facts as JSON lines on stderr, written off the event loop's thread.

`log("event", name=value, ...)` puts a line on a queue; a thread formats and
writes it. A full queue drops lines and says how many: the log may never hold
the request path up. Must not know what is logged.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from typing import Any

import structlog

QUEUE_MAX = 10_000  # lines waiting; about 5 MB


class LogThread:
    """Writes what `log` is called with, in order. One per process."""

    def __init__(self, level: str = "info", **facts: Any) -> None:
        """`facts` stand in every line."""
        self._level = logging.getLevelName(level.upper())
        self._queue: queue.Queue[tuple[str, str, dict[str, Any]] | None] = queue.Queue(QUEUE_MAX)
        self._dropped = 0
        self._logger = structlog.wrap_logger(
            structlog.WriteLogger(sys.stderr),  # a line at once, where several processes write
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(self._level),
            cache_logger_on_first_use=True,
            **facts,
        )
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __call__(self, event: str, *, level: str = "info", **facts: Any) -> None:
        if logging.getLevelName(level.upper()) < self._level:
            return
        try:
            self._queue.put_nowait((level, event, facts))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join(5.0)

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            level, event, facts = item
            getattr(self._logger, level)(event, **facts)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._logger.warning("log_lines_dropped", lines=dropped)
