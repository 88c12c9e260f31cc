"""Further allowances of a meter: each counts beside it in a period and a lot of its own."""

from __future__ import annotations

from gateway.core.book import Allowance
from gateway.core.ledger import Balance
from gateway.core.periods import Period
from gateway.core.rows import CAP_MARK, BalanceRow
from gateway.state.base import AccountState


def cap_of(
    state: AccountState, allowance: Allowance, now_us: int, rows: list[BalanceRow]
) -> Balance:
    """A further allowance of a meter, counted under a name of its own."""
    key = (allowance.meter, _cap_lot(allowance.period))
    cap, account = state.caps.get(key), state.account
    span = allowance.period.span(now_us, account.anchor_us, account.timezone)
    # A clock that goes back stays in the period it has reached.
    if cap is None or (cap.span != span and now_us >= cap.span.start_us):
        used = stored_of(rows, allowance.meter, span.start_us, key[1])
        cap = Balance(allowance.meter, span, None, used=used, lot=key[1])
        state.caps = {**state.caps, key: cap}
    cap.granted, cap.status = allowance.amount, allowance.status
    cap.overage = allowance.on_exhausted == "overage"
    cap.refresh()
    return cap


def _cap_lot(period: Period) -> str:
    """The lot name under which a further allowance of this period counts."""
    return f"{CAP_MARK}{period.kind}" + (f"{period.length_us}" if period.length_us else "")


def stored_of(rows: list[BalanceRow], meter: str, period_us: int, lot: str) -> int:
    return sum(
        row.used for row in rows if (row.meter, row.period_us, row.lot) == (meter, period_us, lot)
    )
