"""Credentials to callers, with what was looked up kept at hand.

Question: what does this credential stand for right now? Declared keys and
accounts come from the book, run-time ones from the store. Invariant: a change
made through the admin API is seen by the next request, because it calls
`forget_*`; unknown keys are remembered too, so a flood of them does not read
the store. Must not know HTTP.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.book import Account, Book, CallerKind, Plan
from gateway.core.identity import KeyRecord
from gateway.core.terms import effective_plan
from gateway.proxy.caller import Caller
from gateway.state.base import AccountState
from gateway.state.memory import MemoryState

# About 600 bytes each with the account behind it: 60 MB at the most.
CALLERS_MAX = 100_000
UNKNOWN_MAX = 10_000

_NO_PLAN = Plan("")


class AccountSource(Protocol):
    """The store's look-ups, quick enough for the event loop."""

    def account(self, account_id: str) -> Account | None: ...

    def key(self, digest: bytes) -> KeyRecord | None: ...


class Directory:
    """Callers by credential for one running gateway."""

    def __init__(self, book: Book, source: AccountSource, state: MemoryState) -> None:
        self._book = book
        state.use(book)
        self._source = source
        self._state = state
        self._by_digest: dict[bytes, Caller] = {}
        self._unknown: set[bytes] = set()
        self._named: dict[tuple[CallerKind, str, str], Caller] = {}

    def use(self, book: Book) -> None:
        """Switch to another book; every credential is looked up anew."""
        self._book = book
        self._state.use(book)
        self.forget_all()

    def cached(self, digest: bytes) -> Caller | None:
        """The caller of a key that was looked up before."""
        return self._by_digest.get(digest)

    def by_key(self, digest: bytes) -> Caller | None:
        """The caller of a key's SHA-256, or None when there is no such key."""
        caller = self._by_digest.get(digest)
        if caller is not None or digest in self._unknown:
            return caller
        record = self._book.keys.get(digest) or self._source.key(digest)
        state = None if record is None else self.account_state(record.account)
        if record is None or state is None:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown.add(digest)
            return None
        if len(self._by_digest) >= CALLERS_MAX:
            # The oldest tenth; a dictionary keeps the order of insertion.
            for old in [d for d, _ in zip(self._by_digest, range(CALLERS_MAX // 10), strict=False)]:
                del self._by_digest[old]
        head = self._identity_head("api_key", state.account, record)
        caller = Caller("api_key", state, record, record.user, record.project, head)
        self._by_digest[digest] = caller
        return caller

    def by_name(self, kind: CallerKind, account_id: str, user: str = "") -> Caller | None:
        """The caller of a cookie or of nobody: an account by its name."""
        caller = self._named.get((kind, account_id, user))
        if caller is None:
            state = self.account_state(account_id)
            if state is None:
                return None
            head = self._identity_head(kind, state.account, None, user)
            caller = Caller(kind, state, None, user, "", head)
            if len(self._named) >= UNKNOWN_MAX:
                self._named.clear()
            self._named[kind, account_id, user] = caller
        return caller

    def account_state(self, account_id: str) -> AccountState | None:
        """The live state of a declared or stored account; "" is nobody's account."""
        if account_id == "":
            return self._state.account(Account("", ""), _NO_PLAN)
        account = self._book.accounts.get(account_id) or self._source.account(account_id)
        if account is None:
            return None
        return self._state.account(account, self.plan_of(account))

    def plan_of(self, account: Account) -> Plan:
        """The account's effective plan; one that no longer exists is the default plan."""
        plans = self._book.plans
        default = plans.get(self._book.default_plan or "", _NO_PLAN)
        return effective_plan(plans.get(account.plan, default), account)

    def forget_key(self, digest: bytes) -> None:
        self._by_digest.pop(digest, None)
        self._unknown.discard(digest)

    def forget_unknown(self) -> None:
        """Keys that were not there may be there now."""
        self._unknown.clear()

    def forget_accounts(self, account_ids: set[str]) -> None:
        """Let go of callers whose account is no longer live."""
        if account_ids:
            for callers in (self._by_digest, self._named):
                gone = [k for k, c in callers.items() if c.account.account.id in account_ids]
                for key in gone:
                    del callers[key]  # type: ignore[arg-type]

    def forget_all(self) -> None:
        self._by_digest.clear()
        self._unknown.clear()
        self._named.clear()

    def _identity_head(
        self, kind: CallerKind, account: Account, record: KeyRecord | None, user: str = ""
    ) -> bytes:
        """The header lines that tell the backend who calls."""
        values = {
            "account": account.id,
            "plan": account.plan,
            "kind": kind,
            "user": record.user if record else user,
            "project": record.project if record else "",
            "key": record.id if record else "",
        }
        lines = [
            f"{name}: {values[what]}\r\n"
            for what, name in self._book.identify.forward_headers.items()
            if values[what]
        ]
        return "".join(lines).encode()
