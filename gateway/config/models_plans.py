"""Models of plans: allowances, overage, bundles, and what accounts may set themselves.

Only the shape is judged here; whether names exist and amounts fit their meter
is the compiler's.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from gateway.config.fields import Amount, Duration, Name, Text
from gateway.config.model import Model, OneOrMore, as_list
from gateway.config.models_limits import LimitModel
from gateway.config.models_prices import Quantity
from gateway.config.problems import Expected, did_you_mean
from gateway.config.quantities import parse_duration_us
from gateway.core.periods import Period
from gateway.core.units import AMOUNT_MAX

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DOLLARS = "dollars below 9 billion, with at most 6 digits behind the point"
KINDS = ("hour", "day", "week", "month", "ever")


def parse_period(value: object) -> Period:
    """`week`, `monday`, `10d`. Raises Expected."""
    if value in KINDS:
        return Period(value)  # type: ignore[arg-type]
    if value in WEEKDAYS:
        return Period("week", weekday=WEEKDAYS.index(str(value)))
    form = "hour, day, week, month, ever, a weekday that weeks begin with, or a length such as 10d"
    try:
        length_us = parse_duration_us(value)
    except Expected:
        hint = did_you_mean(value, (*KINDS, *WEEKDAYS)) if isinstance(value, str) else ""
        raise Expected(form, hint=hint) from None
    if length_us < 60_000_000:
        raise Expected(form, hint="at least a minute")
    return Period("fixed", length_us)


PeriodField = Annotated[
    Period,
    PlainValidator(parse_period),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [*KINDS, *WEEKDAYS]},
                {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"},
            ],
            "examples": ["week", "month", "monday", "10d"],
        }
    ),
]


class OverageModel(Model):
    """What units past the grants cost, in dollars."""

    price: Amount = Field(description="Dollars, for each `per`.")
    per: Quantity = Field(default=Decimal(1), description="So many of the meter. Default: 1.")
    rounding: Literal["unit", "lot"] = Field(
        default="unit",
        description="unit: the exact share. lot: each `per` that was begun. Default: unit.",
    )


class AllowanceModel(Model):
    """How much of one meter an account may use in each period."""

    amount: Amount | None = Field(default=None, description="Amount of the meter per period.")
    per_seat: Amount | None = Field(
        default=None, description="Instead: for each seat of the account, pooled."
    )
    price: Amount | None = Field(
        default=None,
        description="Instead: what `price` dollars buy at `rate` dollars each, rounded down.",
    )
    rate: Amount | None = Field(default=None, description="With price: dollars for each unit.")
    per: PeriodField = Field(
        description="hour, day and month (of the account's time zone), week (from the account's "
        "cycle_start), a weekday that weeks begin with, a number of days such as 10d, or ever."
    )
    when_exhausted: Literal["block", "overage"] = Field(
        default="block",
        description="block: refuse. overage: let through and count beyond the allowance.",
    )
    status: int = Field(
        default=429, ge=400, le=499, description="Status of the refusal; 402 and 429 are usual."
    )
    rollover: Amount | None = Field(
        default=None, description="Most of what is left that the next period begins with."
    )
    overage: OverageModel | None = Field(
        default=None, description="What units beyond it cost, where overage is on."
    )
    settable: bool = Field(
        default=False, description="Whether an account may have an amount of its own."
    )


Allowances = Annotated[
    list[AllowanceModel], BeforeValidator(as_list), Field(min_length=1), OneOrMore()
]


class BundleModel(Model):
    """Units that an account may buy once."""

    meter: str = Field(description="Name of the meter.")
    amount: Amount = Field(description="How much of it.")
    price: Amount = Field(description="Dollars.")
    title: Text | None = Field(default=None, description="Name for people.")
    badge: Text | None = Field(default=None, description="A word beside it, such as Popular.")
    savings: Text | None = Field(default=None, description="What it saves, as advertised: 10%.")
    valid: Duration | None = Field(default=None, description="How long. Default: for ever.")


class PlanModel(Model):
    """What an account of this plan may use."""

    title: Text | None = Field(default=None, description="Name for people.")
    billing: Literal["paid", "free", "trial", "enterprise", "off"] = Field(
        default="paid",
        description="paid: overage where it is switched on. free: blocks, never overage. trial: "
        "shown, never enforced. enterprise: blocks, overage is never billed. off: neither enforced "
        "nor billed. Default: paid.",
    )
    price: Amount = Field(default=Decimal(0), description="Dollars for each calendar month.")
    seat_price: Amount = Field(
        default=Decimal(0), description="Dollars for each seat and calendar month, beside it."
    )
    on_leave: Literal["at_once", "next_period"] = Field(
        default="at_once",
        description="When an account changes to another plan: its allowances count at once, or "
        "from the next period. Default: at_once.",
    )
    allowances: dict[Name, Allowances] = Field(
        default_factory=dict,
        description="By meter; a meter without one is not limited. Of several the first is where "
        "units come from, the others (other periods) limit it too.",
    )
    limits: dict[Name, LimitModel] = Field(
        default_factory=dict, description="Rate and concurrency limits by name."
    )
    bundles: dict[Name, BundleModel] = Field(
        default_factory=dict, description="What accounts of this plan may buy, by name."
    )


class SettingModel(Model):
    """Something that each account may have its own way: a switch, a quality level."""

    values: list[Text] = Field(min_length=1, max_length=100, description="What it may be.")
    default: Text | None = Field(default=None, description="Default: the first value.")
    title: Text | None = Field(default=None, description="Name for people.")
    editors: list[str] = Field(
        default_factory=list,
        description="Roles of members that may change it. Default: operators only.",
    )


class MoneyModel(Model):
    """How invoices come to cents."""

    rounding: Literal["half_up", "up"] = Field(
        default="half_up", description="Of each line, to the cent. Default: half_up."
    )


def dollars(value: Decimal) -> int | None:
    """Micro-dollars; None for what is not DOLLARS."""
    micro = Fraction(value) * 1_000_000
    return int(micro) if micro.denominator == 1 and micro <= AMOUNT_MAX else None
