"""Models of what is counted and limited: meters and limits.

Only the shape is judged here; whether names exist and amounts fit their meter
is the compiler's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from gateway.config.fields import RateField, Text
from gateway.config.model import Model, ShortModel
from gateway.config.quantities import QUOTA_MAX
from gateway.core.limits import Subject

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
    per: Literal["hour", "day", "week", "month", "ever"] = Field(
        default="month",
        description="The period in which it is counted where no allowance says it. Default: month.",
    )


class RangeModel(Model):
    """The range in which accounts may set a limit; 0, unlimited, is always allowed."""

    from_: int = Field(default=1, alias="from", ge=1, le=QUOTA_MAX, description="Least. Default 1.")
    to: int = Field(ge=1, le=QUOTA_MAX, description="Most.")


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

    settable: RangeModel | None = Field(
        default=None,
        description="In a plan, instead of a rate: each account may set its own, from .. to.",
    )
    default: int = Field(
        default=0, ge=0, description="settable: for accounts that set none; 0 is unlimited."
    )
    window: Literal["second", "minute", "hour", "day"] = Field(
        default="hour", description="settable: what the number is per. Default: hour."
    )
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
