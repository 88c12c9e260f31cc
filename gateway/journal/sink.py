"""What the shipper needs of a store, and nothing more.

`C` is the store's connection type. All methods are called by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from gateway.core.batch import Batch

C = TypeVar("C", covariant=True)
T = TypeVar("T")


class Sink(Protocol[C]):
    @property
    def journal_id(self) -> str: ...

    @property
    def applied_seq(self) -> int:
        """The last record that is committed."""
        ...

    def apply(self, batch: Batch) -> None:
        """Rows, sums and the applied sequence in one transaction, all or nothing.

        The batch is used up, whatever happens.

        Raises the store's own error when it cannot, with nothing changed; ValueError when
        the batch does not follow `applied_seq`.
        """
        ...

    def run(self, change: Callable[[C], T]) -> T:
        """A change in a transaction of its own, on disk when this returns."""
        ...

    def snapshot(self) -> C:
        """A read connection that sees what is committed now, until it is closed."""
        ...

    def make_durable(self) -> None:
        """Whatever is committed is on disk when this returns; raises when it is not."""
        ...
