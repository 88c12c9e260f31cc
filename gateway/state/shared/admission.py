"""What a request reserves, while the server answers.

Question: may this request go ahead? Where one number of each balance decides, the script
does, for all requests of one form that come up together (stake.py); else this process does
on its copy of the account (account.py), once the rate limits are taken. Invariant: all of
it is reserved, or nothing. Must not know what is done while the server is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.core.ledger import Balance
from gateway.core.refusals import Refusal
from gateway.core.waiting import NotLoaded
from gateway.state.accounts import Accounts
from gateway.state.base import AccountState, Ask, Hold
from gateway.state.careful import decide
from gateway.state.memory import subject_of
from gateway.state.shared.account import SharedAccount
from gateway.state.shared.ahead import Watch, ends_of
from gateway.state.shared.apart import Apart
from gateway.state.shared.in_flight import InFlight
from gateway.state.shared.limits import as_taken, refusal_by, tell_counters
from gateway.state.shared.link import Overtaken
from gateway.state.shared.places import Place, Places, is_of_account
from gateway.state.shared.posts import Ended
from gateway.state.shared.stake import LET_GO, NOT_YET, OVER, REFUSED, Form, StakeHold, Take

FORMS_MAX = 64  # of an account; more where each address has a limit of its own
TRIES = 20  # each was overtaken by another process
NOT_YET_S = 0.005  # others may give back what they took ahead
NOT_YET_TRIES = 15  # longer than anybody may have it


class Admission:
    """Of all accounts."""

    def __init__(
        self,
        shared: Callable[[AccountState], SharedAccount],
        accounts: Accounts,
        places: Places,
        in_flight: InFlight,
    ) -> None:
        """`in_flight` is told what is to be given back when a request ends."""
        self._shared = shared
        self._accounts = accounts
        self._open = accounts.holds
        self._places = places
        self._in_flight = in_flight
        self._watch = Watch()

    def admit_at_once(self, ask: Ask) -> Hold | None:
        """Where units were taken ahead for requests of its form, and its period goes on."""
        shared = self._shared(ask.account)
        form = self._form(ask, shared)
        if form is None:
            return None
        ahead = form.ahead
        if not ahead.left or ask.time_us >= ahead.until_us:
            return None
        ahead.left -= 1
        ahead.came += 1
        if form.take is None and ahead.is_low() and not shared.link.failure:
            self._put_take(form, shared)
        return self._begun(StakeHold(shared.stake, form, ask), ask)

    def _put_take(self, form: Form, shared: SharedAccount) -> Take:
        take = Take(form, shared.stake, _too_late, self._watch)
        shared.link.put(take)
        form.take = take
        return take

    async def admit(self, ask: Ask) -> Hold | Refusal:
        """By all limits of the account's group. Raises StateUnavailable."""
        shared = self._shared(ask.account)
        waits_left = NOT_YET_TRIES
        for _ in range(TRIES + NOT_YET_TRIES):
            if not shared.is_current:
                await shared.refresh()
            form = self._form(ask, shared)
            if form is None:
                return await self._admit_carefully(ask, shared)
            take = form.take
            if take is None or not shared.link.may_join():
                take = self._put_take(form, shared)
            found = await take.join(ask)
            if found.__class__ is StakeHold:
                return self._begun(found, ask)
            if found == NOT_YET and waits_left:
                waits_left -= 1
                await asyncio.sleep(NOT_YET_S)
            elif found in (REFUSED, NOT_YET):  # who asks for more than is left beside many
                decision = decide(ask, form.counters, form.charged, self._accounts)
                if isinstance(decision, Refusal):
                    return decision
            elif found == LET_GO:
                if shared.stake is take.stake:
                    shared.renew_stake()
            elif found == OVER:  # the request came before the end
                return await self._admit_carefully(ask, shared)
            else:  # the document knows more, or is not there
                shared.is_current = False
        raise Overtaken("other processes were faster each time")

    def _begun(self, hold: StakeHold, ask: Ask) -> Hold:
        state, form = ask.account, hold.form
        state.in_flight += 1
        self._open.add(hold)
        state.touched_us = ask.time_us
        form.shared.own[ask.event_id] = hold
        if form.gauges:
            self._in_flight.gauges[ask.event_id] = form.gauges
        return hold

    async def admit_apart(self, ask: Ask, allows: bool) -> Hold | Refusal:
        """First by limits that other groups count; they are given back if the account refuses.

        `allows`: where such a group is away, what is known here of its limits decides.
        """
        apart = Apart(ask, self._places.apart(ask))
        if not apart.places:
            return await self.admit(ask)
        try:
            fits = await apart.take(allows)
            decision = await self.admit(ask) if fits else None
        except BaseException:
            apart.give_back()
            raise
        if not isinstance(decision, Hold):
            apart.give_back()
            return apart.refusal() if decision is None else apart.told_in(decision)
        decision.counters = self._places.counters(ask)
        if apart.has_gauges:
            self._in_flight.apart[ask.event_id] = apart
        return decision

    # -- forms ----------------------------------------------------------------

    def _form(self, ask: Ask, shared: SharedAccount) -> Form | None:
        """The request's, where one number of each balance decides and the document has it."""
        if ask.counted or not shared.is_current:
            return None
        limits = ask.limits
        name: tuple[Any, ...] = (id(ask.charges), id(limits))
        form = shared.forms.get(name)
        if form is None and any([limit.subject != "account" for limit in limits]):
            name += tuple([subject_of(limit, ask) for limit in limits])
            form = shared.forms.get(name)
        if form is None or not form.is_good(ask.time_us):
            form = self._new_form(ask, shared)
            if form is not None:
                if len(shared.forms) >= FORMS_MAX or name in shared.forms:
                    shared.drop_forms()
                shared.forms[name] = form
        return form

    def _new_form(self, ask: Ask, shared: SharedAccount) -> Form | None:
        charged = self._charged(ask, shared)
        if charged is None:
            return None
        own = self._places.own(ask)
        may_be_ahead = all([is_of_account(limit, ask) for limit in ask.limits])
        return Form(shared, charged, own.counters, own.bodies, ask, may_be_ahead)

    def _charged(self, ask: Ask, shared: SharedAccount) -> list[tuple[Balance, int]] | None:
        """The balances, where one number of each decides and the document has it."""
        rows = shared.document.rows
        charged = []
        for meter, amount in ask.charges:
            try:
                balance = self._accounts.balance(ask.account, meter, ask.time_us)
            except NotLoaded:
                return None
            if balance.room < 0:
                return None
            if (meter, balance.span[0], "") not in rows:
                return None
            charged.append((balance, amount))
        return charged

    # -- one by one -----------------------------------------------------------

    async def _admit_carefully(self, ask: Ask, shared: SharedAccount) -> Hold | Refusal:
        """Rate limits first, then everything else; they are given back if that refuses."""
        own = self._places.own(ask)
        for tries_left in reversed(range(NOT_YET_TRIES)):
            decision, is_ahead = await self._try_carefully(ask, shared, own)
            if isinstance(decision, Hold) or not is_ahead or not tries_left:
                break
            await asyncio.sleep(NOT_YET_S)
        gauges = own.gauges
        if gauges and isinstance(decision, Hold):
            self._in_flight.gauges[ask.event_id] = gauges
        return decision

    async def _try_carefully(
        self, ask: Ask, shared: SharedAccount, own: Place
    ) -> tuple[Hold | Refusal, bool]:
        """And whether somebody may give back what it was refused for."""
        if own.bodies:
            reply = await own.take(ask.event_id, shared.key)
            tell_counters(own.counters, reply[1])
            if not reply[0]:
                return refusal_by(own.counters, ask.time_us), bool(reply[2])
        try:
            decision = await shared.admit(ask, own.counters)
        except BaseException:
            own.untake(ask.event_id)
            raise
        if isinstance(decision, Refusal):
            own.untake(ask.event_id)
            return decision, shared.is_ahead(decision)
        return decision, False


def _too_late(take: Take, asks: list[Ask]) -> None:
    """Requests were let in when nobody waited for that any more."""
    form = take.form
    posts = form.shared.posts
    for ask in asks:
        posts.tell(Ended(ask.event_id, 0, 0, None, [], stake=take.stake, form=form))
    if form.bodies:
        ids = [ask.event_id for ask in asks]
        bodies = as_taken(form.bodies, ends_of(form.counters))
        form.shared.link.tell(["untake", ids, bodies], form.keys[1:])
