"""An account's document, as this process finds it.

Question: what does it say, and what of it is nobody's any more? It is begun where there
is none. A process that ends without a word leaves holds that nobody renews: they are free,
and what was posted from one counts only if the request came to its end. Must not know
the copy.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from gateway.state.shared.document import Document, Record, StakeRow, read, take_back
from gateway.state.shared.link import Link, Reply
from gateway.state.shared.outside import Outside


class Reader:
    """Of one account's document, for one process of a gateway."""

    __slots__ = ("_link", "_key", "_waiting_key", "_account_id", "_owner", "_life", "_outside",
                 "_found")  # fmt: skip

    def __init__(
        self,
        link: Link,
        tag: str,
        account_id: str,
        owner: str,
        life: str,
        outside: Outside,
    ) -> None:
        """What this gateway holds is of lives that begin with `owner`, and with `life` if it is
        of this process.
        """
        self._link = link
        self._key = f"{tag}a:{account_id}"
        self._waiting_key = f"{tag}w:{account_id}:"  # and the epoch
        self._account_id = account_id
        self._owner = owner
        self._life = life
        self._outside = outside
        self._found: Document | None = None  # told with a reply, and not yet taken

    def told(self, reply: Reply) -> None:
        """What the script said when it did not write: the newer document, if there is one."""
        self._found = read(reply[1]) if reply[0] == 2 else None

    async def read(self) -> Document:
        """As the server has it."""
        document, self._found = self._found, None
        if document is not None:
            return document
        while True:
            reply = await self._link.ask(["look", self._key], (self._key,))
            if reply[0] == 3:
                epoch = self._link.epoch
                fields = await self._outside.standing(self._account_id)
                body: list[Any] = ["open", self._key, self._waiting_key, fields, epoch]
                reply = await self._link.ask(body, (self._key,))
            if reply[0] == 2:
                return read(reply[1])
            # Else another epoch began: what was read may be older than that.

    async def records_of_those_there(
        self, document: Document, own: Container[str], now_us: int
    ) -> dict[str, Record]:
        """Without holds that are nobody's; what they posted is taken back from the document.

        `own` are ids of holds that this process has.
        """
        records = {}
        for hold_id, record in document.records.items():
            is_over = record.ends_us < now_us or self._is_left(record.owner)
            if not is_over or hold_id in own:
                records[hold_id] = record
            elif record.posted and not await self._outside.has_event(self._account_id, record):
                take_back(document, record)
        return records

    def stakes_of_those_there(
        self, document: Document, own: Container[str], now_us: int
    ) -> dict[str, StakeRow]:
        """`own` are the lives of stakes that this process has."""
        return {
            life: row
            for life, row in document.stakes.items()
            if life in own or not (row.ends_us < now_us or self._is_left(life))
        }

    def _is_left(self, life: str) -> bool:
        """Whether it is of an earlier process of this gateway."""
        return life.startswith(f"{self._owner}/") and not life.startswith(self._life)
