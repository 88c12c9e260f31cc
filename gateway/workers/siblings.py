"""What a worker is given, and how it asks the other workers of its machine.

A worker is a gateway of its own that shares its ports; what only its process knows, its
metrics and open holds, is asked of all by way of the supervisor. Must not know what is
asked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.core.book import Book
from gateway.core.reload import Heard
from gateway.workers.channel import ASK_S, Channel, ChannelClosed, NotAnswered
from gateway.workers.figures import Figures, Gathered

RELOAD_S = 60.0  # for the supervisor to load a configuration and give it to all
GATHER_S = 2 * ASK_S  # the supervisor waits for each at the same time


class FiguresMissing(Exception):
    """A part of the sum would be less than what was said before."""


class Start(NamedTuple):
    """The first message to a worker."""

    number: int  # from 1
    book: Book  # with the ports that were found, and this worker's own journal
    token: str  # of the command line, the same for all
    left: tuple[str, ...]  # journals' folders that this worker is to bring into the store
    log_level: str


class Siblings:
    """The other workers, as one of them sees them."""

    def __init__(self, start: Start, channel: Channel) -> None:
        self.start = start
        self._channel = channel

    @property
    def number(self) -> int:
        """Of this worker, from 1."""
        return self.start.number

    async def ask(self, what: str) -> list[Any]:
        """What the others say; who does not answer in time is left out."""
        try:
            found: list[Any] = await self._channel.ask("others", what, GATHER_S)
        except (ChannelClosed, NotAnswered, TimeoutError):
            return []  # the supervisor has ended, and so will this worker
        return found

    async def reload(self, heard: Heard) -> None:
        """Another machine's gateways have a new configuration. Raises TimeoutError."""
        try:
            await self._channel.ask("reload", heard, RELOAD_S)
        except (ChannelClosed, NotAnswered):
            return  # it has ended, or says in its log why not

    async def gather(self, own: Figures) -> Gathered:
        """The metrics of all. What is shown has been told before, so no sum goes back.

        Raises FiguresMissing.
        """
        try:
            found: Gathered = await self._channel.ask("sum", own, GATHER_S)
        except (ChannelClosed, NotAnswered, TimeoutError) as error:
            raise FiguresMissing(f"the supervisor does not answer: {error!r}") from None
        return found
