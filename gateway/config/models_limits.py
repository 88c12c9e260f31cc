"""Models of what is counted and limited: meters, prices, limits, plans.

Only the shape is judged here; whether names exist and amounts fit their meter
is the compiler's.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from gateway.config.fields import Amount, Name, RateField, Text
from gateway.config.model import Model, ShortModel
from gateway.config.problems import Expected
from gateway.core.limits import Subject
from gateway.core.periods import PeriodKind

CONCURRENT_MAX = 1_000_000


class MeterModel(Model):
    """What is counted, exactly, with a fixed number of digits behind the point."""

    title: Text | None = Field(
        default=None, description="Name for people; the meter's name by default."
    )
    decimals: int = Field(
        default=0,
        ge=0,
        le=12,
        description="Digits behind the point that amounts of this meter may have.",
    )


def _price_form(value: object) -> object:
    """`free` and 0 are the empty price; an empty mapping is a mistake."""
    if value == "free" or (value == 0 and not isinstance(value, bool)):
        return {}
    if not isinstance(value, dict) or not value:
        raise Expected("`free` or amounts such as {coins: 1}")
    return value


_PRICE_SCHEMA = {
    "anyOf": [
        {"const": "free"},
        {"const": 0},
        {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["number", "string"], "minimum": 0},
        },
    ],
    "examples": ["free", {"coins": 1}],
}
PriceField = Annotated[
    dict[Name, Amount], BeforeValidator(_price_form), WithJsonSchema(_PRICE_SCHEMA)
]


class LimitModel(ShortModel):
    """A limit of requests per time or of requests in flight.

    Short form: `1000/hour`, per account, in fixed windows.
    """

    form: ClassVar[str] = "a rate such as 10/second, or a mapping with `rate:` or `concurrent:`"
    short_schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": "^[0-9]+ */ *[0-9]* *[a-z]+$",
        "examples": ["10/second", "1000/hour"],
    }

    rate: RateField | None = Field(
        default=None, description="Requests per time: 10/second, 100/minute, 1000/hour, 5/10s."
    )
    concurrent: int | None = Field(
        default=None,
        ge=1,
        le=CONCURRENT_MAX,
        description="Requests in flight at once, instead of a rate.",
    )
    per: Subject = Field(
        default="account",
        description="Whose requests are counted together: each value has its own count.",
    )
    algorithm: Literal["gcra", "fixed_window"] = Field(
        default="fixed_window",
        description="gcra: evenly, with a burst. fixed_window: a count that starts anew at each "
        "multiple of the period, UTC.",
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="gcra: requests at once. Default: the rate per second, rounded up.",
    )

    @classmethod
    def long_form(cls, value: object) -> dict[str, Any] | None:
        return {"rate": value} if isinstance(value, str) else None


class AllowanceModel(Model):
    """How much of one meter an account may use in each period."""

    amount: Amount = Field(description="Amount of the meter per period.")
    per: PeriodKind = Field(
        description="hour, day and month are UTC; a week begins with the account's cycle_start."
    )
    when_exhausted: Literal["block", "overage"] = Field(
        default="block",
        description="block: refuse. overage: let through and count beyond the allowance.",
    )
    status: int = Field(
        default=429, ge=400, le=499, description="Status of the refusal; 402 and 429 are usual."
    )


class PlanModel(Model):
    """What an account of this plan may use."""

    allowances: dict[Name, AllowanceModel] = Field(
        default_factory=dict, description="By meter; a meter without one is not limited."
    )
    limits: dict[Name, LimitModel] = Field(
        default_factory=dict, description="Rate and concurrency limits by name."
    )
