"""The kinds of values in a configuration: names, addresses, headers, quantities.

Each is a type for the models: it checks one scalar, turns it into what the rest
of the program uses, and says in JSON Schema what an editor may offer. Raises
Expected only, never a pydantic error. Must not know the models.
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import PlainValidator, WithJsonSchema

from gateway.config import quantities
from gateway.config.problems import Expected, did_you_mean
from gateway.core.book import Network
from gateway.core.periods import HOUR_US
from gateway.core.state_url import WrongUrl, read_state_url

TEXT_CHARS_MAX = 200  # titles and operations stand in tables

# The gateway frames messages itself; an operator's value here could only break them.
FRAMING_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?")
_IDENTITY = re.compile(r"[\x21-\x7e]{1,128}")
_QUERY_NAME = re.compile(r"[A-Za-z0-9_.~-]{1,100}")
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
_BASE_PATH = re.compile(r"[A-Za-z0-9_~!$&'()*+,=:@.%/-]*")
_PATH = re.compile(r"(/[A-Za-z0-9_~!$&'()*+,=:@.-]+)+")


class Address(NamedTuple):
    """Where a listener listens; port 0 is any free one."""

    host: str
    port: int


class BackendUrl(NamedTuple):
    """An upstream's URL taken apart; `base_path` has no trailing slash."""

    scheme: str
    host: str
    port: int
    base_path: str


def parse_name(value: object) -> str:
    """A name that goes into ids, headers and counters."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Expected("a name of 1 to 64 letters, digits, '_', '.' or '-'", hint=_as_text(value))
    return value


def parse_text(value: object) -> str:
    """Text for people: one line, not empty."""
    if not isinstance(value, str):
        raise Expected("text", hint=_as_text(value))
    if not 0 < len(value) <= TEXT_CHARS_MAX or not value.isprintable():
        raise Expected(f"one line of 1 to {TEXT_CHARS_MAX} characters")
    return value


def parse_identity(value: object) -> str:
    """Who calls, as the backend is told in a header."""
    if not isinstance(value, str) or not _IDENTITY.fullmatch(value):
        raise Expected("1 to 128 ASCII characters without spaces", hint=_as_text(value))
    return value


def parse_header_name(value: object) -> str:
    """A header's name, as it is written on the wire."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise Expected("the name of a header", hint=_as_text(value))
    return value


def parse_settable_header(value: object) -> str:
    """A header that an operator may set or remove."""
    name = parse_header_name(value)
    if name.lower() in FRAMING_HEADERS:
        hint = "see the upstream's `host:`" if name.lower() == "host" else ""
        raise Expected("a header that is not part of the framing", hint=hint)
    return name


def parse_header_value(value: object) -> str:
    """A header's value: visible ASCII, spaces inside."""
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        found = "one that is not shown" if isinstance(value, str) else None  # may be a secret
        raise Expected("the value of a header, in ASCII", found=found, hint=_as_text(value))
    return value


def parse_token(value: object) -> str:
    """A single word such as Via's pseudonym."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise Expected("one word without spaces", hint=_as_text(value))
    return value


def parse_query_name(value: object) -> str:
    """A query parameter whose name needs no escaping."""
    if not isinstance(value, str) or not _QUERY_NAME.fullmatch(value):
        raise Expected("the name of a query parameter", hint=_as_text(value))
    return value


def parse_host(value: object) -> str:
    """A host of requests, in lower case: `api.example.com` or `*.example.com`."""
    host = value.lower() if isinstance(value, str) else ""
    if _is_ip(host.strip("[]")) or _HOST.fullmatch(host):
        return host
    name, mark, port = host.rpartition(":")
    hint = f"did you mean {name}?" if mark and port.isdigit() and _HOST.fullmatch(name) else ""
    raise Expected("a host without port, such as api.example.com or *.example.com", hint=hint)


def parse_timezone(value: object) -> str:
    """A name of the IANA time zone database."""
    form = "a time zone such as UTC or Europe/Kyiv"
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise Expected(form)
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):
        raise Expected(form, hint=did_you_mean(value, available_timezones())) from None
    return value


def parse_network(value: object) -> Network:
    """`10.0.0.0/8`, or one address."""
    form = "a network such as 10.0.0.0/8 or an address"
    if not isinstance(value, str):
        raise Expected(form)
    try:
        return ipaddress.ip_network(value)
    except ValueError as exc:
        hint = ""
        if "host bits" in str(exc):
            hint = f"did you mean {ipaddress.ip_network(value, strict=False)}?"
        raise Expected(form, hint=hint) from None


def parse_address(value: object) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`."""
    form = "an address such as 127.0.0.1:8080 or [::1]:8080"
    if not isinstance(value, str):
        hint = f"did you mean 127.0.0.1:{value}?" if type(value) is int else ""
        raise Expected(form, hint=hint)
    host, mark, port = value.rpartition(":")
    if not mark:
        hint = f"did you mean 127.0.0.1:{port}?" if port.isdigit() else "the port is missing"
        raise Expected(form, hint=hint)
    if not host:
        raise Expected(form, hint=f"did you mean 0.0.0.0:{port}?")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise Expected(form, hint="a port is a number up to 65535")
    if host.startswith("[") and host.endswith("]") and _is_ip(host[1:-1]):
        return Address(host[1:-1], int(port))
    if _is_ip(host) and ":" in host:
        raise Expected(form, hint=f"did you mean [{host}]:{port}?")
    if not _HOST.fullmatch(host.lower()) or host.startswith("*"):
        raise Expected(form)
    return Address(host, int(port))


def _split_secret_url(value: str, schemes: tuple[str, ...], form: str) -> SplitResult:
    """Raises Expected, which never shows what it is given: it may have a password."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as exc:
        raise Expected(form, found="one that cannot be read", hint=str(exc)) from None
    if parts.scheme not in schemes:
        raise Expected(form, found=f"one that begins with {parts.scheme[:20]!r}")
    return parts


def parse_database_url(value: str) -> str:
    """`postgresql://...` with a host and a database; never shows what it is given."""
    form = "a URL such as postgresql://user:password@127.0.0.1:5432/tallygate"
    parts = _split_secret_url(value, ("postgresql", "postgres"), form)
    if not (parts.hostname or "host=" in parts.query):
        raise Expected(form, found="one without a host")
    if len(parts.path) < 2:
        raise Expected(form, found="one without a database's name")
    return value


def parse_state_url(value: str) -> str:
    """`redis://...` and its relatives (core/state_url.py); never shows what it is given."""
    form = "a URL such as redis://127.0.0.1:6379/0 or rediss://user:password@redis:6380/0"
    try:
        read_state_url(value)
    except WrongUrl as wrong:
        raise Expected(form, found=wrong.found, hint=wrong.hint) from None
    return value


def parse_backend_url(value: object) -> BackendUrl:
    """`http://host[:port][/base/path]`; never shows a password in what it says."""
    form = "a URL such as http://127.0.0.1:9000 or https://api.internal/base"
    if not isinstance(value, str):
        raise Expected(form)
    if "@" in value:
        hint = "set an Authorization header in request_headers"
        raise Expected("a URL without user and password", found="one with '@'", hint=hint)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise Expected(form, hint=str(exc)) from None
    if parts.scheme not in ("http", "https") or not host:
        hint = f"did you mean http://{value}?" if "://" not in value else ""
        raise Expected(form, hint=hint)
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise Expected("a URL without query and fragment")
    if not _is_ip(host) and (not _HOST.fullmatch(host) or host.startswith("*")):
        raise Expected(form)
    if not _BASE_PATH.fullmatch(parts.path) or "//" in parts.path or "/." in parts.path:
        raise Expected("a base path of plain segments")
    if port == 0:
        raise Expected(form, hint="port 0 is no backend's")
    return BackendUrl(
        parts.scheme, host, port or _DEFAULT_PORT[parts.scheme], parts.path.rstrip("/")
    )


def parse_path(value: object) -> str:
    """A path of our own on the proxy's listener."""
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "/." in value:
        raise Expected("a path such as /v1/usage")
    return value


def parse_digest(value: object) -> bytes:
    """`sha256:` and 64 hexadecimal digits -> 32 bytes."""
    found = _HASH.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        shown = "a text of another form" if isinstance(value, str) else None
        hint = 'printf %s "$KEY" | sha256sum'
        raise Expected('"sha256:" and 64 hexadecimal digits', found=shown, hint=hint)
    return bytes.fromhex(found[1])


def parse_positive_us(value: object) -> int:
    """A duration that is not zero, in microseconds."""
    duration_us = quantities.parse_duration_us(value)
    if duration_us < 1000:
        raise Expected("a duration of at least 1ms")
    return duration_us


def parse_lease_us(value: object) -> int:
    """A duration of 1 second to 1 hour, in microseconds."""
    duration_us = quantities.parse_duration_us(value)
    if not 1_000_000 <= duration_us <= HOUR_US:
        raise Expected("a duration of 1s to 1h")
    return duration_us


def parse_positive_bytes(value: object) -> int:
    """A size that is not zero, in bytes."""
    size = quantities.parse_size_bytes(value)
    if size < 1:
        raise Expected("a size of at least 1B")
    return size


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _as_text(value: object) -> str:
    """A number or a boolean where text belongs: how to write it as text."""
    if isinstance(value, bool):
        return f'write "{str(value).lower()}" for the text'
    return f'write "{value}" for the text' if isinstance(value, int | Decimal) else ""


_DEFAULT_PORT = {"http": 80, "https": 443}


def _text_schema(pattern: re.Pattern[str] | str, *examples: str, **more: Any) -> dict[str, Any]:
    text = pattern if isinstance(pattern, str) else f"^{pattern.pattern}$"
    schema: dict[str, Any] = {"type": "string", "pattern": text, **more}
    return {**schema, "examples": list(examples)} if examples else schema


_LINE = {"type": "string", "minLength": 1, "maxLength": TEXT_CHARS_MAX}
_DURATION = _text_schema(r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$", "250ms", "30s", "5m", "2h")
_SIZE = _text_schema(r"^[0-9]+(\.[0-9]+)?([KMGT]i?)?B$", "512KB", "10MB", "2GiB")
_MONTHS = _text_schema(r"^[0-9]+ *months?$", "13 months")
_RATE = _text_schema(
    r"^[0-9]+ */ *[0-9]* *(ms|s(ec(onds?)?)?|m(in(utes?)?)?|h(ours?)?|d(ays?)?)$",
    "10/second",
    "100/minute",
    "1000/hour",
)
_AMOUNT = {
    "anyOf": [{"type": "number", "minimum": 0}, _text_schema(r"^[0-9]+(\.[0-9]+)?$")],
    "examples": [1, 0.25],
}
_INSTANT = {"type": "string", "format": "date-time", "examples": ["2026-01-05T00:00:00Z"]}
_TOKEN_SCHEMA = _text_schema(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$")
_VALUE_SCHEMA = {"type": "string", "minLength": 1}

Name = Annotated[str, PlainValidator(parse_name), WithJsonSchema(_text_schema(_NAME))]
Text = Annotated[str, PlainValidator(parse_text), WithJsonSchema(_LINE)]
Identity = Annotated[
    str, PlainValidator(parse_identity), WithJsonSchema(_text_schema(r"^[!-~]{1,128}$"))
]
Duration = Annotated[int, PlainValidator(parse_positive_us), WithJsonSchema(_DURATION)]
Lease = Annotated[int, PlainValidator(parse_lease_us), WithJsonSchema(_DURATION)]
DurationOrZero = Annotated[
    int, PlainValidator(quantities.parse_duration_us), WithJsonSchema(_DURATION)
]
Size = Annotated[int, PlainValidator(parse_positive_bytes), WithJsonSchema(_SIZE)]
SizeOrZero = Annotated[int, PlainValidator(quantities.parse_size_bytes), WithJsonSchema(_SIZE)]
Months = Annotated[int, PlainValidator(quantities.parse_months), WithJsonSchema(_MONTHS)]
RateField = Annotated[quantities.Rate, PlainValidator(quantities.parse_rate), WithJsonSchema(_RATE)]
Amount = Annotated[Decimal, PlainValidator(quantities.parse_amount), WithJsonSchema(_AMOUNT)]
Instant = Annotated[int, PlainValidator(quantities.parse_instant_us), WithJsonSchema(_INSTANT)]
HeaderName = Annotated[str, PlainValidator(parse_header_name), WithJsonSchema(_TOKEN_SCHEMA)]
SettableHeader = Annotated[
    str, PlainValidator(parse_settable_header), WithJsonSchema(_TOKEN_SCHEMA)
]
HeaderValue = Annotated[str, PlainValidator(parse_header_value), WithJsonSchema(_VALUE_SCHEMA)]
Token = Annotated[str, PlainValidator(parse_token), WithJsonSchema(_TOKEN_SCHEMA)]
QueryName = Annotated[
    str, PlainValidator(parse_query_name), WithJsonSchema(_text_schema(_QUERY_NAME))
]
HostPattern = Annotated[
    str,
    PlainValidator(parse_host),
    WithJsonSchema({"type": "string", "examples": ["api.example.com", "*.example.com"]}),
]
NetworkField = Annotated[
    Network,
    PlainValidator(parse_network),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8", "127.0.0.1"]}),
]
AddressField = Annotated[
    Address,
    PlainValidator(parse_address),
    WithJsonSchema(_text_schema(r"^.+:[0-9]{1,5}$", "127.0.0.1:8080", "[::1]:8080")),
]
Url = Annotated[
    BackendUrl,
    PlainValidator(parse_backend_url),
    WithJsonSchema(_text_schema(r"^https?://[^?#@]+$", "http://127.0.0.1:9000")),
]
OwnPath = Annotated[str, PlainValidator(parse_path), WithJsonSchema(_text_schema(r"^/.+$"))]
Digest = Annotated[
    bytes,
    PlainValidator(parse_digest),
    WithJsonSchema(_text_schema(_HASH)),
]
