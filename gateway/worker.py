"""`python -m gateway.worker FD`: one of several gateways that share their ports.

Started by the supervisor, whose end of the channel is the reason to live: when it is gone,
this process drains and ends, so that no orphan serves on. SIGTERM drains it alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from gateway.api.place import open_holds
from gateway.app import Gateway
from gateway.log import LogThread
from gateway.process import NOT_STARTED, raise_open_files
from gateway.proxy.server import require_c_parser
from gateway.workers.channel import ASK_S, Channel
from gateway.workers.pulse import SHIP_S
from gateway.workers.siblings import Siblings, Start

# What a worker that is killed has counted since is missing from the sums; and who says nothing
# for many times as long is taken to hang (workers/pulse.py).
TELL_S = 1.0


class Worker:
    """Answers the supervisor for a gateway."""

    def __init__(self, gateway: Gateway, channel: Channel) -> None:
        self.ended = asyncio.Event()
        self.hurry = asyncio.Event()  # whoever is connected and asks nothing has to go
        self._gateway = gateway
        self._channel = channel

    async def serve(self, what: str, argument: Any) -> Any:
        """What the supervisor says and asks; the names are methods below."""
        return await getattr(self, f"_{what}")(argument)

    async def _stop(self, stay_s: float) -> None:
        self.end(stay_s)

    def end(self, stay_s: float = 0.0) -> None:
        """Drain; for so long clients may stay until their next request, which is the last."""
        if stay_s:
            asyncio.get_running_loop().call_later(stay_s, self.hurry.set)
        else:
            self.hurry.set()
        self.ended.set()

    async def _use(self, argument: Any) -> list[str]:
        book, announces = argument
        return self._gateway.use(book, announces)

    async def _adopt(self, folder: str) -> None:
        await self._gateway.adopt(folder)

    async def _figures(self, _: None) -> None:
        """Told before it is answered: in the order of all that is told."""
        self._channel.tell("figures", self._gateway.counted())

    async def _holds(self, _: None) -> list[tuple[Any, ...]]:
        return [tuple(hold) for hold in open_holds(self._gateway)]

    async def _ship(self, _: None) -> None:
        """What is closed here goes to the store now; or it is in trouble, and nobody waits."""
        shipper = self._gateway.shipper
        if shipper.lag().trouble:
            return
        reached = shipper.reached(self._gateway.journal.last_seq)
        await asyncio.wait_for(asyncio.wrap_future(reached), ASK_S)

    async def _changed(self, _: None) -> None:
        if self._gateway.fleet is not None:
            await self._gateway.fleet.hear()

    async def tell_figures(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            await self._figures(None)


async def _main(end: socket.socket) -> int:
    channel = await Channel.over(end)
    start: Start = (await channel.receive()).argument
    log = LogThread(start.log_level, worker=start.number)
    try:
        return await _run(start, channel, log)
    except NOT_STARTED as exc:
        channel.tell("failed", f"{type(exc).__name__}: {exc}")
        return 1
    finally:
        await channel.close()
        log.close()


async def _run(start: Start, channel: Channel, log: LogThread) -> int:
    require_c_parser()
    raise_open_files()
    siblings = Siblings(start, channel)
    gateway = Gateway(Path(), os.environ, log, start.book, siblings)
    worker = Worker(gateway, channel)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.end)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's go to all, and are for one
        loop.add_signal_handler(number, lambda: None)
    await gateway.start()
    channel.tell("started", None)
    serving = loop.create_task(channel.run(worker.serve))
    serving.add_done_callback(lambda _: worker.end())
    telling = loop.create_task(worker.tell_figures())
    await worker.ended.wait()
    if serving.done():
        log("supervisor_gone", level="warning")
    channel.tell("draining", gateway.book.server.drain_timeout_s + SHIP_S)
    await gateway.stop(worker.hurry)
    telling.cancel()
    await worker.serve("figures", None)
    return 0


def main() -> int:
    """Serve until told to end; the exit code."""
    return uvloop.run(_main(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    sys.exit(main())
