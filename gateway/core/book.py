"""The price book: the configuration as the request path sees it.

Answers: what was configured? One `Book` is compiled from YAML at load, never
changed, and swapped as a whole at reload; a request keeps the book it began
with. Amounts are integers in the meter's smallest unit, instants and spans are
integers in microseconds, sizes are bytes. Must not know YAML, sockets or time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from gateway.core.identity import KeyRecord
from gateway.core.limits import RateLimit
from gateway.core.periods import MONTH, Period
from gateway.core.pricing import Price
from gateway.core.routes import RouteTable

Network = IPv4Network | IPv6Network

CallerKind = Literal["api_key", "browser", "anonymous"]

# 1 MiB of JSON takes orjson about 5 ms; larger bodies are read in a thread.
INSPECT_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted. An amount of 1 unit is 10**-decimals of the meter."""

    name: str
    decimals: int = 0
    title: str = ""
    period: Period = MONTH  # in which it is counted where no allowance says it
    unit: int = 1  # 10**decimals, set from it
    label: bytes = b""  # the name as header bytes, set from it

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", 10**self.decimals)
        object.__setattr__(self, "label", self.name.encode())


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """Headers that the operator removes and sets, names in lower case."""

    remove: frozenset[bytes] = frozenset()
    set: tuple[tuple[bytes, bytes], ...] = ()  # (name as written, value)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One backend: where it is and how it is spoken to."""

    name: str
    scheme: Literal["http", "https"]
    host: str
    port: int
    base_path: str = ""  # no trailing slash; put before the client's target
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 60.0  # longest silence of the backend
    total_timeout_s: float | None = None  # the whole exchange; None: no limit
    pool_size: int = 64  # idle connections kept
    max_connections: int = 1024  # connections open at once; more wait
    verify_tls: bool = True
    ca_file: str | None = None
    host_header: Literal["rewrite", "keep"] = "rewrite"
    request_headers: HeaderEdits = field(default_factory=HeaderEdits)
    response_headers: HeaderEdits = field(default_factory=HeaderEdits)
    authority: str = ""  # its Host header, set from host and port

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        authority = host if self.port == default else f"{host}:{self.port}"
        object.__setattr__(self, "authority", authority)


@dataclass(frozen=True, slots=True)
class Route:
    """What a request is, where it goes and what it costs.

    `prices` has one entry per caller kind that the route lets in.
    """

    name: str
    operation: str
    upstream: Upstream
    prices: dict[str, Price]  # by CallerKind; a missing kind is not let in
    methods: frozenset[str] = frozenset()  # empty: every method
    host: str | None = None  # lower case, no port; "*.example.com" allowed
    template: str = "/{path...}"
    headers: tuple[tuple[str, str | None], ...] = ()  # (lower name, value or None: present)
    limits: tuple[RateLimit, ...] = ()
    max_body_bytes: int | None = None  # the server's where the route has none
    project_param: str | None = None  # template parameter that names the project
    pass_credential: bool = False
    source: str = ""  # "file:line:column" in the configuration
    project: str = ""  # of every call, instead of the key's; "" where project_param says it
    # (setting, value): the account must have these values, or the call is refused
    requires: tuple[tuple[str, str], ...] = ()
    # (header, setting): account settings that the backend is told
    send_settings: tuple[tuple[str, str], ...] = ()
    inspect_max_bytes: int = INSPECT_MAX_BYTES  # of a body that a price looks into
    drain_timeout_s: float = 30.0  # how long an abandoned measured answer is read to its end
    interval_s: float = 10.0  # a WebSocket is charged this often while it is open


@dataclass(frozen=True, slots=True)
class OverageRate:
    """Money for units past the grants: `price_micro` for each `units`.

    `units` are the meter's smallest. `lot` charges each lot that was begun,
    `unit` the exact share.
    """

    price_micro: int
    units: int = 1
    rounding: Literal["unit", "lot"] = "unit"


@dataclass(frozen=True, slots=True)
class Allowance:
    """A plan's amount of one meter per period, and what happens when it is gone.

    The first allowance of a meter is where its units come from; further ones
    (another period) are caps: what is used counts in each, and each must fit.
    """

    meter: str
    amount: int  # per period; for each seat where `per_seat`
    period: Period
    on_exhausted: Literal["block", "overage"] = "block"
    status: int = 429  # of the refusal: 402 or 429 are usual
    per_seat: bool = False
    rollover: int = 0  # most of the unused amount that the next period begins with
    overage: OverageRate | None = None
    settable: bool = False  # whether an account may have an amount of its own


@dataclass(frozen=True, slots=True)
class Bundle:
    """Units that are sold once: an offer of plans."""

    name: str
    meter: str
    amount: int
    price_micro: int
    title: str = ""
    valid_us: int | None = None  # None: they do not expire
    badge: str = ""  # e.g. "Popular"
    savings: str = ""  # as it is advertised, e.g. "10%"


@dataclass(frozen=True, slots=True)
class SettableLimit:
    """The range in which accounts may set a limit's quota; 0 is always unlimited."""

    limit: RateLimit  # its form; `quota` is the most that may be set
    least: int = 1
    default: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """`billing`: trial and off never refuse; free and enterprise never go into overage."""

    name: str
    allowances: tuple[Allowance, ...] = ()
    limits: tuple[RateLimit, ...] = ()
    billing: Literal["paid", "free", "trial", "enterprise", "off"] = "paid"
    title: str = ""
    price_micro: int = 0  # for each calendar month
    seat_price_micro: int = 0  # for each seat and month, beside it
    # when the allowances of the plan that follows this one begin
    on_leave: Literal["at_once", "next_period"] = "at_once"
    bundles: tuple[Bundle, ...] = ()
    settable: tuple[SettableLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that each account may have its own way: a switch, a quality level."""

    name: str
    values: tuple[str, ...]
    default: str
    title: str = ""
    editors: frozenset[str] = frozenset()  # member roles that may change it; (): operators only


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays. Declared in YAML or created at run time and kept in the store."""

    id: str
    plan: str
    anchor_us: int = 0  # start of the account's first cycle
    title: str = ""
    disabled: bool = False
    seats: int = 1
    overage: bool | None = None  # None: as the plan's allowances say
    cap_micro: int | None = None  # spending cap for the overage of a calendar month
    timezone: str = "UTC"  # of its days and months
    settings: tuple[tuple[str, str], ...] = ()  # those that are not the default, sorted
    allowances: tuple[tuple[str, int], ...] = ()  # amounts instead of the plan's, sorted
    limits: tuple[tuple[str, int], ...] = ()  # quotas of settable limits, sorted

    def setting(self, setting: Setting) -> str:
        """The account's value of a setting."""
        value = dict(self.settings).get(setting.name)
        return value if value in setting.values else setting.default


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """One place where a credential may stand, tried in configured order."""

    kind: Literal["bearer", "header", "query", "cookie"]
    name: str = ""  # header (lower case), query parameter or cookie name
    account: str | None = None  # cookie: the account that such calls belong to
    secret: bytes | None = None  # cookie: HMAC key of signed cookies; None: the backend judges it


@dataclass(frozen=True, slots=True)
class Identify:
    sources: tuple[CredentialSource, ...] = (CredentialSource("bearer"),)
    anonymous_account: str | None = None
    # what the backend is told, e.g. {"account": "X-Account", "user": "X-User"};
    # keys: account, user, project, key, kind, plan
    forward_headers: dict[str, str] = field(default_factory=dict)
    failures_per_minute: int = 60  # bad credentials per source address before 429


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An operator's own body for one refusal code; {fields} are filled in."""

    status: int | None
    content_type: str
    body: str


@dataclass(frozen=True, slots=True)
class TlsFiles:
    cert_file: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Listener:
    host: str
    port: int
    tls: TlsFiles | None = None


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of the client side, each with a safe default."""

    head_timeout_s: float = 10.0  # first byte of a request to the end of its head
    body_timeout_s: float = 30.0  # longest silence inside a request body
    write_timeout_s: float = 60.0  # longest time a client may refuse to read
    keepalive_timeout_s: float = 75.0  # idle connection
    max_line_bytes: int = 8190
    max_header_bytes: int = 8190  # one field
    max_headers: int = 100
    max_body_bytes: int | None = None
    max_connections: int = 10_000
    max_connections_per_address: int | None = None
    drain_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class JournalSettings:
    dir: str
    sync: Literal["always", "interval", "off"] = "interval"
    sync_interval_s: float = 0.2
    segment_bytes: int = 32 * 1024 * 1024
    max_bytes: int = 2 * 1024 * 1024 * 1024  # unshipped journal
    on_full: Literal["refuse", "pass"] = "refuse"


@dataclass(frozen=True, slots=True)
class Archive:
    """Where events of a month go before they are removed."""

    dir: str
    format: Literal["csv", "parquet"] = "csv"


@dataclass(frozen=True, slots=True)
class Retention:
    """How many calendar months of events are kept beside the current one."""

    months: int
    archive: Archive | None = None  # None: they are dropped


@dataclass(frozen=True, slots=True)
class StoreSettings:
    path: str  # SQLite file
    url: str = ""  # of a PostgreSQL database, instead
    retention: Retention | None = None  # None: everything is kept


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Hot state; without a URL it is in the memory of the one process."""

    url: str = ""  # of Redis or Valkey (core/state_url.py)
    timeout_s: float = 0.25  # of one call
    lease_us: int = 15_000_000  # of a hold that is not renewed
    when_away: Literal["allow", "deny"] = "allow"
    prefix: str = "tallygate"  # of all keys
    groups: int = 1  # of accounts; those of one are decided on together, on one server


STATEMENTS = ("history", "breakdown", "invoice")  # of the usage API


@dataclass(frozen=True, slots=True)
class UsageApi:
    """Where callers read their own usage on the proxy's listener."""

    enabled: bool = True
    summary_path: str = "/v1/usage"
    activity_path: str = "/v1/usage/activity"
    export_path: str = "/v1/usage/export"

    @property
    def paths(self) -> tuple[str, ...]:
        """All that are ours; statements stand below the summary."""
        statements = (f"{self.summary_path}/{name}" for name in STATEMENTS)
        return (self.summary_path, self.activity_path, self.export_path, *statements)


@dataclass(frozen=True, slots=True)
class View:
    """An answer of the operator's own shape, made from usage figures.

    `body` is JSON with placeholders: a text that is one `{name}` becomes that
    value, one that holds several becomes text. `path` may have {parameters}.
    """

    path: str
    body: object
    headers: tuple[tuple[str, str], ...] = ()
    # query parameter: its values, the first is the default
    parameters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    source: str = ""


OperatorRole = Literal["admin", "billing", "support", "reader"]


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """Who may use the admin API, by the SHA-256 of the token."""

    name: str
    role: OperatorRole


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """What the gateway adds to answers."""

    ratelimit: bool = True  # RateLimit and RateLimit-Policy
    x_ratelimit: bool = False  # X-RateLimit-Limit, -Remaining, -Reset
    budget: bool = True  # X-Budget-Remaining
    request_id: bool = True  # X-Request-Id
    via: str = "tallygate"
    via_line: bytes = b""  # of answers, set from `via`

    def __post_init__(self) -> None:
        object.__setattr__(self, "via_line", f"Via: 1.1 {self.via}\r\n".encode())


@dataclass(frozen=True, slots=True)
class Book:
    version: str  # first 12 hex digits of the SHA-256 of the compiled sources
    meters: dict[str, Meter]
    upstreams: dict[str, Upstream]
    routes: tuple[Route, ...]
    table: RouteTable[Route]
    unmatched: Route | None  # None: what no route names is refused with 404
    plans: dict[str, Plan]
    settings: dict[str, Setting]
    roles: tuple[str, ...]  # that members of accounts may have
    members: dict[str, dict[str, str]]  # declared: roles by account and user
    views: tuple[View, ...]
    operators: dict[bytes, OperatorToken]  # by SHA-256
    money_rounding: Literal["half_up", "up"]  # of an invoice's total, to the cent
    default_plan: str | None
    accounts: dict[str, Account]  # declared in YAML
    keys: dict[bytes, KeyRecord]  # declared in YAML, by SHA-256
    limits: tuple[RateLimit, ...]  # apply to every request
    identify: Identify
    errors: dict[str, ErrorBody]  # by refusal code
    trusted_proxies: tuple[Network, ...]
    proxy_listener: Listener
    admin_listener: Listener | None
    server: ServerLimits
    data_dir: str
    journal: JournalSettings
    store: StoreSettings
    state: StateSettings
    usage_api: UsageApi
    response_headers: ResponseHeaders
    workers: int = 1  # processes that serve on the same ports
    # The same over what a reload can change, whatever the files and their comments: gateways
    # that share a state have ports and folders of their own, and the same rules.
    rules_version: str = ""
    # By name, of meters that the configuration has no more: only the store knows them.
    past_decimals: Mapping[str, int] = field(default_factory=dict)

    def decimals_of(self, meter: str) -> int:
        """In which amounts of a meter are kept and shown, also of one that was taken away."""
        known = self.meters.get(meter)
        return known.decimals if known is not None else self.past_decimals.get(meter, 0)

    def meters_ever(self) -> dict[str, Meter]:
        """Also those that were taken away: a bill of their time does not change with them."""
        past = {name: Meter(name, n, name) for name, n in self.past_decimals.items()}
        return past | self.meters
