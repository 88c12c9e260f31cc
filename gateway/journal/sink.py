"""What the shipper needs of a store, and nothing more.

`C` is the store's connection type. All methods are called by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

    def apply(self, batches: Iterable[Batch]) -> int:
        """Rows, sums and the applied sequence of all of them in one transaction.

        Returns the number of events. Raises the store's own error or the iterable's when it
        cannot, with nothing changed and the numbers of new labels void; ValueError when
        a batch does not follow the one before, or `applied_seq`.
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
