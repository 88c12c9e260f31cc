"""Whatever happens to an account, its spending cap counts what the invoice will bill.

The hot state remembers what it needs while it runs; the invoice is worked out from the
store, stretch by stretch. After every step both must say the same, also after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core.book import Plan
from gateway.core.periods import DAY_US, HOUR_US, WEEK_US, Period
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from tests.state.stage import DAY, WEEK, Stage, allowance, priced, us

START = us("2026-01-27T07:00")  # a Tuesday; weeks run over the ends of months
PLANS = (
    Plan("weekly", (allowance("coins", 7, WEEK, on_exhausted="overage", overage=priced(1)),)),
    Plan("trial", (allowance("coins", 4, WEEK, overage=priced(3)),), billing="trial"),
    Plan("off", (allowance("coins", 5, WEEK, overage=priced(3)),), billing="off"),
    Plan(
        "later",
        (allowance("coins", 9, WEEK, overage=priced(5, 2)),),
        on_leave="next_period",
    ),
    Plan("daily", (allowance("coins", 3, DAY, rollover=4, overage=priced(2)),)),
    Plan("ever", (allowance("coins", 20, Period("ever"), overage=priced(1)),)),
    Plan("free", (allowance("coins", 50, WEEK),), billing="free"),
)


class Bills(RuleBasedStateMachine):
    make_stage: Callable[..., Stage] = Stage

    def __init__(self) -> None:
        super().__init__()
        self.stage = type(self).make_stage(*PLANS, from_us=START, anchor_us=START)
        self.now_us = START
        self.open: list[Hold] = []
        self.made = 0

    @rule(coins=st.integers(1, 30))
    def spend(self, coins: int) -> None:
        """An estimate of nothing that comes to more: as far as it goes, and past it."""
        hold = self.stage.admit(self.now_us, ("coins", 0))
        if isinstance(hold, Hold):
            self.stage.settle(hold, (("coins", coins),))

    @rule()
    def begin(self) -> None:
        """Nothing is reserved: what is would not be carried over, and the store knows no holds."""
        hold = self.stage.admit(self.now_us, ("coins", 0))
        if not isinstance(hold, Refusal):
            self.open.append(hold)

    @precondition(lambda self: self.open)
    @rule(coins=st.integers(0, 30))
    def end(self, coins: int) -> None:
        self.stage.settle(self.open.pop(0), (("coins", coins),))

    @rule(step_us=st.sampled_from([HOUR_US, DAY_US, 2 * DAY_US, WEEK_US]))
    def wait(self, step_us: int) -> None:
        self.now_us += step_us

    @rule(plan=st.sampled_from([plan.name for plan in PLANS]))
    def change_plan(self, plan: str) -> None:
        self._change(plan=plan)

    @rule(overage=st.sampled_from([None, True, False]))
    def switch_overage(self, overage: bool | None) -> None:
        self._change(overage=overage)

    def _change(self, **fields: Any) -> None:
        self.now_us += 1
        self.stage.change(self.now_us, **fields)
        self.stage.balance(self.now_us)

    @rule(amount=st.integers(-5, 15))
    def top_up(self, amount: int) -> None:
        self.made += 1
        self.now_us += 1
        self.stage.give(f"e{self.made}", amount, self.now_us, kind="topup", lot="")

    @precondition(lambda self: not self.open)
    @rule()
    def crash(self) -> None:
        self.stage.restart()

    @invariant()
    def the_cap_counts_what_the_invoice_bills(self) -> None:
        spent = self.stage.hot.spending(self.stage.state, self.now_us).spent
        assert spent == self.stage.invoiced_micro(self.now_us)


TestBills = Bills.TestCase
TestBills.settings = settings(max_examples=1_000, stateful_step_count=30, deadline=None)
