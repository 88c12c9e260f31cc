"""The caller: what identify found out about who is calling."""

from __future__ import annotations

from gateway.core.book import CallerKind
from gateway.core.identity import KeyRecord
from gateway.state.base import AccountState


class Caller:
    """One credential's meaning, cached; `identity_head` is sent to the backend."""

    __slots__ = ("kind", "account", "key", "key_id", "user", "project", "identity_head")

    def __init__(
        self,
        kind: CallerKind,
        account: AccountState,
        key: KeyRecord | None = None,
        user: str = "",
        project: str = "",
        identity_head: bytes = b"",
    ) -> None:
        self.kind = kind
        self.account = account
        self.key = key
        self.key_id = key.id if key else ""
        self.user = user
        self.project = project
        self.identity_head = identity_head

    def __repr__(self) -> str:
        return f"<Caller {self.kind} {self.account.account.id} {self.key_id}>"
