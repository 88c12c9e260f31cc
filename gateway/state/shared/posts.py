"""Posts of one account: what this gateway's journal says, told in the order of its records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from gateway.state.shared.link import Link, Reply

AGAIN_S = 0.5

Parts = list[tuple[str, int]]  # fields of the document, and amounts


class Posts:
    """`refresh` begins the document where there is none, and is done when there is one."""

    __slots__ = ("_link", "_key", "_journal", "_refresh", "_waiting")

    def __init__(
        self, link: Link, key: str, journal: str, refresh: Callable[[], asyncio.Future[Any]]
    ) -> None:
        self._link = link
        self._key = key
        self._journal = journal
        self._refresh = refresh
        self._waiting: list[list[Any]] = []  # while there is no document

    def tell(
        self,
        hold_id: str,
        seq: int,
        held: Parts | Literal[0],
        used: Parts,
        gauges: list[str],
    ) -> None:
        """Post what the journal has as record `seq`; 0: nothing, the hold is given back.

        held 0: as the hold says, whose process has ended. gauges: keys of limits of requests
        in flight.
        """
        body = ["post", self._key, hold_id, self._journal, seq, held, used, gauges]
        if self._waiting:
            self._waiting.append(body)  # records are posted in their order
        else:
            self._send(body)

    def _send(self, body: list[Any]) -> None:
        def then(reply: Reply) -> None:
            if reply[0] == 3 and body[4]:
                self._waiting.append(body)
                if len(self._waiting) == 1:
                    self._send_later()

        self._link.tell(body, (self._key, *body[7]), then)

    def _send_later(self) -> None:
        """There is no document any more; the next one tells whether the store had the event."""

        def again(done: asyncio.Future[Any]) -> None:
            if done.exception() is not None:
                asyncio.get_running_loop().call_later(AGAIN_S, self._send_later)
                return
            bodies, self._waiting = self._waiting, []
            for body in bodies:
                self._send(body)

        self._refresh().add_done_callback(again)
