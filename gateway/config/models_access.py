"""Models of who may call: credentials, accounts and declared keys."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from gateway.config.fields import (
    Amount,
    Digest,
    HeaderName,
    Identity,
    Instant,
    Name,
    NetworkField,
    QueryName,
    SettableHeader,
    Text,
    Token,
    parse_timezone,
)
from gateway.config.model import Model, ShortModel
from gateway.config.quantities import QUOTA_MAX

# 1970-01-05 was a Monday: weeks begin on Mondays, 00:00 UTC, unless an account says otherwise.
MONDAY_US = 4 * 86_400 * 1_000_000

Forwarded = Literal["account", "user", "project", "key", "kind", "plan"]


class CookieModel(Model):
    """A session cookie: its calls are of the kind `browser`."""

    name: Token = Field(description="The cookie's name.")
    account: str | None = Field(
        default=None, description="The account that calls with this cookie belong to."
    )
    verified_by: Literal["backend", "signature"] = Field(
        description="backend: passed on, the backend judges it. signature: checked here by HMAC."
    )
    secret: str | None = Field(
        default=None, description="signature: the key, at least 16 bytes; better in secret_file."
    )
    secret_file: Text | None = Field(default=None, description="signature: a file with the key.")


class SourceModel(ShortModel):
    """One place where a credential may stand. Short form: `bearer`."""

    form: ClassVar[str] = "`bearer`, or a mapping with `header:`, `query:` or `cookie:`"
    short_schema: ClassVar[dict[str, Any]] = {"const": "bearer"}

    bearer: Annotated[bool, WithJsonSchema({"const": True})] = Field(
        default=False, description="Authorization: Bearer KEY."
    )
    header: HeaderName | None = Field(default=None, description="A header that holds the key.")
    query: QueryName | None = Field(
        default=None, description="A query parameter that holds the key; removed before forwarding."
    )
    cookie: CookieModel | None = Field(default=None, description="A session cookie.")

    @classmethod
    def long_form(cls, value: object) -> dict[str, Any] | None:
        return {"bearer": True} if value == "bearer" else None


class AnonymousModel(Model):
    """Who pays for callers without a credential."""

    account: str = Field(description="Name of the account.")


class IdentifyModel(Model):
    """Where credentials stand and what the backend is told about the caller."""

    sources: list[SourceModel] = Field(
        default_factory=lambda: [SourceModel(bearer=True)],
        min_length=1,
        description="In this order; the first that is there counts. Default: [bearer].",
    )
    anonymous: AnonymousModel | None = Field(
        default=None,
        description="Who pays for callers without a credential, where a route lets them in.",
    )
    forward: dict[Forwarded, SettableHeader] = Field(
        default_factory=dict,
        description="Headers that tell the backend who called, by what they hold: account, user, "
        "project, key (its id), kind, plan. A client can never send them itself.",
    )
    failures_per_minute: int = Field(
        default=60,
        ge=1,
        le=1_000_000,
        description="Bad credentials from one address before it is refused with 429.",
    )


class AccountModel(Model):
    """Who pays."""

    plan: str | None = Field(default=None, description="Name of the plan. Default: default_plan.")
    title: Text | None = Field(default=None, description="Name for people.")
    cycle_start: Instant = Field(
        default=MONDAY_US,
        description="Anchor of weekly periods. Default: 1970-01-05T00:00:00Z, so Mondays, UTC.",
    )
    disabled: bool = Field(default=False, description="Refuse every call of this account.")
    seats: int = Field(
        default=1, ge=0, le=1_000_000, description="Of allowances per seat. Default: 1."
    )
    overage: Literal["on", "off"] | None = Field(
        default=None, description="Past the allowances: go on or block. Default: as the plan says."
    )
    cap: Amount | None = Field(
        default=None, description="Dollars of overage in a calendar month. Default: no cap."
    )
    timezone: Annotated[str, PlainValidator(parse_timezone), WithJsonSchema({"type": "string"})] = (
        Field(default="UTC", description="Of its days, weekdays and months. Default: UTC.")
    )
    settings: dict[Name, Text] = Field(
        default_factory=dict, description="Values of settings that are not the default."
    )
    allowances: dict[Name, Amount] = Field(
        default_factory=dict, description="Amounts instead of the plan's, where it is settable."
    )
    limits: dict[Name, Annotated[int, Field(ge=0, le=QUOTA_MAX)]] = Field(
        default_factory=dict, description="Numbers for the plan's settable limits; 0: unlimited."
    )
    members: dict[Identity, Name] = Field(
        default_factory=dict, description="Users and their roles."
    )


class OperatorModel(Model):
    """Who may use the admin API, by the hash of a token."""

    name: Name = Field(description="Shown in the audit log.")
    role: Literal["admin", "billing", "support", "reader"] = Field(
        description="admin: everything. billing: plans, seats, units, caps. support: keys, "
        "settings, members. reader: reads."
    )
    hash: Digest = Field(description='"sha256:" and the SHA-256 of the token in hexadecimal.')


class AdminModel(Model):
    """The operators of the admin API, beside the command line of this machine."""

    tokens: list[OperatorModel] = Field(default_factory=list, description="Default: none.")


class KeyModel(Model):
    """An API key, declared by its hash; the key itself is never written down."""

    id: Name = Field(description="Shown in events and lists; unique.")
    account: str = Field(description="Name of the account that pays.")
    hash: Digest = Field(description='"sha256:" and the SHA-256 of the key in hexadecimal.')
    user: Identity | None = Field(default=None, description="Who calls with it.")
    project: Identity | None = Field(default=None, description="The project of its calls.")
    name: Text | None = Field(default=None, description="Name for people.")
    expires: Instant | None = Field(
        default=None, description="Refused from this instant. Default: never."
    )
    routes: list[str] | None = Field(
        default=None, min_length=1, description="Names of the routes it may call. Default: all."
    )
    networks: list[NetworkField] | None = Field(
        default=None, min_length=1, description="Source networks it may be used from. Default: any."
    )
