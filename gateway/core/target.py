"""The canonical form of a request target: the only thing routes are matched on.

Question: which path will the backend serve? Invariant: two targets that common
backends serve alike have one canonical form, and a target that they serve
differently (dot segments, doubled or encoded slashes, backslashes, `;params`,
NUL, overlong UTF-8, fragments) is refused. The raw bytes are forwarded as they
came; the canonical form is never sent. Must not know Host, sockets or routes.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.core.malformed import Malformed

# Nearly every path: characters that need no decoding, no empty segment and no
# segment that begins or ends with a dot. One regular expression, linear in the path.
_PLAIN = re.compile(
    r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-]+(?:\.+[A-Za-z0-9_~!$&'()*+,=:@-]+)*)+/?|/"
).fullmatch
_LEGAL = re.compile(r"/[A-Za-z0-9_~!$&'()*+,=:@./%|^`{}\"<>\[\]-]*").fullmatch
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search
# Encoded controls (00-1F, 7F), slash and backslash: backends disagree on each.
_ENCODED_TROUBLE = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff]|2[Ff]|5[Cc])").search


class Target(NamedTuple):
    """A request target taken apart; `path` and `query` are as they came."""

    canonical: str  # decoded, for matching only
    path: str
    query: str | None  # without the "?", None when there was none


def parse_target(raw: str, known_hosts: frozenset[str]) -> Target:
    """Take a raw request target apart.

    An absolute-form target is accepted only for a host of the configuration,
    and that host then counts for nothing: the upstream comes from the route.
    Raises Malformed (400; 501 for `*`).
    """
    if raw[:1] != "/":
        raw = _origin_form(raw, known_hosts)
    if "#" in raw:
        raise Malformed("The request target has a fragment.")
    path, mark, query = raw.partition("?")
    return Target(canonical_path(path), path, query if mark else None)


def canonical_path(path: str) -> str:
    """The decoded path without a trailing slash (the root is "/").

    Raises Malformed for what backends read differently.
    """
    if _PLAIN(path) is None:
        path = _decode(path)
    if path[-1] == "/" and len(path) > 1:
        return path[:-1]
    return path


def _decode(path: str) -> str:
    if _LEGAL(path) is None:
        raise Malformed("The path has a character that must be percent-encoded, or a ';' or '\\'.")
    if _BAD_ESCAPE(path):
        raise Malformed("The path has a '%' that is not followed by two hexadecimal digits.")
    if _ENCODED_TROUBLE(path):
        raise Malformed("The path has an encoded control character, slash or backslash.")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("The path is not valid UTF-8 when decoded.") from None
    if "//" in decoded:
        raise Malformed("The path has an empty segment ('//').")
    if any(segment.endswith((".", " ")) for segment in decoded.split("/")):
        # '.' and '..', and what some file systems take for the name without it.
        raise Malformed("The path has a segment that ends with a dot or a space.")
    return decoded


def _origin_form(raw: str, known_hosts: frozenset[str]) -> str:
    if raw == "*":
        raise Malformed("'*' as request target is not implemented.", 501, "not_implemented")
    scheme, mark, rest = raw.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        raise Malformed("The request target must begin with '/'.")
    authority, slash, path = rest.partition("/")
    if authority.lower().split(":")[0] not in known_hosts or "@" in authority:
        raise Malformed("The request target names a host that is not served here.")
    if "?" in authority or "#" in authority:
        raise Malformed("The request target has no path.")
    return slash + path if slash else "/"
