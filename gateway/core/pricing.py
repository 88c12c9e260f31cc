"""What a request costs.

A price is compiled from a cost table entry at load. Amounts are integers in
the meter's smallest unit. A fixed price is known before forwarding; a measured
price (known only from the request's body or the answer) is another class with
the same two questions: what is reserved, what is settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Charge(NamedTuple):
    """An amount of one meter, in the meter's smallest unit, never negative."""

    meter: str
    amount: int


# (meter, amount) pairs as the request path passes them on.
Charges = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Price:
    """A fixed price in one or several meters; `()` is free.

    `charges` are kept as plain tuples, which the journal writes as they are.
    """

    charges: Charges = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "charges", tuple((m, amount) for m, amount in self.charges))

    @property
    def is_free(self) -> bool:
        return not self.charges


FREE = Price()
