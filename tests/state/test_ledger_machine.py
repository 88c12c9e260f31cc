"""The ledger against its model: grants, holds, settles, resets, seats, plans, crashes.

Every step may be the last before a crash: what was posted is in the store, what was
held is gone. After each step the live figures, the store's sums and the model say the
same.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.core.book import Account, Allowance, Plan
from gateway.core.periods import Period
from gateway.core.pricing import Counted, Rule
from gateway.core.rows import AccountVersion, BalanceRow, LedgerEntry, PlansVersion
from gateway.core.statement import Books, stages
from gateway.core.terms import Timeline, effective_plan
from gateway.state.base import AccountState, Hold
from gateway.state.memory import MemoryState
from tests.state.ledger_model import NEVER, Model, ModelHold, ModelLot, ModelPlan, month_of
from tests.state.test_memory import Asking

S = 1_000_000
DAY = 86_400 * S
BORN_US = 1_769_700_000 * S  # 2026-01-29, two days before a month ends
MONTH = Period("month")
PLANS = {
    "free": Plan("free", (Allowance("units", 6, MONTH),), on_leave="at_once"),
    "small": Plan("small", (Allowance("units", 5, MONTH, per_seat=True),), on_leave="next_period"),
    "large": Plan("large", (Allowance("units", 12, MONTH, per_seat=True),), on_leave="next_period"),
}
MODEL_PLANS = {
    "free": ModelPlan(fixed=6, left_at_once=True),
    "small": ModelPlan(per_seat=5),
    "large": ModelPlan(per_seat=12),
}
STEPS = Rule("units", (1, 10), counter="steps")
Key = tuple[str, int, str]


class Store:
    """What would be in SQLite: sums of postings, entries, versions."""

    def __init__(self, account: Account) -> None:
        self.used: dict[Key, int] = {}
        self.ledger: list[LedgerEntry] = []
        self.history = [AccountVersion(BORN_US, account)]

    def balances(self, account_id: str, since_us: int = 0) -> list[BalanceRow]:
        rows = [BalanceRow(*key, used) for key, used in self.used.items()]
        return [
            row for row in rows if row.lot or row.period_us in (0,) or row.period_us >= since_us
        ]

    def entries(self, account_id: str) -> list[LedgerEntry]:
        return list(self.ledger)

    def versions(self, account_id: str) -> list[AccountVersion]:
        return list(self.history)

    def plans(self) -> list[PlansVersion]:
        return [PlansVersion(BORN_US, "b", PLANS)]


class Machine(RuleBasedStateMachine):
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.now_us = BORN_US
        self.account = Account("acme", "small", seats=2)
        self.store = Store(self.account)
        self.model = Model(MODEL_PLANS, BORN_US, "small", 2)
        self.count = 0
        self.open: list[tuple[Hold, ModelHold]] = []
        self._begin()

    def _begin(self) -> None:
        """A process starts: everything it knows comes from the store."""
        self.state = MemoryState(self.store)
        self.state._accounts.periods = {"steps": Period("ever")}
        self._bind()

    def _bind(self) -> None:
        plan = effective_plan(PLANS[self.account.plan], self.account)
        self.live: AccountState = self.state.account(self.account, plan)

    # -- requests -----------------------------------------------------------

    @rule(target=holds, units=st.integers(0, 8), steps=st.integers(0, 25))
    def ask(self, units: int, steps: int) -> tuple[Hold, ModelHold] | None:
        month, _ = month_of(self.now_us)
        model = self.model
        before = model.held_for_steps()
        has_steps = any(hold.month == month and hold.steps for hold in model.holds)
        others = self.state.balance(self.live, "units", self.now_us).held
        # Room: what this month and the lots have, without what other requests hold.
        room = model.own_left(month, self.now_us) + self._lots_left(month)
        ask = Asking(self.live, self.now_us, (("units", units),), counted=(Counted(STEPS, steps),))
        answer = self.state.admit(ask)
        held = ModelHold(month, units, steps)
        model.holds.append(held)
        need = units
        if steps:  # what all held steps may come to, if this month does not hold it yet
            need += model.held_for_steps() - (before if has_steps else 0)
        assert isinstance(answer, Hold) == (others + need <= room), (others, need, room)
        if not isinstance(answer, Hold):
            model.holds.remove(held)
            return None
        self.open.append((answer, held))
        return answer, held

    def _lots_left(self, month: int) -> int:
        left = sum(lot.left for lot in self.model.valid_lots(self.now_us))
        elder = self.state.balance(self.live, "units", self.now_us).elder
        if elder is not None:
            claimed = elder.held - self.model.own_left(elder.span.start_us, elder.span.end_us - 1)
            left -= max(0, claimed)
        return max(0, left)

    @rule(pair=consumes(holds), is_charged=st.booleans())
    def end(self, pair: tuple[Hold, ModelHold] | None, is_charged: bool) -> None:
        if pair is None or pair not in self.open:
            return
        hold, held = pair
        self.open.remove(pair)
        if not is_charged:
            self.model.holds.remove(held)
            self.state.release(hold)
            return
        lots = self._lots_of(hold)
        charge = self.model.post(held, held.units, held.steps, self.now_us)
        _, month_end_us = month_of(held.month)
        self.model.pay(held.month, charge, month_end_us, lots, self._as_of(held.month))
        settled = self.state.settlement(
            hold, (("units", held.units),), (Counted(STEPS, held.steps),)
        )
        for posting in settled.postings:
            key = (posting[0], posting[2], posting[3] if len(posting) > 3 else "")
            self.store.used[key] = self.store.used.get(key, 0) + posting[1]
        self.state.settle(hold, settled)

    def _as_of(self, month: int) -> int:
        """A month that is over stays as it was at its end."""
        return min(self.now_us, month_of(month)[1] - 1)

    def _lots_of(self, hold: Hold) -> list[ModelLot]:
        """The lots that the hold's balance knows: those of its month, as last looked at."""
        names = [lot.id for lot in hold.reserved[0][0].lots]
        by_name = {lot.name: lot for lot in self.model.lots}
        return [by_name[name] for name in names]

    # -- the operator --------------------------------------------------------

    def _entry(
        self, kind: str, amount: int, lot: str | None, expires_us: int, priority: int
    ) -> None:
        self.count += 1
        name = f"e{self.count}"
        month, _ = month_of(self.now_us)
        entry = LedgerEntry(
            *(name, "acme", "units", kind, name if lot is None else lot),
            *(month if lot == "" else 0, amount, self.now_us),
            *(None if expires_us == NEVER else expires_us, priority, "", 0, "", "ops", self.now_us),
        )
        self.store.ledger.append(entry)
        self.state.apply_entry(self.live, entry)

    @rule(amount=st.integers(1, 9))
    def top_up(self, amount: int) -> None:
        month, _ = month_of(self.now_us)
        self._entry("topup", amount, "", NEVER, 0)
        self.model.top_ups[month] = self.model.top_ups.get(month, 0) + amount

    @rule(
        amount=st.integers(1, 9),
        days=st.sampled_from([None, 1, 20, 45]),
        priority=st.integers(0, 2),
    )
    def buy(self, amount: int, days: int | None, priority: int) -> None:
        expires_us = NEVER if days is None else self.now_us + days * DAY
        self._entry("bundle", amount, None, expires_us, priority)
        self.model.lots.append(
            ModelLot(f"e{self.count}", amount, expires_us, priority, self.now_us)
        )

    @rule(seats=st.integers(0, 4))
    def set_seats(self, seats: int) -> None:
        self._change(self.account.plan, seats)

    @rule(plan=st.sampled_from(sorted(PLANS)))
    def set_plan(self, plan: str) -> None:
        self._change(plan, self.account.seats)

    def _change(self, plan: str, seats: int) -> None:
        self.now_us += 1  # a change has an instant of its own
        self.account = Account("acme", plan, seats=seats)
        self.store.history.append(AccountVersion(self.now_us, self.account))
        self.model.changes.append((self.now_us, plan, seats))
        self._bind()

    # -- the world ------------------------------------------------------------

    @rule(step_us=st.sampled_from([1, 3600 * S, DAY, 9 * DAY, 31 * DAY, 100 * DAY]))
    def wait(self, step_us: int) -> None:
        self.now_us += step_us

    @rule()
    def wait_for_the_reset(self) -> None:
        self.now_us = month_of(self.now_us)[1]

    @rule()
    def crash(self) -> None:
        """The process is gone, and with it the requests that it was serving."""
        self.open.clear()
        self.model.holds.clear()
        self._begin()

    @rule()
    def forget_idle_accounts(self) -> None:
        if not self.open:
            gone = self.state.evict_idle(1 << 60, 1 << 62)
            assert gone == {"acme"}
            self._bind()

    # -- after every step ------------------------------------------------------

    @invariant()
    def live_figures_are_the_models(self) -> None:
        month, _ = month_of(self.now_us)
        balance = self.state.balance(self.live, "units", self.now_us)
        assert balance.span.start_us == month
        assert balance.limit == self.model.granted(month, self.now_us)
        assert balance.used == self.model.used.get(month, 0)
        lots = {lot.id: lot.left for lot in balance.lots}
        assert lots == {lot.name: lot.left for lot in self.model.valid_lots(self.now_us)}
        assert self.live.in_flight == len(self.open)

    @invariant()
    def holds_are_all_there_is_held(self) -> None:
        """The open holds' units, and what their steps come to together: nothing more or less."""
        balances = {hold.reserved[0][0] for hold, _ in self.open}
        balances.add(self.state.balance(self.live, "units", self.now_us))
        counters = {hold.counted[0].counter for hold, _ in self.open}
        for balance in balances:
            month = balance.span.start_us
            holds = [held for held in self.model.holds if held.month == month]
            wanted = sum(held.units for held in holds)
            if any(held.steps for held in holds):
                wanted += self.model.held_for_steps()
            assert balance.held == wanted
        assert sum(counter.held for counter in counters) == self.model.steps_held()

    @invariant()
    def the_store_has_every_unit_once(self) -> None:
        units = sum(n for (meter, _, _), n in self.store.used.items() if meter == "units")
        steps = sum(n for (meter, _, _), n in self.store.used.items() if meter == "steps")
        assert (units, steps) == (self.model.posted, self.model.steps)

    @invariant()
    def what_was_granted_is_consumed_expired_or_left(self) -> None:
        plan = effective_plan(PLANS[self.account.plan], self.account)
        timeline = Timeline(self.store.history, self.store.plans())
        terms = stages(timeline, self.account, plan)
        balances = self.store.balances("acme")
        books = Books("units", MONTH, timeline, terms, self.store.ledger, balances)
        rows = books.history(self.now_us, 2 + (self.now_us - BORN_US) // (28 * DAY))
        granted = sum(row.granted_in_all for row in rows)
        consumed = sum(row.consumed for row in rows)
        expired = sum(row.expired for row in rows)
        overdrawn = sum(row.overage for row in rows)
        month, _ = month_of(self.now_us)
        left = self.model.own_left(month, self.now_us)
        left += sum(lot.left for lot in self.model.valid_lots(self.now_us))
        assert granted + overdrawn == consumed + expired + left
        assert consumed == self.model.posted


TestLedger = Machine.TestCase
TestLedger.settings = settings(max_examples=2_000, stateful_step_count=25, deadline=None)
