"""What a step says that cannot go on before something is known."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


class NotLoaded(Exception):
    """The answer is on its way: wait for the future, then ask again. No failure by itself."""

    def __init__(self, future: Future[Any]) -> None:
        super().__init__("the store is being asked")
        self.future = future
