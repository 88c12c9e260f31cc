"""A gateway in a process of its own: signals, open files, the exit code."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path

import uvloop

from gateway.app import Gateway
from gateway.config import Loaded
from gateway.config.reload import log_warnings
from gateway.journal.errors import JournalError
from gateway.log import LogThread
from gateway.proxy.server import ParserMissing, require_c_parser
from gateway.state.shared.link import StateUnavailable
from gateway.store.base import StoreError
from gateway.store.database import ERRORS

# What stops a start, and is said in one line.
NOT_STARTED = (StoreError, *ERRORS, StateUnavailable, JournalError, ParserMissing, OSError)


def run(config: Path, loaded: Loaded, *, log_level: str = "info") -> int:
    """Run a gateway until SIGTERM or SIGINT; the exit code."""
    log = LogThread(log_level)
    try:
        require_c_parser()
        log_warnings(loaded, log)
        return uvloop.run(_main(Gateway(config, os.environ, log, loaded.book)))
    except NOT_STARTED as exc:
        log("not_started", level="error", error=str(exc), kind=type(exc).__name__)
        return 1
    finally:
        log.close()


async def _main(gateway: Gateway) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    raise_open_files()
    await gateway.start()
    await ended.wait()
    await gateway.stop()
    return 0


def raise_open_files() -> None:
    """Two sockets a request: take as many descriptors as the system gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
