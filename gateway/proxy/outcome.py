"""What can come of forwarding, and how it is settled."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import NamedTuple

from gateway.core.refusals import Refusal
from gateway.proxy.exchange import Exchange


class Failure(NamedTuple):
    """An exchange without an answer; `refusal` is None when nobody is there to hear it."""

    outcome: str
    refusal: Refusal | None


# Settles; a future when the disk must be waited for before the last byte.
Settle = Callable[[Exchange, str], Future[None] | None]
