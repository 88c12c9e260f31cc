"""The configuration's sections: the model of a whole file.

`Config` is the shape of what an operator writes; the compiler turns it into a
`Book`. Defaults stand here and nowhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from gateway.config.fields import (
    AddressField,
    Duration,
    DurationOrZero,
    Lease,
    Months,
    Name,
    NetworkField,
    OwnPath,
    Size,
    SizeOrZero,
    Text,
    Token,
)
from gateway.config.model import Model, ShortModel
from gateway.config.models_access import AccountModel, AdminModel, IdentifyModel, KeyModel
from gateway.config.models_limits import LimitModel, MeterModel
from gateway.config.models_plans import MoneyModel, PlanModel, SettingModel
from gateway.config.models_routes import ErrorModel, RouteModel, UnmatchedModel, UpstreamModel
from gateway.config.models_views import ViewModel


class TlsModel(Model):
    """The certificate a listener shows."""

    cert_file: Text = Field(description="PEM file with the certificate and its chain.")
    key_file: Text = Field(description="PEM file with the private key.")


class ListenerModel(ShortModel):
    """Where to listen. Short form: the address alone."""

    form: ClassVar[str] = "an address such as 127.0.0.1:8080, or a mapping with `address:`"
    short_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": "^.+:[0-9]{1,5}$",
        "examples": ["127.0.0.1:8080"],
    }

    address: AddressField = Field(description="Host and port; port 0 takes a free one.")
    tls: TlsModel | None = Field(
        default=None, description="Speak TLS, where nothing in front does it."
    )

    @classmethod
    def long_form(cls, value: object) -> dict[str, Any] | None:
        return {"address": value} if isinstance(value, str) else None


def _listener(address: str) -> ListenerModel:
    return ListenerModel.model_validate({"address": address})


class ListenersModel(Model):
    """Where callers and where operators connect."""

    proxy: ListenerModel = Field(
        default_factory=lambda: _listener("127.0.0.1:8080"),
        description="For callers. Default: 127.0.0.1:8080.",
    )
    admin: ListenerModel | None = Field(
        default_factory=lambda: _listener("127.0.0.1:8081"),
        description="Health, metrics and the operator's API; keep it private. null: none. "
        "Default: 127.0.0.1:8081.",
    )


class JournalModel(Model):
    """The append-only log that every event is in before its answer ends."""

    dir: Text | None = Field(default=None, description="Default: <data_dir>/journal.")
    sync: Literal["always", "interval", "off"] = Field(
        default="interval", description="When the disk itself is told to keep what was written."
    )
    sync_interval: Duration = Field(
        default=200_000, description="For sync: interval. Default 200ms."
    )
    segment_size: Size = Field(
        default=32 * 1024 * 1024,
        description="Of one journal file; old ones are removed. Default 32MiB.",
    )
    max_size: Size = Field(
        default=2_000_000_000, description="Of events not yet in the store. Default 2GB."
    )
    on_full: Literal["refuse", "pass"] = Field(
        default="refuse",
        description="refuse: 503. pass: forward unmetered and count it in a metric.",
    )


class ArchiveModel(Model):
    """Where the events of a month go before they are removed."""

    dir: Text = Field(description="Folder of the files; made when it is not there.")
    format: Literal["csv", "parquet"] = Field(
        default="csv",
        description="csv: compressed by gzip. parquet: needs tallygate[parquet]. Default csv.",
    )


class RetentionModel(Model):
    """How long single events are kept; what they add up to always is."""

    events: Months = Field(
        description="Calendar months (UTC) kept beside the current one, at least 2 months."
        " Older ones are removed."
    )
    archive: ArchiveModel | None = Field(
        default=None, description="Files for what is removed. Default: none, events are dropped."
    )


class StoreModel(Model):
    """Where events, accounts and keys are kept."""

    path: Text | None = Field(
        default=None, description="SQLite file. Default: <data_dir>/tallygate.db."
    )
    url: Text | None = Field(
        default=None,
        description="Instead of a file, a PostgreSQL database (14 or newer):"
        " postgresql://user:password@host:5432/name?sslmode=verify-full.",
    )
    url_file: Text | None = Field(default=None, description="A file with that URL.")
    retention: RetentionModel | None = Field(
        default=None, description="When single events leave. Default: never."
    )


class StateModel(Model):
    """Balances and rate limits that several gateways share."""

    url: Text | None = Field(
        default=None,
        description="A Redis (6.2 or newer) or Valkey server: redis://user:password@host:6379/0;"
        " redis+sentinel://host:26379,host:26379/service or redis+cluster://host:6379,host:6379;"
        " rediss for TLS. Needs store.url. Default: in the memory of the one gateway.",
    )
    url_file: Text | None = Field(default=None, description="A file with that URL.")
    timeout: Duration = Field(
        default=250_000, description="Longest time one call may take. Default 250ms."
    )
    when_away: Literal["allow", "deny"] = Field(
        default="allow",
        description="While the server is away: `allow` decides from the last known balances and"
        " journals everything; `deny` refuses with 503. Default allow.",
    )
    lease: Lease = Field(
        default=15_000_000,
        description="How long what a gateway holds stays held after it ended without a word, 1s to"
        " 1h; started again within that time, it may not pass a limit. Default 15s.",
    )
    prefix: Name = Field(
        default="tallygate",
        description="Of all keys, where a server is used for more than these gateways.",
    )
    groups: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Groups of accounts, each on one node of a Cluster; the same number at all"
        " gateways. Default 16 on a Cluster, else 1.",
    )


class ServerModel(Model):
    """Limits of the client side."""

    head_timeout: Duration = Field(
        default=10_000_000,
        description="First byte of a request to the end of its head. Default 10s.",
    )
    body_timeout: Duration = Field(
        default=30_000_000, description="Longest silence inside a request body. Default 30s."
    )
    write_timeout: Duration = Field(
        default=60_000_000, description="Longest time a client may refuse to read. Default 60s."
    )
    keepalive_timeout: Duration = Field(
        default=75_000_000, description="Idle connection between two requests. Default 75s."
    )
    max_line: Size = Field(default=8190, description="Request line. Default 8190B.")
    max_header: Size = Field(default=8190, description="One header field. Default 8190B.")
    max_headers: int = Field(
        default=100, ge=1, le=10_000, description="Header fields of a request."
    )
    max_body: SizeOrZero | None = Field(
        default=None, description="Request body. Default: none, bodies of any size are streamed."
    )
    max_connections: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Client connections open at once."
    )
    max_connections_per_address: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Of one source address. Default: no limit."
    )
    drain_timeout: DurationOrZero = Field(
        default=30_000_000,
        description="How long requests in flight may take after SIGTERM. Default 30s.",
    )


class UsageApiModel(Model):
    """Where callers read their own usage, on the proxy's listener, never charged."""

    enabled: bool = Field(default=True, description="false: these paths are routed like any other.")
    path: OwnPath = Field(default="/v1/usage", description="The summary.")
    activity_path: OwnPath | None = Field(
        default=None, description="The list of events. Default: <path>/activity."
    )
    export_path: OwnPath | None = Field(
        default=None, description="The events as CSV. Default: <path>/export."
    )


class ResponseHeadersModel(Model):
    """What the gateway adds to answers."""

    ratelimit: bool = Field(default=True, description="RateLimit and RateLimit-Policy.")
    x_ratelimit: bool = Field(default=False, description="X-RateLimit-Limit, -Remaining, -Reset.")
    budget: bool = Field(default=True, description="X-Budget-Remaining.")
    request_id: bool = Field(default=True, description="X-Request-Id.")
    via: Token = Field(default="tallygate", description="Name in the Via header.")


class Config(Model):
    """A configuration of tallygate."""

    include: str | list[str] = Field(
        default_factory=list,
        description="More files, relative to this one; * and ** are globs. Lists are joined, each "
        "name may be defined once.",
    )
    listeners: ListenersModel = Field(
        default_factory=ListenersModel, description="Where to listen."
    )
    data_dir: Text = Field(
        default="./data",
        description="Everything that must survive; relative to the working directory.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that serve on the same ports; more than one need store.url and"
        " state.url. Default 1.",
    )
    journal: JournalModel = Field(default_factory=JournalModel, description="The journal.")
    store: StoreModel = Field(default_factory=StoreModel, description="The store.")
    state: StateModel = Field(default_factory=StateModel, description="Shared balances.")
    server: ServerModel = Field(
        default_factory=ServerModel, description="Timeouts, sizes and counts on the client side."
    )
    trusted_proxies: list[NetworkField] = Field(
        default_factory=list, description="Networks whose X-Forwarded-For is believed."
    )
    upstreams: dict[Name, UpstreamModel] = Field(
        default_factory=dict, description="Backends by name."
    )
    identify: IdentifyModel = Field(
        default_factory=IdentifyModel, description="How callers are identified."
    )
    meters: dict[Name, MeterModel] = Field(default_factory=dict, description="What is counted.")
    plans: dict[Name, PlanModel] = Field(
        default_factory=dict, description="What an account may use, by name."
    )
    default_plan: str | None = Field(default=None, description="Plan of accounts that name none.")
    settings: dict[Name, SettingModel] = Field(
        default_factory=dict, description="What each account may have its own way, by name."
    )
    roles: list[Name] = Field(
        default_factory=lambda: ["owner", "admin", "member"],
        description="Of members of accounts. Default: [owner, admin, member].",
    )
    admin: AdminModel = Field(default_factory=AdminModel, description="Who may use the admin API.")
    money: MoneyModel = Field(default_factory=MoneyModel, description="How invoices are rounded.")
    views: list[ViewModel] = Field(
        default_factory=list,
        description="Answers of your own shape, made from usage figures, never charged.",
    )
    accounts: dict[Name, AccountModel] = Field(
        default_factory=dict, description="Accounts by id; more can be made at run time."
    )
    keys: list[KeyModel] = Field(
        default_factory=list, description="Keys by hash; more can be made at run time."
    )
    limits: dict[Name, LimitModel] = Field(
        default_factory=dict, description="Limits for everybody, beside those of plans and routes."
    )
    routes: list[RouteModel] = Field(
        default_factory=list,
        description="What costs what. Exact paths win over {parameters}, those over {rest...}.",
    )
    unmatched: UnmatchedModel = Field(
        default_factory=lambda: UnmatchedModel(action="refuse"),
        description="What no route names. Default: {action: refuse}.",
    )
    usage_api: UsageApiModel = Field(
        default_factory=UsageApiModel, description="Where callers read their own usage."
    )
    response_headers: ResponseHeadersModel = Field(
        default_factory=ResponseHeadersModel, description="What is added to answers."
    )
    errors: dict[str, ErrorModel] = Field(
        default_factory=dict, description="Own error bodies by refusal code."
    )
