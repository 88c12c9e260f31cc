"""What a shared account asks of the rest of a gateway (gateway/fleet/fleet.py)."""

from __future__ import annotations

from typing import Protocol

from gateway.state.shared.document import Record


class Outside(Protocol):
    """What an account needs that is not the shared state's."""

    async def standing(self, account_id: str) -> list[str | int]:
        """The fields that a document begins with: rows, and how far each journal is in them."""
        ...

    async def has_event(self, account_id: str, record: Record) -> bool:
        """Whether a request that had this hold is in the store."""
        ...

    def reload(self, account_id: str) -> object:
        """Read the account's terms anew. Raises NotLoaded."""
        ...

    def now_us(self) -> int:
        """As the server's clock has it, as far as that is known."""
        ...
