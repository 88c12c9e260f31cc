"""Where the gateway deviates from a corpus on purpose, and why.

The corpora describe parsers; a gateway that meters has to be stricter. Tables,
so that every deviation is read, not skipped: an entry that is no longer true
fails the suite.
"""

from __future__ import annotations

_CONNECT = "CONNECT asks for a tunnel; the gateway is no forward proxy (405)"
_ASTERISK = "'*' is no path, so it has no price"
_FOREIGN = "absolute-form names a host that is not configured: never used for routing"
_NO_HOST = "HTTP/1.1 without Host, which the corpus could not add behind the leading CRLF"
_ZEROES = "a Content-Length with leading zeroes is read as octal by some"
_CODING = "only 'chunked' is spoken; another coding would have to be taken off to be priced"
_SEGMENT = (
    "the bytes that follow in the same segment are no request (no Host, or no HTTP at all): "
    "nothing of the segment is served"
)
_HOST = "the Host header '0.0.0.0=5000' is not a host with an optional port"

# Cases marked `accept` that are refused.
REFUSED_BY_POLICY: dict[str, str] = {
    "request_connection.md:Restarting when keep-alive is explicitly": _SEGMENT,
    "request_connection.md:CRLF between requests, explicit `close`": _SEGMENT,
    "request_connection.md:Upgrade GET request": _SEGMENT,
    "request_pipelining.md:Should parse multiple events": _SEGMENT,
    "request_content-length.md:`Content-Length` with zeroes": _ZEROES,
    "request_content-length.md:`Content-Length` with follow-up headers": _ZEROES,
    "request_method.md:CONNECT request": _CONNECT,
    "request_method.md:CONNECT request with CAPS": _CONNECT,
    "request_method.md:CONNECT with body": _CONNECT,
    "request_uri.md:Underscore in hostname": _CONNECT,
    "request_method.md:M-SEARCH request": _ASTERISK,
    "request_method.md:PRI request HTTP2": _ASTERISK,
    "request_method.md:ANNOUNCE request with RTSP": "a method of RTSP, which is not spoken",
    "request_sample.md:curl GET": _HOST,
    "request_sample.md:Firefox GET": _HOST,
    "request_sample.md:Prefix newline": _NO_HOST,
    "request_sample.md:Request starting with CRLF": _NO_HOST,
    "request_sample.md:No HTTP version": "HTTP/0.9 has no headers, so nobody could be identified",
    "request_transfer-encoding.md:POST with `chunked` as last transfer-encoding": _CODING,
    "request_transfer-encoding.md:POST with `chunked` as last transfer-encoding (multiple "
    "headers)": _CODING,
    "request_uri.md:Host terminated by a query string": _FOREIGN,
    "request_uri.md:`host:port` terminated by a query string": _FOREIGN,
    "request_uri.md:`host:port` terminated by a space": _FOREIGN,
    "request_uri.md:`host:port` and basic auth": _FOREIGN,
    "request_uri.md:Fragment in URI": "some backends cut a fragment off: two paths",
}

# Cases that are forwarded although the reference parser refuses them.
FORWARDED_NORMALISED: dict[str, str] = {
    "request_method.md:SOURCE request with ICE": "ICE/1.0 is read, and forwarded, as HTTP",
    "request_method.md:OPTIONS request with RTSP": "RTSP/1.0 is read, and forwarded, as HTTP",
}
