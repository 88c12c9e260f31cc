"""The last head of a connection, so that the same head is not read twice.

A client on a kept connection mostly sends the same headers, and often the same
request line. Invariant: a memo is used only when the raw headers are equal byte for
byte, the rules are the same and the head had no body, upgrade, expectation,
id or forwarding of its own; and the key is looked up again each time, so that
revocation and expiry hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from gateway.core.book import Plan, Route
from gateway.core.pricing import Charges, Price
from gateway.proxy.exchange import NO_BODY, Exchange
from gateway.proxy.head import HeadRules
from gateway.proxy.limit_set import LimitSet

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage


class Decided(NamedTuple):
    """What route and price came to; good for the same line, caller and plan."""

    route: Route
    project: str
    charges: Charges
    limit_set: LimitSet
    price: Price
    parameters: Mapping[str, str]  # of the route's template, for a measured price


class HeadMemo:
    """What a head came to: everything but its request line."""

    __slots__ = (
        "raw_headers", "rules", "version", "is_http11", "keep_alive", "host", "host_header", "kept",
        "credentials", "cookie", "te_trailers", "digest", "caller", "route", "block",
        "line", "target", "plan", "decided",
    )  # fmt: skip

    def __init__(
        self, x: Exchange, digest: bytes, message: RawRequestMessage, rules: HeadRules
    ) -> None:
        self.raw_headers = message.raw_headers
        self.version = message.version
        self.rules = rules
        self.is_http11 = x.is_http11
        self.keep_alive = x.keep_alive
        self.host = x.host
        self.host_header = x.host_header
        self.kept = x.kept
        self.credentials = x.credentials
        self.cookie = x.cookie
        self.te_trailers = x.te_trailers
        self.digest = digest
        self.caller = x.caller
        self.route: Route | None = None  # of the request head that `block` belongs to
        self.block = b""
        # The last request line under this head, and what the path decided of it.
        self.line = ("", "")
        self.target = x.target
        self.plan: Plan | None = None
        self.decided: Decided | None = None

    def fill(self, x: Exchange) -> None:
        """Set what read_head and identify would set."""
        x.is_http11 = self.is_http11
        x.keep_alive = self.keep_alive
        x.host = self.host
        x.host_header = self.host_header
        x.kept = self.kept
        x.credentials = self.credentials
        x.cookie = self.cookie
        x.te_trailers = self.te_trailers
        x.forwarded_for = None
        x.expects_continue = x.is_websocket = False
        x.body_length = NO_BODY
        x.caller = self.caller
        x.account = self.caller.account


def may_be_kept(x: Exchange, rules: HeadRules) -> bool:
    """Whether a head that was just read and identified by key can be kept."""
    return (
        x.body_length == NO_BODY
        and not x.expects_continue
        and not x.is_websocket
        and x.keep_alive
        and x.forwarded_for is None
        and x.request_id is x.event_id
        and not rules.key_parameters
    )
