"""Hot state against a simple model: all or nothing, and never more than was granted."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.core.book import Account, Allowance, Plan
from gateway.core.limits import RateLimit
from gateway.core.periods import WEEK_US, Period
from gateway.core.refusals import Refusal
from gateway.core.rows import LedgerEntry
from gateway.state.base import AccountState, Hold
from gateway.state.memory import MemoryState
from tests.support.asking import Asking, NoStore

S = 1_000_000
COINS = Allowance("coins", 20, Period("week"))
CREDITS = Allowance("credits", 5, Period("month"), status=402)
HOURLY = RateLimit("hourly", "account", "fixed_window", 8, 3600 * S, 1, id="plan/free/hourly")
PARALLEL = RateLimit("parallel", "key", "concurrency", 3, 0, 1, id="plan/free/parallel")
PLAN = Plan("free", (COINS, CREDITS), (HOURLY, PARALLEL))


def fresh(plan: Plan = PLAN) -> tuple[MemoryState, AccountState]:
    state = MemoryState(NoStore())
    return state, state.account(Account("acme", plan.name), plan)


def test_a_hundred_asks_against_seven() -> None:
    plan = Plan("p", (Allowance("coins", 7, Period("week")),))
    state, account = fresh(plan)
    answers = [state.admit(Asking(account, S, (("coins", 1),))) for _ in range(100)]
    assert sum(isinstance(a, Hold) for a in answers) == 7
    refused = next(a for a in answers if isinstance(a, Refusal))
    assert refused.code == "budget_exhausted" and refused.reason == "blocked:coins"
    assert (
        refused.retry_after_s is not None
        and refused.retry_after_s * S + S >= WEEK_US - 4 * 86400 * S
    )


def test_the_first_limit_in_order_refuses_and_all_are_shown() -> None:
    state, account = fresh()
    for _ in range(8):
        hold = state.admit(Asking(account, S, (), PLAN.limits))
        assert isinstance(hold, Hold)
        state.settle(hold, state.settlement(hold, ()))
    refused = state.admit(Asking(account, S, (("coins", 21), ("credits", 6)), PLAN.limits))
    assert isinstance(refused, Refusal) and refused.code == "rate_limited"
    shown = [(row.name, row.kind, row.refused) for row in refused.limits]
    assert shown == [
        ("hourly", "rate", True),
        ("parallel", "concurrency", False),
        ("coins", "budget", False),
        ("credits", "budget", False),
    ]
    assert refused.retry_after_s == 3599
    later = state.admit(Asking(account, 3600 * S, (("credits", 6),), PLAN.limits))
    assert isinstance(later, Refusal) and (later.code, later.status) == ("budget_exhausted", 402)


def test_a_hold_belongs_to_the_period_it_was_taken_in() -> None:
    state, account = fresh()
    monday = 4 * 86_400 * S + WEEK_US * 100  # the default anchor is a Thursday
    first = Period("week").span(monday, 0)
    hold = state.admit(Asking(account, first.end_us - 1, (("coins", 20),)))
    assert isinstance(hold, Hold)
    assert state.balance(account, "coins", first.end_us).remaining == 20
    state.settle(hold, state.settlement(hold, (("coins", 20),)))
    assert state.balance(account, "coins", first.end_us).used == 0
    assert hold.reserved[0][0].used == 20


class Machine(RuleBasedStateMachine):
    """Holds, settlements, releases, top-ups, plan changes and passing time in any order."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.state, self.account = fresh()
        self.now_us = 1_000 * WEEK_US
        self.entries = 0
        self.open: list[Hold] = []
        self.requests: list[int] = []

    @rule(target=holds, coins=st.integers(0, 9), credits=st.integers(0, 3))
    def ask(self, coins: int, credits: int) -> Hold | None:
        charges = (("coins", coins), ("credits", credits))
        before = self._figures()
        answer = self.state.admit(Asking(self.account, self.now_us, charges, PLAN.limits))
        hour = self.now_us // (3600 * S)
        fits = len(self.open) < 3 and self.requests.count(hour) < 8
        for meter, amount in charges:
            granted, used, held = before[meter]
            fits = fits and used + held + amount <= granted
        assert isinstance(answer, Hold) == fits
        if isinstance(answer, Refusal):
            assert self._figures() == before
            return None
        self.open.append(answer)
        self.requests.append(hour)
        return answer

    @rule(hold=consumes(holds), is_settled=st.booleans())
    def end(self, hold: Hold | None, is_settled: bool) -> None:
        if hold is None:
            return
        self.open.remove(hold)
        if is_settled:
            charges = tuple((b.meter, amount) for b, amount in hold.reserved)
            self.state.settle(hold, self.state.settlement(hold, charges))
        else:
            self.state.release(hold)

    @rule(step_us=st.sampled_from([1, 10 * S, 1800 * S, 86_400 * S, WEEK_US]))
    def wait(self, step_us: int) -> None:
        self.now_us += step_us

    @rule(amount=st.integers(1, 10))
    def top_up(self, amount: int) -> None:
        balance = self.state.balance(self.account, "coins", self.now_us)
        self.entries += 1
        period_us = balance.span.start_us
        entry = LedgerEntry(
            id=f"t{self.entries}", account="acme", meter="coins", kind="topup", lot="",
            period_us=period_us, amount=amount, starts_us=self.now_us, expires_us=None,
            priority=0, every="", price_micro=0, reason="", actor="ops", time_us=self.now_us,
        )  # fmt: skip
        self.state.apply_entry(self.account, entry)

    def _figures(self) -> dict[str, tuple[int, int, int]]:
        rows = {}
        for meter in ("coins", "credits"):
            balance = self.state.balance(self.account, meter, self.now_us)
            assert balance.granted is not None
            rows[meter] = (balance.granted + balance.topped_up, balance.used, balance.held)
        return rows

    @invariant()
    def nothing_is_overspent(self) -> None:
        for granted, used, held in self._figures().values():
            assert used + held <= granted
        assert self.account.in_flight == len(self.open)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
