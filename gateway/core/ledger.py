"""One account's balance of one meter in one period: hold, post, void.

Invariant: `used + held <= granted` whenever the allowance blocks. A hold is
taken before a request is forwarded and either posted (with the exact figure)
or voided, once. A new period is a new `Balance`; a hold keeps the balance it
was taken from, so an event always belongs to the period it was admitted in.
Amounts are integers in the meter's smallest unit. Must not know the clock.
"""

from __future__ import annotations

from gateway.core.periods import Span

# Beyond this an integer is no longer exact in JSON readers and in Lua.
AMOUNT_MAX = 2**53 - 1


class Balance:
    """`granted` None: counted without a limit."""

    __slots__ = (
        "meter",
        "span",
        "end_us",
        "granted",
        "topped_up",
        "used",
        "held",
        "overage",
        "status",
    )

    def __init__(
        self,
        meter: str,
        span: Span,
        granted: int | None,
        *,
        topped_up: int = 0,
        used: int = 0,
        overage: bool = False,
        status: int = 429,
    ) -> None:
        self.meter = meter
        self.span = span
        self.end_us = span.end_us  # looked at by every request
        self.granted = granted
        self.topped_up = topped_up
        self.used = used
        self.held = 0
        self.overage = overage
        self.status = status

    def __repr__(self) -> str:
        limit = "unlimited" if self.granted is None else self.granted + self.topped_up
        return f"<Balance {self.meter} {self.used}+{self.held}/{limit}>"

    @property
    def remaining(self) -> int | None:
        """What may still be reserved; never negative, None without a limit."""
        if self.granted is None:
            return None
        return max(0, self.granted + self.topped_up - self.used - self.held)

    def fits(self, amount: int) -> bool:
        """Whether `amount` may be reserved now."""
        if self.used + self.held + amount > AMOUNT_MAX:
            return False
        if self.granted is None or self.overage:
            return True
        return self.used + self.held + amount <= self.granted + self.topped_up

    def hold(self, amount: int) -> None:
        self.held += amount

    def post(self, held: int, amount: int) -> None:
        """Turn a hold of `held` into a charge of `amount`."""
        assert self.held >= held, "posted more than was held"
        self.held -= held
        self.used += amount

    def void(self, held: int) -> None:
        """Give a hold back."""
        assert self.held >= held, "voided more than was held"
        self.held -= held
