"""The model again, of two processes that share their state, each doing every other step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import settings
from hypothesis.stateful import invariant, precondition, rule

from tests.state.fleet import ClusterFleet, Fleet
from tests.state.test_bills_model import Bills
from tests.state.test_model import Machine


class _Shared:
    make_stage = Fleet
    stage: Any

    def teardown(self) -> None:
        self.stage.close()

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """One process says all figures."""
        fleet = self.stage
        before, fleet.pinned = fleet.pinned, fleet.pinned or fleet.next()
        try:
            yield
        finally:
            fleet.pinned = before


class SharedMachine(_Shared, Machine):  # type: ignore[misc]
    def _balances(self, stage: Any) -> Any:
        with self.pinned():
            return super()._balances(stage)

    def _figures(self, stage: Any) -> dict[str, Any]:
        with self.pinned():
            return super()._figures(stage)

    @invariant()
    def what_is_held_is_what_requests_hold(self) -> None:
        with self.pinned():
            self._balances(self.stage)
            super().what_is_held_is_what_requests_hold()

    @invariant()
    def a_restart_says_the_same(self) -> None:
        """Every process; and the store alone."""
        if self.open:
            return
        fleet = self.stage
        said = []
        for process in fleet.processes:
            fleet.pinned = process
            said.append(self._figures(fleet))
        fleet.lose()
        said.append(self._figures(fleet))
        fleet.pinned = None
        assert said[0] == said[1] == said[2]


class ClusterMachine(SharedMachine):
    make_stage = ClusterFleet


TestSharedMachine = SharedMachine.TestCase
TestSharedMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestClusterMachine = ClusterMachine.TestCase
TestClusterMachine.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)


class SharedBills(_Shared, Bills):  # type: ignore[misc]
    @invariant()
    def the_cap_counts_what_the_invoice_bills(self) -> None:
        with self.pinned():
            super().the_cap_counts_what_the_invoice_bills()

    @precondition(lambda self: not self.open)
    @rule()
    def lose(self) -> None:
        self.stage.lose()


TestSharedBills = SharedBills.TestCase
TestSharedBills.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
