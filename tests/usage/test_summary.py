"""A usage summary from given rows: figures, periods and percentages."""

from __future__ import annotations

from gateway.core.book import Account, Allowance, Meter, Plan
from gateway.core.periods import Period
from gateway.core.rows import BalanceRow
from gateway.store.reports import OperationRow, UsageRows
from gateway.usage.summary import current_periods, iso, percent, summarize

WEEK = 1_763_596_800_000_000  # Thursday 2025-11-20
ANCHOR = WEEK - 7 * 86_400_000_000 * 3
NOW = WEEK + 3 * 86_400_000_000
ACCOUNT = Account("acc", "free", ANCHOR)
PLAN = Plan("free", (Allowance("coins", 20, Period("week")),))
METERS = {
    "coins": Meter("coins", 0, "Coins"),
    "money": Meter("money", 2, "Money"),
    "idle": Meter("idle"),
}
ROWS = UsageRows(
    [
        BalanceRow("coins", WEEK, 23, 5),
        BalanceRow("coins", 1, 999, 0),
        BalanceRow("money", 0, 150, 0),
    ],
    [
        OperationRow("coins", WEEK, "Import", 4, 20),
        OperationRow("coins", WEEK, "REST API call", 3, 3),
        OperationRow("money", 0, "Import", 1, 150),
    ],
)


def test_periods_follow_the_accounts_anchor() -> None:
    assert current_periods(ACCOUNT, PLAN, METERS, NOW) == [
        ("coins", WEEK),
        ("money", 0),
        ("idle", 0),
    ]


def test_summary() -> None:
    shown = summarize(ACCOUNT, PLAN, METERS, ROWS, NOW)
    coins, money = shown.pop("meters")
    assert shown == {"account": "acc", "plan": "free", "time": "2025-11-23T00:00:00Z"}
    operations = coins.pop("operations")
    assert coins == {
        "meter": "coins",
        "title": "Coins",
        "decimals": 0,
        "used": 23,
        "topped_up": 5,
        "allowance": 20,
        "limit": 25,
        "remaining": 2,
        "overage": 0,
        "when_exhausted": "block",
        "period": {
            "kind": "week",
            "start": "2025-11-20T00:00:00Z",
            "end": "2025-11-27T00:00:00Z",
        },
    }
    assert operations == [
        {"operation": "Import", "count": 4, "amount": 20, "percent": "87.0"},
        {"operation": "REST API call", "count": 3, "amount": 3, "percent": "13.0"},
    ]
    assert money["used"] == "1.50"
    assert "allowance" not in money and "period" not in money


def test_overage_and_nothing_used() -> None:
    over = UsageRows([BalanceRow("coins", WEEK, 31, 0)], [])
    meter = summarize(ACCOUNT, PLAN, METERS, over, NOW)["meters"][0]
    assert (meter["remaining"], meter["overage"]) == (0, 11)
    empty = summarize(ACCOUNT, PLAN, METERS, UsageRows([], []), NOW)["meters"]
    assert [(m["meter"], m["used"], m["remaining"]) for m in empty] == [("coins", 0, 20)]
    assert summarize(ACCOUNT, None, METERS, UsageRows([], []), NOW)["meters"] == []


def test_texts() -> None:
    assert iso(1) == "1970-01-01T00:00:00.000001Z"
    assert [percent(1, 3), percent(2, 3), percent(0, 0), percent(5, 5)] == [
        *("33.3", "66.7", "0.0", "100.0")
    ]
