"""Everything that happens to an account in any order, against what it must add up to.

After every step: what was posted is what the balances say; nothing that blocks is
overspent; all units are used, held or left; and a hot state that is made anew from
what was stored, as after a crash, says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core.book import Plan
from gateway.core.ledger import Balance
from gateway.core.periods import DAY_US, HOUR_US, WEEK_US
from gateway.core.pricing import Counted, Rule
from gateway.core.refusals import Refusal
from gateway.state.base import Hold
from tests.state.stage import DAY, DOLLAR, MONTH, WEEK, Stage, allowance, priced, us

START = us("2026-01-28T07:00")
STEPS = Rule("coins", rate=(1, 10), counter="steps", id="agent")
CREDITS = allowance("credits", 30, MONTH)
PLANS = (
    Plan(
        "small",
        (allowance("coins", 6, DAY, rollover=9, per_seat=True), CREDITS),
        on_leave="next_period",
    ),
    Plan("large", (allowance("coins", 11, DAY, rollover=4), CREDITS), on_leave="next_period"),
    Plan("capped", (allowance("coins", 11, DAY), allowance("coins", 30, WEEK), CREDITS)),
    Plan("monthly", (allowance("coins", 25, MONTH, overage=priced(1)), CREDITS)),
    Plan("free", (allowance("coins", 5, DAY),), billing="free", on_leave="at_once"),
)


class Machine(RuleBasedStateMachine):
    make_stage: Callable[..., Stage] = Stage

    def __init__(self) -> None:
        super().__init__()
        self.stage = type(self).make_stage(*PLANS, from_us=START)
        self.now_us = START
        self.open: list[Hold] = []
        self.posted: list[tuple[Any, ...]] = []
        self.made = 0

    # -- requests -------------------------------------------------------------

    @rule(coins=st.integers(0, 12), credits=st.integers(0, 9), steps=st.integers(0, 25))
    def ask(self, coins: int, credits: int, steps: int) -> None:
        counted = (Counted(STEPS, steps),) if steps else ()
        before = self._figures(self.stage)
        charges = (("coins", coins), ("credits", credits))
        answer = self.stage.admit(self.now_us, *charges, counted=counted)
        if isinstance(answer, Refusal):
            assert self._figures(self.stage) == before
        else:
            self.open.append(answer)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        hold = self._take(data)
        charges = tuple(
            [(b.meter, data.draw(st.integers(0, amount))) for b, amount in hold.reserved]
        )
        counted = tuple(
            [
                Counted(count.share.rule, data.draw(st.integers(0, count.amount)))
                for count in hold.counts
            ]
        )
        over = {balance: balance.over for balance in self._balances(self.stage)}
        self.posted += self.stage.settle(hold, charges, counted)
        # Fewer seats may leave more used than there is; a request never does.
        assert all(balance.over <= before for balance, before in over.items())

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        self.stage.hot.release(self._take(data))

    def _take(self, data: st.DataObject) -> Hold:
        return self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))

    # -- time, plans, entries ---------------------------------------------------

    @rule(step_us=st.sampled_from([1, HOUR_US, 13 * HOUR_US, DAY_US, 3 * DAY_US, WEEK_US]))
    def wait(self, step_us: int) -> None:
        self.now_us += step_us

    @rule(plan=st.sampled_from([plan.name for plan in PLANS]))
    def change_plan(self, plan: str) -> None:
        self._only_more(plan=plan)

    @rule(seats=st.integers(1, 3))
    def change_seats(self, seats: int) -> None:
        self._only_more(seats=seats)

    @rule(cap_micro=st.sampled_from([None, DOLLAR]))
    def change_cap(self, cap_micro: int | None) -> None:
        self._only_more(cap_micro=cap_micro)

    def _only_more(self, **fields: Any) -> None:
        """Change the account; what is held is let go before, for it may not fit any more."""
        while self.open:
            self.stage.hot.release(self.open.pop())
        self.now_us += 1
        self.stage.change(self.now_us, **fields)
        self._figures(self.stage)

    @rule(amount=st.integers(1, 9))
    def top_up(self, amount: int) -> None:
        self._give(amount, kind="topup", lot="")

    @rule(
        amount=st.integers(1, 9),
        starts=st.sampled_from([0, HOUR_US]),
        lasts=st.sampled_from([None, HOUR_US, DAY_US, WEEK_US]),
        priority=st.integers(0, 2),
    )
    def buy(self, amount: int, starts: int, lasts: int | None, priority: int) -> None:
        starts_us = self.now_us + starts
        expires_us = None if lasts is None else starts_us + lasts
        self._give(amount, starts_us=starts_us, expires_us=expires_us, priority=priority)

    @rule(amount=st.integers(1, 5), every=st.sampled_from(["day", "week"]))
    def grant_again_and_again(self, amount: int, every: str) -> None:
        until_us = self.now_us + 2 * WEEK_US
        self._give(amount, kind="recurring", every=every, expires_us=until_us)

    def _give(self, amount: int, **more: Any) -> None:
        self.made += 1
        self.stage.give(f"e{self.made}", amount, self.now_us, **more)

    @rule()
    def crash(self) -> None:
        self.open.clear()
        self.stage.restart()

    # -- what must hold -----------------------------------------------------------

    def _balances(self, stage: Stage) -> list[Balance]:
        for meter in ("coins", "credits", "steps"):
            stage.balance(self.now_us, meter)
        live = [*stage.state.balances.values(), *stage.state.aside]
        return [*live, *(cap for balance in live for cap in balance.caps)]

    def _figures(self, stage: Stage) -> dict[str, Any]:
        self._balances(stage)
        figures: dict[str, Any] = {}
        for meter, balance in stage.state.balances.items():
            figures[meter] = (
                *(balance.span, balance.granted, balance.topped_up, balance.carried),
                *(balance.used, balance.held, balance.remaining, balance.rate),
                [(lot.id, lot.amount, lot.used) for lot in balance.lots],
                [(cap.lot, cap.span, cap.granted, cap.used, cap.held) for cap in balance.caps],
            )
        figures["money"] = stage.hot.spending(stage.state, self.now_us)
        return figures

    @invariant()
    def nothing_that_blocks_is_overspent(self) -> None:
        for balance in self._balances(self.stage):
            assert balance.held >= 0 and balance.used >= 0
            if balance.granted is not None:
                assert balance.held <= balance.own_left + balance.lots_left
            for lot in balance.lots:
                assert 0 <= lot.used <= lot.amount

    @invariant()
    def what_is_held_is_what_requests_hold(self) -> None:
        assert self.stage.state.in_flight == len(self.open)
        if not self.open:
            for balance in self._balances(self.stage):
                assert (balance.held, balance.shares, balance.late) == (0, (), ())

    @invariant()
    def events_add_up_to_balances(self) -> None:
        sums: dict[tuple[str, int, str], int] = {}
        for meter, amount, period_us, *lot in self.posted:
            key = (meter, period_us, lot[0] if lot else "")
            sums[key] = sums.get(key, 0) + amount
        assert sums == self.stage.store.sums
        for balance in self._balances(self.stage):
            key = (balance.meter, balance.span.start_us, balance.lot)
            assert balance.used == sums.get(key, 0)
            for source in balance.lots:
                key_of_lot = [n for (_, _, name), n in sums.items() if name == source.id]
                assert source.used == sum(key_of_lot)

    @invariant()
    def counted_steps_make_their_coins(self) -> None:
        """What is held for them is never more than all of them cost."""
        for balance in self._balances(self.stage):
            if balance.meter == "steps" and balance.shares:
                share = balance.shares[0]
                assert share.units <= STEPS.cost_of(balance.used + balance.held)

    @invariant()
    def a_restart_says_the_same(self) -> None:
        if self.open:
            return
        live, state = self.stage.hot, self.stage.state
        before = self._figures(self.stage)
        self.stage.restart()
        after = self._figures(self.stage)
        self.stage.hot, self.stage.state = live, state
        assert after == before


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=1_000, stateful_step_count=40, deadline=None)
