"""The path of a request, in one function: `Proxy.handle`.

    head -> identify -> route -> price -> admit -> [journal: open]
         -> forward -> settle -> [journal: close] -> last byte

Every step either goes on or says why not, as a value; what cannot be
understood at all is `Malformed`. Whatever happens, an admitted request is
settled exactly once. Must not know YAML, SQL or where the journal lies.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from gateway.core.book import Book
from gateway.core.malformed import Malformed
from gateway.core.outcomes import CHARGED, CONTINUED, GATEWAY_ERROR
from gateway.core.pricing import Unpriceable
from gateway.core.refusals import Refusal
from gateway.core.routes import Miss
from gateway.core.waiting import NotLoaded
from gateway.journal.errors import JournalFull
from gateway.proxy.answer import refusal_answer, refusal_status
from gateway.proxy.directory import Directory
from gateway.proxy.exchange import Exchange
from gateway.proxy.forward import forward
from gateway.proxy.head import HeadRules, read_head, read_request_line
from gateway.proxy.identify import UNAUTHORIZED, FailureCounter, check_key, identify
from gateway.proxy.ids import EventIds
from gateway.proxy.intake import read_body, unpriceable
from gateway.proxy.limit_set import LimitSet, make_limit_set
from gateway.proxy.measure import Means, Measure
from gateway.proxy.memo import Decided, HeadMemo, may_be_kept
from gateway.proxy.outbox import Outbox
from gateway.proxy.outcome import Failure
from gateway.proxy.own import Found, OwnPaths, send
from gateway.proxy.pool import Pool
from gateway.proxy.request_head import find_source
from gateway.proxy.settle import Due, due_of, finish, settle
from gateway.proxy.tally import Tally
from gateway.state.memory import MemoryState
from gateway.state.shared.link import StateUnavailable
from gateway.state.shared.shared import SharedState
from gateway.store.base import StoreUnavailable

if TYPE_CHECKING:
    from gateway.proxy.connection import ClientConnection


class Recorder(Protocol):
    """What the path needs of the journal (gateway/journal/writer.py)."""

    def write_open(
        self,
        event_id: str,
        time_us: int,
        account: str,
        route: str,
        charges: tuple[tuple[str, int], ...],
    ) -> int: ...

    def write_close(self, fields: tuple[object, ...]) -> int: ...

    def synced(self, seq: int) -> Future[None]: ...


UNMETERED = -1
# Each plan, and each account with limits of its own, has one per route and caller kind.
LIMIT_SETS_MAX = 50_000


def wall_clock_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


class Proxy:
    """Everything a request meets. `use` swaps the book; requests keep theirs."""

    def __init__(
        self,
        book: Book,
        state: MemoryState,
        directory: Directory,
        journal: Recorder,
        tally: Tally,
        make_pool: Callable[[Book, str], Pool],
        own_paths: OwnPaths,
        outbox: Outbox,
        now_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        self.outbox = outbox
        self.state = state
        self.shared = state if isinstance(state, SharedState) else None
        self.directory = directory
        self.journal = journal
        self.tally = tally
        self.now_us = now_us
        self.ids = EventIds()
        self.means = Means()
        self.failures = FailureCounter(book.identify.failures_per_minute)
        self.pools: dict[str, Pool] = {}
        self._make_pool = make_pool
        self.use(book, own_paths)

    def use(self, book: Book, own_paths: OwnPaths) -> None:
        """Take another book, at once and whole."""
        pools = {}
        for name, upstream in book.upstreams.items():
            old = self.pools.get(name)
            same = old is not None and old.upstream == upstream
            pools[name] = old if old is not None and same else self._make_pool(book, name)
        for name, pool in self.pools.items():
            if pools.get(name) is not pool:
                pool.close()
        self.pools = pools
        self.book = book
        self.own_paths = own_paths
        self.rules = HeadRules(book)
        self.failures.per_minute = book.identify.failures_per_minute
        self.directory.use(book)
        self._limit_sets: dict[tuple[int, str, str], LimitSet] = {}
        self._sync_always = book.journal.sync == "always"
        routes = book.routes if book.unmatched is None else (*book.routes, book.unmatched)
        self._lets_anonymous_in = any("anonymous" in route.prices for route in routes)

    async def handle(
        self, connection: ClientConnection, message: RawRequestMessage, payload: StreamReader
    ) -> bool:
        """Serve one request; whether the connection may be used for the next."""
        now_us = self.now_us()
        x = Exchange(self.book, connection, payload, now_us, self.ids.next(now_us))
        connection.exchange = x
        try:
            try:
                refusal = self._read_and_identify(x, message)
            except NotLoaded as missing:
                refusal = await self._again(x, missing, lambda: self._read_and_identify(x, message))
            if refusal is None:
                own = self.own_paths.find(x)
                if own is not None:
                    return await self._answer_own(x, own)
                refusal = self._route_and_price(x)
            if refusal is not None:
                return self._refuse(x, refusal)
            pool = self.pools[x.route.upstream.name]
            if x.measure is not None:
                if x.measure.price.reads_body:
                    refusal = await self._read_body(x.measure)
                refusal = refusal or self._reserve(x.measure)
            if refusal is None and self.shared is not None:
                x.hold = self.shared.admit_at_once(x)
                if x.hold is None:
                    refusal = await self._admit_together(x, self.shared)
            elif refusal is None:
                try:
                    refusal = self._admit(x)
                except NotLoaded as missing:
                    refusal = await self._again(x, missing, lambda: self._admit(x))
            refusal = refusal or self._open(x)
            if refusal is not None:
                return self._refuse(x, refusal)
            failure = await forward(x, pool, self.settle)
            if failure is not None:
                await self._fail(x, failure)
        except Malformed as exc:
            self._refuse_malformed(x, exc)
        except (StoreUnavailable, StateUnavailable) as exc:
            if x.head_sent:
                self._broken(x, exc)
            else:
                self._refuse(x, self._unavailable(exc))
        except Exception as exc:
            self._broken(x, exc)
        finally:
            if x.hold is not None and x.hold.is_open and x.settling is None:
                self.settle(x, GATEWAY_ERROR)
            connection.exchange = None
            x.measure = None  # each knows the other: freed now, not by the collector
        return x.keep_alive

    async def _again(
        self, x: Exchange, missing: NotLoaded, step: Callable[[], Refusal | None]
    ) -> Refusal | None:
        """Wait for the store's answer, then do the step once more.

        The request belongs to the period in which it is admitted, which is then.
        """
        while True:
            await asyncio.wrap_future(missing.future)
            self._begin_anew(x)
            try:
                return step()
            except NotLoaded as further:
                missing = further

    def _read_and_identify(self, x: Exchange, message: RawRequestMessage) -> Refusal | None:
        """Head and caller; a head equal to the connection's last one is not read again."""
        memo = x.connection.memo
        rules = self.rules
        if (
            memo is not None
            and memo.raw_headers == message.raw_headers
            and memo.rules is rules
            and memo.version is message.version
            and self.directory.cached(memo.digest) is memo.caller
        ):
            memo.fill(x)
            x.headers = message.headers
            x.memo = memo
            line = (message.method, message.path)
            if memo.line == line:
                x.method = line[0]
                x.target = memo.target
                x.query = memo.target.query
            else:
                read_request_line(x, message, rules)
                memo.line, memo.target, memo.decided = line, x.target, None
            return check_key(x, memo.caller, self.failures)
        read_head(x, message, rules)
        if x.forwarded_for is not None:
            find_source(x, rules.trusted)
        refusal = identify(x, rules, self.directory, self.failures)
        if refusal is None and x.digest is not None and may_be_kept(x, rules):
            x.memo = HeadMemo(x, x.digest, message, rules)
            x.connection.memo = x.memo
        return refusal

    async def _answer_own(self, x: Exchange, own: Found) -> bool:
        """A request to the gateway's own API; never charged."""
        return await asyncio.get_running_loop().create_task(send(x, own))

    def _route_and_price(self, x: Exchange) -> Refusal | None:
        """Set route, project, charges and limits."""
        book, caller, memo = x.book, x.caller, x.memo
        if caller.account.account.disabled:
            return Refusal("account_disabled")
        plan = caller.account.plan
        if memo is not None and memo.decided is not None and memo.plan is plan:
            decided = memo.decided
            x.route, x.project, x.charges, x.limit_set, _, _ = decided
            x.limits = x.limit_set.limits
            if not decided.price.is_fixed:
                x.measure = Measure(x, decided.price, self.means, decided.parameters)
            return None
        parameters: Mapping[str, str] = {}
        found = book.table.match(x.method, x.host, x.target.canonical, x.headers)
        if isinstance(found, Miss):
            if book.unmatched is None:
                return self._missed(x, found)
            x.route = route = book.unmatched
            x.project = caller.project
        else:
            parameters = found.parameters
            x.route = route = found.entry
            x.project = parameters.get(route.project_param or "") or route.project or caller.project
        price = route.prices.get(caller.kind)
        if price is None:
            return UNAUTHORIZED if caller.kind == "anonymous" else Refusal("caller_not_allowed")
        key = caller.key
        if key is not None and key.routes is not None and route.name not in key.routes:
            return Refusal("forbidden_route")
        for name, value in route.requires:
            if x.account.account.setting(book.settings[name]) != value:
                title = book.settings[name].title or name
                return Refusal("feature_disabled", detail=f"{title} is not {value}.")
        most = route.max_body_bytes
        if most is not None and x.body_length > most:
            return Refusal("body_too_large", detail=f"The body may have {most} bytes.")
        x.charges = price.charges
        kind = (id(plan), route.name, caller.kind)
        limit_set = self._limit_sets.get(kind)
        if limit_set is None:
            if len(self._limit_sets) >= LIMIT_SETS_MAX:
                self._limit_sets.clear()
            limit_set = make_limit_set(book, plan, route, caller.kind)
            self._limit_sets[kind] = limit_set
        x.limit_set = limit_set
        x.limits = limit_set.limits
        if memo is not None:
            memo.plan = plan
            memo.decided = Decided(route, x.project, x.charges, limit_set, price, parameters)
        if not price.is_fixed:
            x.measure = Measure(x, price, self.means, parameters)
        return None

    async def _read_body(self, measure: Measure) -> Refusal | None:
        """Take the body in, for the price looks into it; in a task for its timeouts.

        The request belongs to the period in which it is admitted, which is now.
        """
        refusal = await asyncio.get_running_loop().create_task(read_body(measure))
        self._begin_anew(measure.x)
        return refusal

    def _begin_anew(self, x: Exchange) -> None:
        """After a wait before admission: the time, and the id that is made of it, are of now."""
        now_us = self.now_us()
        if now_us > x.time_us:
            x.time_us = now_us
            event_id = self.ids.next(now_us)
            if x.request_id == x.event_id:
                x.request_id = event_id
            x.event_id = event_id

    def _reserve(self, measure: Measure) -> Refusal | None:
        """Set what is to be reserved."""
        try:
            measure.reserve()
        except Unpriceable as exc:
            return unpriceable(exc)
        return None

    def _missed(self, x: Exchange, miss: Miss) -> Refusal:
        if x.caller.kind == "anonymous" and not self._lets_anonymous_in:
            return UNAUTHORIZED
        if miss.allowed:
            allow = ", ".join(sorted(miss.allowed))
            return Refusal("method_not_allowed", headers=(("Allow", allow),))
        return Refusal("route_not_found")

    def _admit(self, x: Exchange) -> Refusal | None:
        decision = self.state.admit(x)
        if isinstance(decision, Refusal):
            return decision
        x.hold = decision
        return None

    async def _admit_together(self, x: Exchange, shared: SharedState) -> Refusal | None:
        """As `_admit`, of all processes that share the state."""
        decision = await shared.admit_together(x)
        if isinstance(decision, Refusal):
            return decision
        x.hold = decision
        return None

    def _open(self, x: Exchange) -> Refusal | None:
        """Journal: a request is on its way. A full journal refuses or lets pass unmetered."""
        try:
            x.open_seq = self.journal.write_open(
                x.event_id, x.time_us, x.caller.account.account.id, x.route.name, x.charges
            )
        except JournalFull:
            if x.book.journal.on_full == "pass":
                x.open_seq = UNMETERED
                return None
            assert x.hold is not None
            self.state.release(x.hold)
            return Refusal("journal_full", retry_after_s=5)
        return None

    def settle(self, x: Exchange, outcome: str) -> Future[None] | None:
        """Charge or release, and write the event; see proxy/settle.py."""
        now_us = self.now_us()
        if x.open_seq == UNMETERED:
            assert x.hold is not None
            self.state.release(x.hold)
            self.tally.unmetered(x)
            return None
        if self.shared is not None and x.hold is not None and not self.shared.is_plain(x.hold):
            due = due_of(x, outcome, now_us)
            if due[1]:
                settling = self._settle_together(x, due, self.shared, now_us)
                x.settling = asyncio.get_running_loop().create_task(settling)
                return x.settling
        seq = settle(x, outcome, self.state, self.journal, now_us)
        return self._settled(x, seq, now_us)

    async def _settle_together(
        self, x: Exchange, due: Due, shared: SharedState, now_us: int
    ) -> None:
        """Lots or counters have a say, and other processes may use them, too."""
        assert x.hold is not None
        settlement = await shared.settlement_together(x.hold, due[2], due[3])
        on_disk = self._settled(x, finish(x, due, settlement, shared, self.journal, now_us), now_us)
        if on_disk is not None:
            await on_disk

    def _settled(self, x: Exchange, seq: int, now_us: int) -> Future[None] | None:
        self.outbox.touch()
        self.tally.settled(x, now_us)
        return self.journal.synced(seq) if self._sync_always else None

    async def renew(self, x: Exchange) -> Refusal | None:
        """Charge an open WebSocket for what has passed, and hold for the next interval.

        A limit of requests does not count it again; one of requests in flight still does.
        """
        assert x.measure is not None
        settled = self.settle(x, CONTINUED if x.measure.is_further else CHARGED)
        if settled is not None:
            await settled
        x.settling = None
        x.time_us = now_us = self.now_us()
        x.event_id = self.ids.next(now_us)
        x.limits = tuple(limit for limit in x.limits if limit.algorithm == "concurrency")
        x.measure = x.measure.further()
        try:
            x.measure.reserve()
        except Unpriceable as exc:
            return unpriceable(exc)
        try:
            if self.shared is not None:
                refusal = await self._admit_together(x, self.shared)
            else:
                try:
                    refusal = self._admit(x)
                except NotLoaded as missing:
                    refusal = await self._again(x, missing, lambda: self._admit(x))
            refusal = refusal or self._open(x)
        except (StoreUnavailable, StateUnavailable) as exc:
            refusal = self._unavailable(exc)
        if refusal is not None:
            self.tally.refused(x, refusal)
        return refusal

    def _unavailable(self, exc: Exception) -> Refusal:
        self.tally.trouble("store_unavailable", exc)
        return Refusal("store_unavailable", retry_after_s=1)

    def _refuse(self, x: Exchange, refusal: Refusal) -> bool:
        """Answer a refusal; it costs nothing and is counted."""
        assert not x.head_sent, "a refusal is an answer of its own"
        x.status = refusal_status(refusal, x.book)
        self.tally.refused(x, refusal)
        if not x.payload.is_eof() and (x.expects_continue or x.body_length > 65_536):
            x.keep_alive = False  # the body that comes, or not, is nobody's request
        self._send_refusal(x, refusal)
        return x.keep_alive

    async def _fail(self, x: Exchange, failure: Failure) -> None:
        """The backend or the client failed: settle, then say so to whoever is there."""
        refusal = failure.refusal
        x.status = refusal_status(refusal, x.book) if refusal else 0
        settled = self.settle(x, failure.outcome)
        if settled is not None:
            await settled
        if refusal is None:
            x.keep_alive = False
            return
        if not x.payload.is_eof():
            x.keep_alive = False
        self._send_refusal(x, refusal)

    def _refuse_malformed(self, x: Exchange, exc: Malformed) -> None:
        x.keep_alive = False
        refusal = Refusal(exc.code, detail=exc.reason, status=exc.status)
        if exc.status == 405:
            refusal = Refusal(exc.code, exc.reason, 405, headers=(("Allow", ""),))
        x.status = exc.status
        self.tally.malformed(x, refusal)
        self._send_refusal(x, refusal)

    def _broken(self, x: Exchange, exc: Exception) -> None:
        """A fault of our own: say so, log it with its request id, and close."""
        self.tally.broken(x, exc)
        x.keep_alive = False
        if x.head_sent:
            if x.connection.transport is not None:
                x.connection.transport.abort()
        else:
            x.status = 500
            self._send_refusal(x, Refusal("internal_error"))

    def _send_refusal(self, x: Exchange, refusal: Refusal) -> None:
        x.connection.write_soon(
            refusal_answer(
                refusal,
                book=x.book,
                request_id=x.request_id,
                method=x.method,
                is_http11=x.is_http11,
                keep_alive=x.keep_alive,
            )
        )
