"""Identify: which credential does this request carry, and whose is it.

The configured sources are read in their order. Two different credentials are
ambiguous (400). A cookie counts only where no key and no Authorization header
came with it, so that nobody gets a browser's price for a key's call. Every
wrong credential takes the same path and the same answer.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from urllib.parse import unquote_plus

from gateway.core.book import CredentialSource
from gateway.core.identity import KEY_LENGTH_MAX, is_well_formed
from gateway.core.malformed import Malformed
from gateway.core.refusals import Refusal
from gateway.proxy.caller import Caller
from gateway.proxy.directory import Directory
from gateway.proxy.exchange import Exchange
from gateway.proxy.head import HeadRules

_KEY = re.compile(rb"[\x21-\x7e]{1,256}").fullmatch
assert KEY_LENGTH_MAX == 256

UNAUTHORIZED = Refusal("unauthorized", headers=(("WWW-Authenticate", "Bearer"),))
INVALID = Refusal("key_invalid", headers=(("WWW-Authenticate", 'Bearer error="invalid_token"'),))
EXPIRED = Refusal("key_expired", headers=(("WWW-Authenticate", 'Bearer error="invalid_token"'),))


class FailureCounter:
    """Bad credentials by source address in the current minute."""

    # More addresses than this start the minute anew: a flood takes no memory.
    ADDRESSES_MAX = 10_000

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._minute = 0
        self._failures: dict[str, int] = {}

    def add(self, source: str, now_us: int) -> None:
        self._roll(now_us)
        self._failures[source] = self._failures.get(source, 0) + 1

    def is_over(self, source: str, now_us: int) -> bool:
        if not self._failures:
            return False
        self._roll(now_us)
        return self._failures.get(source, 0) >= self.per_minute

    def _roll(self, now_us: int) -> None:
        minute = now_us // 60_000_000
        if minute != self._minute or len(self._failures) >= self.ADDRESSES_MAX:
            self._minute = minute
            self._failures.clear()


def identify(
    x: Exchange, rules: HeadRules, directory: Directory, failures: FailureCounter
) -> Refusal | None:
    """Set `x.caller`, or say why not. Raises Malformed for two credentials."""
    key = _find_key(x, rules)
    if key is None:
        return _without_key(x, rules, directory, failures)
    x.digest = digest = sha256(key).digest()
    caller = directory.cached(digest)
    if caller is None and _is_plausible(key) and not failures.is_over(x.source, x.time_us):
        caller = directory.by_key(digest)
    if caller is None or caller.key is None:
        return _failed(x, failures, INVALID)
    x.caller = caller
    x.account = caller.account
    return check_key(x, caller, failures)


def check_key(x: Exchange, caller: Caller, failures: FailureCounter) -> Refusal | None:
    """Whether a known key may be used now and from here."""
    record = caller.key
    assert record is not None
    if record.revoked_us is not None and record.revoked_us <= x.time_us:
        return _failed(x, failures, INVALID)
    if record.expires_us is not None and record.expires_us <= x.time_us:
        return _failed(x, failures, EXPIRED)
    if record.networks is not None and not x.connection.is_from(x.source, record.networks):
        return Refusal("forbidden_network")
    return None


def _find_key(x: Exchange, rules: HeadRules) -> bytes | None:
    """The one key of the request; its places are no longer forwarded.

    Header places that turn out to hold something else (Basic, say) go back
    among the headers that are kept.
    """
    found: bytes | None = None
    for name, pair in x.credentials:
        value = pair[1]
        if name in rules.key_headers:
            key = value
        elif rules.has_bearer and value[:7].lower() == b"bearer ":
            key = value[7:].strip()
        else:
            x.kept.append(pair)
            continue
        if found is not None and found != key:
            raise Malformed("There are two different API keys.")
        found = key
    if x.query and rules.key_parameters:
        for key in _take_from_query(x, rules.key_parameters):
            if found is not None and found != key:
                raise Malformed("There are two different API keys.")
            found = key
    return found


def _take_from_query(x: Exchange, names: frozenset[str]) -> list[bytes]:
    """Take the key parameters out of the query; the rest stays byte for byte."""
    assert x.query is not None
    keys, rest = [], []
    for part in x.query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) in names:
            keys.append(unquote_plus(value).encode("utf-8", "surrogateescape"))
        else:
            rest.append(part)
    if keys:
        x.query = "&".join(rest) if rest else None
    return keys


def _is_plausible(key: bytes) -> bool:
    """Refuse what cannot be a key before anything is looked up."""
    if _KEY(key) is None:
        return False
    if key[:3] == b"tg_":
        return is_well_formed(key.decode())
    return True


def _without_key(
    x: Exchange, rules: HeadRules, directory: Directory, failures: FailureCounter
) -> Refusal | None:
    """A browser by its cookie, or an anonymous caller."""
    if x.cookie is not None and not x.headers.get("Authorization"):
        for source in rules.cookies:
            value = _cookie_value(x.cookie, source.name.encode())
            if value is not None:
                return _browser(x, source, value, directory, failures)
    caller = directory.by_name("anonymous", x.book.identify.anonymous_account or "")
    if caller is None:
        return UNAUTHORIZED
    x.caller = caller
    x.account = caller.account
    return None


def _browser(
    x: Exchange,
    source: CredentialSource,
    value: bytes,
    directory: Directory,
    failures: FailureCounter,
) -> Refusal | None:
    account, user = source.account or "", ""
    if source.secret is not None:
        signed = _verify_cookie(value, source.secret, x.time_us)
        if signed is None:
            return _failed(x, failures, INVALID)
        account, user = signed
    caller = directory.by_name("browser", account, user)
    if caller is None:
        return _failed(x, failures, INVALID)
    x.caller = caller
    x.account = caller.account
    return None


def _cookie_value(cookie: bytes, name: bytes) -> bytes | None:
    for part in cookie.split(b";"):
        found, mark, value = part.strip().partition(b"=")
        if mark and found == name:
            return value.strip(b'"')
    return None


def sign_cookie(account: str, user: str, expires_s: int, secret: bytes) -> str:
    """A session cookie `v1:ACCOUNT:USER:EXPIRES:HMAC-SHA256-HEX` (seconds since the epoch)."""
    body = f"v1:{account}:{user}:{expires_s}"
    return f"{body}:{hmac.new(secret, body.encode(), sha256).hexdigest()}"


def _verify_cookie(value: bytes, secret: bytes, now_us: int) -> tuple[str, str] | None:
    """Account and user of a cookie made by `sign_cookie`, None when it is not one."""
    body, mark, signature = value.rpartition(b":")
    wanted = hmac.new(secret, body, sha256).hexdigest().encode()
    if not mark or not hmac.compare_digest(wanted, signature):
        return None
    fields = body.decode("utf-8", "replace").split(":")
    if len(fields) != 4 or fields[0] != "v1" or not fields[3].isdigit():
        return None
    if int(fields[3]) * 1_000_000 <= now_us:
        return None
    return fields[1], fields[2]


def _failed(x: Exchange, failures: FailureCounter, refusal: Refusal) -> Refusal:
    """Count a wrong credential against its address; too many of them say so."""
    if failures.is_over(x.source, x.time_us):
        wait_s = 60 - x.time_us // 1_000_000 % 60
        return Refusal("auth_rate_limited", retry_after_s=wait_s)
    failures.add(x.source, x.time_us)
    return refusal
