"""An account's balances: what admission decides on.

Reads through the caller's connection.
"""

from __future__ import annotations

from gateway.core.rows import BalanceRow
from gateway.store.database import Database

# Sought meter by meter: an account of hourly periods has thousands of rows a year.
SELECT_BALANCES = """
    WITH RECURSIVE meters(meter) AS (
        SELECT min(meter) FROM balances WHERE account = ?1
        UNION ALL
        SELECT (SELECT min(meter) FROM balances WHERE account = ?1 AND meter > meters.meter)
        FROM meters WHERE meter IS NOT NULL
    )
    SELECT b.meter, b.period_us, b.lot, b.used FROM meters CROSS JOIN balances b
        ON b.account = ?1 AND b.meter = meters.meter AND b.period_us >= ?2
    UNION ALL
    SELECT b.meter, b.period_us, b.lot, b.used FROM meters CROSS JOIN balances b
        ON b.account = ?1 AND b.meter = meters.meter AND b.period_us = 0
    WHERE ?2 > 0 AND (b.lot = '' OR substr(b.lot, 1, 1) = '@')
    UNION ALL
    SELECT meter, period_us, lot, used FROM balances INDEXED BY balances_by_lot
    WHERE account = ?1 AND lot != '' AND substr(lot, 1, 1) != '@' AND period_us < ?2
"""


def read_balances(connection: Database, account_id: str, since_us: int) -> list[BalanceRow]:
    rows = connection.execute(SELECT_BALANCES, (account_id, since_us)).fetchall()
    return [BalanceRow(*row) for row in rows]
