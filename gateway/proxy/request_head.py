"""The request as the backend gets it: one framing, our own headers, the rest untouched."""

from __future__ import annotations

from gateway.core.book import Upstream
from gateway.proxy.connection import address_in
from gateway.proxy.exchange import NO_BODY, NO_LENGTH, Exchange


def request_head(x: Exchange) -> bytes:
    """The head's bytes, up to and with the empty line."""
    target = x.route.upstream.base_path + x.target.path
    if x.query is not None:
        target = f"{target}?{x.query}"
    # The path is ASCII and so is the query: the parser lets nothing else through.
    line = f"{x.method} {target} HTTP/1.1\r\nX-Request-Id: {x.request_id}\r\n"
    memo = x.memo
    if memo is None:
        return line.encode("utf-8", "surrogateescape") + _block(x) + _framing(x)
    if memo.route is not x.route:
        memo.block = _block(x)
        memo.route = x.route
    return line.encode("utf-8", "surrogateescape") + memo.block + _framing(x)


def _framing(x: Exchange) -> bytes:
    """How the body is delimited, what is expected, and the empty line."""
    if x.body_length == NO_BODY:
        if x.is_websocket:
            return b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        has_content = x.method in ("POST", "PUT", "PATCH")
        return b"Content-Length: 0\r\n\r\n" if has_content else b"\r\n"
    expect = b"Expect: 100-continue\r\n" if x.expects_continue else b""
    if x.body_length == NO_LENGTH:
        return b"Transfer-Encoding: chunked\r\n%b\r\n" % expect
    return b"Content-Length: %d\r\n%b\r\n" % (x.body_length, expect)


def _block(x: Exchange) -> bytes:
    """The header lines that depend only on the client's headers, the caller and the route."""
    upstream = x.route.upstream
    lines = [f"Host: {_host(x, upstream)}\r\n".encode()]
    kept = x.kept
    edits = upstream.request_headers
    if x.route.pass_credential:
        kept = kept + [pair for _, pair in x.credentials if pair not in kept]
    if edits.remove or edits.set:
        gone = edits.remove | {name.lower() for name, _ in edits.set}
        kept = [pair for pair in kept if pair[0].lower() not in gone]
    for pair in kept:
        lines.append(b"%b: %b\r\n" % pair)
    for pair in edits.set:
        lines.append(b"%b: %b\r\n" % pair)
    lines.append(_ours(x))
    lines.append(x.caller.identity_head)
    for header, setting in x.route.send_settings:
        value = x.account.account.setting(x.book.settings[setting])
        lines.append(f"{header}: {value}\r\n".encode())
    if x.measure is not None and x.measure.price.reads_answer:
        lines = [line for line in lines if line[:16].lower() != b"accept-encoding:"]
        lines.append(_readable_codings(x))
    if x.te_trailers and not x.is_websocket:
        lines.append(b"Connection: TE\r\nTE: trailers\r\n")
    return b"".join(lines)


def _readable_codings(x: Exchange) -> bytes:
    """Of the compressions that the client takes, the one that the tap can read too."""
    accepted = ",".join(x.headers.getall("Accept-Encoding", [])).lower()
    names = [token.partition(";") for token in accepted.split(",")]
    takes_gzip = any(
        name.strip() == "gzip" and "q=0" not in rest.replace("0.", "") for name, _, rest in names
    )
    return b"Accept-Encoding: %b\r\n" % (b"gzip" if takes_gzip else b"identity")


def _host(x: Exchange, upstream: Upstream) -> str:
    if upstream.host_header == "keep":
        return x.host_header or upstream.authority
    return upstream.authority


def _ours(x: Exchange) -> bytes:
    """Where the request came from, as we saw it."""
    connection = x.connection
    came_by = connection.peer
    if x.forwarded_for is not None and x.source != came_by:
        came_by = f"{x.forwarded_for.decode('latin-1')}, {came_by}"
    scheme = "https" if connection.is_tls else "http"
    via = x.book.response_headers.via
    host = x.host_header
    version = "1.1" if x.is_http11 else "1.0"
    return (
        f"X-Forwarded-For: {came_by}\r\nX-Forwarded-Proto: {scheme}\r\n"
        f"X-Forwarded-Host: {host}\r\nVia: {version} {via}\r\n"
    ).encode("utf-8", "surrogateescape")


def find_source(x: Exchange, trusted: tuple[object, ...]) -> None:
    """Set `x.source`: the peer, or behind trusted proxies the nearest address that is not one.

    The right-most address of X-Forwarded-For that no trusted proxy has is the
    last one that somebody we trust has seen.
    """
    networks = trusted
    peer = x.connection.peer
    x.source = peer
    if x.forwarded_for is None or not address_in(peer, networks):  # type: ignore[arg-type]
        x.forwarded_for = None
        return
    for text in reversed(x.forwarded_for.decode("latin-1").split(",")):
        address = _bare_address(text.strip())
        if address is None:
            return
        x.source = address
        if not address_in(address, networks):  # type: ignore[arg-type]
            return


def _bare_address(text: str) -> str | None:
    """An address without port or brackets; None when it is none."""
    import ipaddress

    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
