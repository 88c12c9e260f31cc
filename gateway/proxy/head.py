"""Reading a request's head: is it unambiguous, and what may go on.

Question: which of these bytes may a backend see, and what do they mean?
Invariant: after `read_head` there is exactly one framing, one Host and one
target; every header that the gateway itself sets, that belongs to one hop, or
that carries a credential is no longer among `exchange.kept`. One pass over the
raw headers. Must not know accounts, prices or upstreams.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp.http import HttpVersion10, HttpVersion11

from gateway.core.book import Book, Network
from gateway.core.malformed import Malformed
from gateway.core.target import parse_target
from gateway.proxy.exchange import NO_BODY, NO_LENGTH, Exchange

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,18}").fullmatch
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}").fullmatch
_WEBSOCKET_KEY = re.compile(r"[A-Za-z0-9+/]{22}==").fullmatch
_FOLD = bytes.maketrans(b"_.", b"--")

# What a header name means to us. The rest passes as it came.
DROP, HOST, LENGTH, CODING, CONNECTION, TE, EXPECT, FORWARDED, REQUEST_ID = range(1, 10)
AUTHORIZATION, KEY_HEADER, COOKIE, VIA, UPGRADE = range(10, 15)

_MEANINGS: dict[bytes, int] = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"te": TE,
    b"expect": EXPECT,
    b"x-request-id": REQUEST_ID,
    b"authorization": AUTHORIZATION,
    b"cookie": COOKIE,
    b"via": VIA,
    b"upgrade": UPGRADE,
    # one hop only, or spoken by us (RFC 9110 7.6.1; `Proxy` is httpoxy)
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authorization": DROP,
    b"proxy-authenticate": DROP,
    b"proxy": DROP,
    b"trailer": DROP,
    b"http2-settings": DROP,
    # where a request came from is said by us
    b"x-forwarded-for": FORWARDED,
    b"x-forwarded-proto": DROP,
    b"x-forwarded-host": DROP,
    b"x-forwarded-port": DROP,
    b"x-forwarded-prefix": DROP,
    b"x-forwarded-ssl": DROP,
    b"x-real-ip": DROP,
    b"forwarded": DROP,
    # a rule matched on the method must not be undone behind us
    b"x-http-method-override": DROP,
    b"x-http-method": DROP,
    b"x-method-override": DROP,
    b"x-method": DROP,
    b"x-original-method": DROP,
    b"x-forwarded-method": DROP,
    # nor one matched on the path or the host
    b"x-original-url": DROP,
    b"x-original-uri": DROP,
    b"x-original-host": DROP,
    b"x-rewrite-url": DROP,
    b"x-forwarded-uri": DROP,
    b"x-forwarded-path": DROP,
    b"x-host": DROP,
}
# What decides how the rest of a request is read.
_READ_ALWAYS = frozenset((b"cookie", b"content-type", b"content-encoding"))


class HeadRules:
    """The header table of one book."""

    __slots__ = (
        "meanings", "read", "folded", "trusted", "hosts", "known_hosts",
        "has_bearer", "key_headers", "key_parameters", "cookies",
    )  # fmt: skip

    def __init__(self, book: Book) -> None:
        self.meanings = dict(_MEANINGS)
        sources = book.identify.sources
        self.has_bearer = any(source.kind == "bearer" for source in sources)
        self.key_headers = frozenset(s.name.encode() for s in sources if s.kind == "header")
        self.key_parameters = frozenset(s.name for s in sources if s.kind == "query")
        self.cookies = tuple(s for s in sources if s.kind == "cookie")
        for name in self.key_headers:
            self.meanings[name] = KEY_HEADER
        sent = [header for route in book.routes for header, _ in route.send_settings]
        for told in (*book.identify.forward_headers.values(), *sent):
            self.meanings[told.lower().encode()] = DROP
        self.read = _READ_ALWAYS | headers_read(book)
        # Backends that fold names (CGI, WSGI) must not see an alias of these.
        self.folded = frozenset(name.translate(_FOLD) for name in (*self.meanings, *self.read))
        self.trusted: tuple[Network, ...] = book.trusted_proxies
        self.known_hosts = book.table.hosts
        self.hosts: dict[bytes, str] = {}  # checked Host values, bounded


def headers_read(book: Book) -> frozenset[bytes]:
    """The request headers, in lower case, that routes and prices look at."""
    routes = book.routes if book.unmatched is None else (*book.routes, book.unmatched)
    names = {name for route in routes for name, _ in route.headers}
    for price in [price for route in routes for price in route.prices.values()]:
        names |= {f.name for f in price.figures() if f.source == "request.header"}
    return frozenset(name.lower().encode() for name in names)


# CONNECT makes tunnels and TRACE echoes keys; the others are RTSP's and HTTP/2's,
# which the parser reads as HTTP/1.
NOT_SERVED = frozenset(
    ("CONNECT", "TRACE", "ANNOUNCE", "DESCRIBE", "FLUSH", "GET_PARAMETER", "PAUSE", "PLAY",
     "PRI", "RECORD", "REDIRECT", "SETUP", "SET_PARAMETER", "TEARDOWN")
)  # fmt: skip

# More different Host values than this are checked each time.
HOSTS_MAX = 1_000


def read_head(x: Exchange, message: RawRequestMessage, rules: HeadRules) -> None:
    """Fill the exchange from the head. Raises Malformed where it is not certain."""
    x.headers = message.headers
    x.is_http11 = message.version[1] == 1
    x.credentials = []
    x.cookie = None
    x.forwarded_for = None
    x.expects_continue = x.is_websocket = x.te_trailers = False
    x.body_length = NO_BODY
    x.method = message.method
    _read_headers(x, message.raw_headers, rules)
    read_request_line(x, message, rules)
    if message.should_close:
        x.keep_alive = False
    if message.upgrade:
        x.is_websocket = _is_websocket(x)
        x.keep_alive = False


def read_request_line(x: Exchange, message: RawRequestMessage, rules: HeadRules) -> None:
    """Method, version and target. Raises Malformed."""
    x.method = method = message.method
    version = message.version
    if version is not HttpVersion11 and version != HttpVersion10:
        raise Malformed("Only HTTP/1.1 and HTTP/1.0 are spoken.", 505, "version_not_supported")
    if method in NOT_SERVED:
        raise Malformed(f"{method} is not served.", 405, "method_not_allowed")
    x.target = target = parse_target(message.path, rules.known_hosts)
    x.query = target.query


def _read_headers(
    x: Exchange, raw_headers: tuple[tuple[bytes, bytes], ...], rules: HeadRules
) -> None:
    kept: list[tuple[bytes, bytes]] = []
    meanings = rules.meanings
    host: bytes | None = None
    length: bytes | None = None
    coding: bytes | None = None
    connection: bytes | None = None
    for pair in raw_headers:
        name = pair[0].lower()
        meaning = meanings.get(name)
        if meaning is None:
            is_odd = b"_" in name or b"." in name
            if is_odd and name not in rules.read and name.translate(_FOLD) in rules.folded:
                continue  # an alias of a name that is ours, or that is looked at
            kept.append(pair)
        elif meaning == HOST:
            if host is not None:
                raise Malformed("There is more than one Host header.")
            host = pair[1]
        elif meaning in (AUTHORIZATION, KEY_HEADER):
            if meaning == AUTHORIZATION and any(name == other for other, _ in x.credentials):
                raise Malformed("There is more than one Authorization header.")
            x.credentials.append((name, pair))
        elif meaning == LENGTH:
            if length is not None:
                raise Malformed("There is more than one Content-Length header.")
            length = pair[1]
        elif meaning == CODING:
            if coding is not None:
                raise Malformed("There is more than one Transfer-Encoding header.")
            coding = pair[1]
        elif meaning == CONNECTION:
            connection = pair[1] if connection is None else connection + b"," + pair[1]
        elif meaning != DROP:
            _read_other(x, meaning, pair, kept, rules)
    x.kept = kept
    x.host = _check_host(host, x.is_http11, rules)
    x.host_header = host.decode("ascii") if host else ""
    x.body_length = _check_framing(length, coding, x.is_http11)
    if connection is not None and connection.lower() not in (b"keep-alive", b"close"):
        _drop_connection_headers(x, connection, rules)


def _read_other(
    x: Exchange,
    meaning: int,
    pair: tuple[bytes, bytes],
    kept: list[tuple[bytes, bytes]],
    rules: HeadRules,
) -> None:
    value = pair[1]
    if meaning == COOKIE:
        x.cookie = value if x.cookie is None else x.cookie + b"; " + value
        kept.append(pair)
    elif meaning == REQUEST_ID:
        if _REQUEST_ID(value):
            x.request_id = value.decode()
    elif meaning == VIA:
        kept.append(pair)
    elif meaning == TE:
        x.te_trailers = any(part.strip().lower() == b"trailers" for part in value.split(b","))
    elif meaning == EXPECT:
        if value.lower() != b"100-continue":
            raise Malformed("Only 'Expect: 100-continue' is known.", 417, "expectation_failed")
        x.expects_continue = x.is_http11
    elif meaning == FORWARDED:
        x.forwarded_for = value if x.forwarded_for is None else x.forwarded_for + b"," + value


def _check_host(host: bytes | None, is_http11: bool, rules: HeadRules) -> str:
    if host is None:
        if is_http11:
            raise Malformed("The Host header is missing.")
        return ""
    known = rules.hosts.get(host)
    if known is not None:
        return known
    if _HOST(host) is None:
        raise Malformed("The Host header is not a host with an optional port.")
    name = host.decode().lower()
    name = name[: name.index("]") + 1] if name[0] == "[" else name.partition(":")[0]
    name = name.removesuffix(".")  # of the root: the same host
    if not name or name.endswith("."):
        raise Malformed("The Host header is not a host with an optional port.")
    if len(rules.hosts) < HOSTS_MAX:
        rules.hosts[host] = name
    return name


def _check_framing(length: bytes | None, coding: bytes | None, is_http11: bool) -> int:
    if coding is None:
        if length is None:
            return NO_BODY
        if _LENGTH(length) is None:
            raise Malformed("Content-Length is not a plain decimal number.")
        return int(length)
    if length is not None:
        raise Malformed("Content-Length and Transfer-Encoding exclude each other.")
    if not is_http11:
        raise Malformed("HTTP/1.0 has no Transfer-Encoding.")
    if coding.lower() != b"chunked":
        raise Malformed("Transfer-Encoding is something other than 'chunked'.")
    return NO_LENGTH


def _drop_connection_headers(x: Exchange, connection: bytes, rules: HeadRules) -> None:
    """Remove what Connection names. What is ours was set apart before.

    What decided on the request must reach the backend as it was read here.
    """
    named = {token.strip().lower() for token in connection.split(b",")}
    dropped = {pair[0].lower() for pair in x.kept} & named
    if not dropped.isdisjoint(rules.read):
        raise Malformed("Connection names a header that is no matter of one hop.")
    x.kept = [pair for pair in x.kept if pair[0].lower() not in dropped]


def _is_websocket(x: Exchange) -> bool:
    """A proper RFC 6455 opening handshake; any other Upgrade is ignored."""
    headers = x.headers
    return (
        x.method == "GET"
        and x.is_http11
        and x.body_length == NO_BODY
        and headers.get("Upgrade", "").lower() == "websocket"
        and headers.get("Sec-WebSocket-Version") == "13"
        and _WEBSOCKET_KEY(headers.get("Sec-WebSocket-Key", "")) is not None
    )
