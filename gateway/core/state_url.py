"""Where a shared state is kept: one server, what Sentinels watch, or a Cluster.

    redis://[user:password@]host[:port][/database]
    redis+sentinel://[user:password@]sentinel[:port],.../service[/database]
    redis+cluster://[user:password@]node[:port],...

`rediss` in place of `redis` is TLS, to Sentinels too. What stands behind `?` is in OPTIONS.
Nothing here shows what it was given: it may have a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote

Kind = Literal["single", "sentinel", "cluster"]

_KINDS: dict[str, Kind] = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}
_PORTS: dict[Kind, int] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_URL = re.compile(r"([A-Za-z+]+)://([^/?#]*)([^?#]*)(?:\?([^#]*))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_DATABASE = re.compile(r"[0-9]{1,5}")

TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"}
    | {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers"}
)
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
OPTIONS = TLS_OPTIONS | SENTINEL_OPTIONS | {"client_name", "socket_keepalive"}


class WrongUrl(ValueError):
    """`found` is what is wrong, in words; `hint` what would be right, or ""."""

    def __init__(self, found: str, hint: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.hint = hint


@dataclass(frozen=True, slots=True)
class StateUrl:
    """`hosts` are the server, the Sentinels or some nodes of the Cluster, with their ports."""

    kind: Kind
    is_tls: bool
    hosts: tuple[tuple[str, int], ...]
    user: str = ""  # `name:password@` as it was written
    service: str = ""  # what Sentinels call the server
    database: int = 0
    options: tuple[tuple[str, str], ...] = ()
    query: str = ""  # the options as they were written, without the Sentinels' own

    def at(self, host: str, port: int) -> str:
        """The URL of one server of this kind of connection."""
        scheme = "rediss" if self.is_tls else "redis"
        address = f"[{host}]" if ":" in host else host
        query = f"?{self.query}" if self.query else ""
        return f"{scheme}://{self.user}{address}:{port}/{self.database}{query}"


def read_state_url(value: str) -> StateUrl:
    """Raises WrongUrl."""
    # Several hosts are no URL to a library: some take brackets among commas for a mistake.
    match = _URL.fullmatch(value)
    name = match[1].lower() if match else ""
    scheme, _, kind_name = name.partition("+")
    kind = _KINDS.get(kind_name)
    if match is None or scheme not in ("redis", "rediss") or kind is None:
        raise WrongUrl(f"one that begins with {name[:20]!r}")
    user, at, hosts = match[2].rpartition("@")
    found = _hosts(kind, hosts)
    service, database = _path(kind, match[3])
    options, query = _options(kind, scheme == "rediss", match[4] or "")
    return StateUrl(
        *(kind, scheme == "rediss", found, user + at),
        *(service, database, options, query),
    )


def _hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    if not text:
        raise WrongUrl("one without a host")
    names = text.split(",")
    if kind == "single" and len(names) > 1:
        hint = "redis+cluster:// names some nodes of a Cluster, redis+sentinel:// its Sentinels"
        raise WrongUrl("several hosts", hint)
    found = []
    for name in names:
        match = _HOST.fullmatch(name)
        if match is None or not 0 < int(match[2] or _PORTS[kind]) <= 65535:
            raise WrongUrl("a host or port that cannot be read")
        found.append((match[1].strip("[]"), int(match[2] or _PORTS[kind])))
    return tuple(found)


def _path(kind: Kind, path: str) -> tuple[str, int]:
    """The service and the database's number."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    service = parts.pop(0) if kind == "sentinel" else ""
    if kind == "sentinel" and not service:
        raise WrongUrl("one without the name of the service", "as in redis+sentinel://host/main")
    database = parts[0] if parts else ""
    if len(parts) > 1 or not (database == "" or _DATABASE.fullmatch(database)):
        raise WrongUrl("a path that is no database's number")
    if kind == "cluster" and int(database or 0):
        raise WrongUrl("another database than 0", "a Cluster has no other")
    return service, int(database or 0)


def _options(kind: Kind, is_tls: bool, query: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """All of them; and the text of those that are not for Sentinels alone."""
    found = tuple(parse_qsl(query, keep_blank_values=True))
    names = {name for name, _ in found}
    if names - OPTIONS or (query and not found):
        raise WrongUrl("an option that is not known", f"known are {', '.join(sorted(OPTIONS))}")
    if names & TLS_OPTIONS and not is_tls:
        raise WrongUrl("an option of TLS", "TLS begins with rediss")
    if names & SENTINEL_OPTIONS and kind != "sentinel":
        raise WrongUrl("an option of Sentinels", "their URL begins with redis+sentinel://")
    rest = [part for part in query.split("&") if part.partition("=")[0] not in SENTINEL_OPTIONS]
    return found, "&".join(rest)
