"""Models of prices: what is counted, and what so many of it cost.

Only the shape is judged here; whether names exist, amounts fit their meter and
figures are known in time is the compiler's.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
)

from gateway.config import quantities
from gateway.config.fields import Amount, Name
from gateway.config.model import Model, OneOrMore, OrForms, ShortModel, as_list
from gateway.config.problems import Expected, did_you_mean
from gateway.core.figures import SOURCES, Figure, parse_figure

RULES_MAX = 16  # of one meter in one price; tiers and factors of one rule
FIGURES_MAX = 8  # alternatives for one quantity
TABLE_MAX = 1_000


def read_figure(value: object) -> Figure:
    """`answer.json:usage.total_tokens`. Raises Expected."""
    form = "a figure such as request.json:steps, answer.json:usage.total_tokens or request.bytes"
    if not isinstance(value, str):
        raise Expected(form)
    try:
        return parse_figure(value)
    except ValueError as exc:
        source = value.partition(":")[0]
        hint = str(exc) if source in SOURCES else did_you_mean(source, list(SOURCES))
        raise Expected(form, hint=hint) from None


_FIGURE_SCHEMA = {
    "type": "string",
    "pattern": f"^({'|'.join(name.replace('.', '[.]') for name in SOURCES)})(:.*)?$",
    "examples": ["request.json:steps", "answer.json:usage.total_tokens", "request.bytes"],
}
FigureField = Annotated[Figure, PlainValidator(read_figure), WithJsonSchema(_FIGURE_SCHEMA)]


Figures = Annotated[
    list[FigureField],
    BeforeValidator(as_list),
    Field(min_length=1, max_length=FIGURES_MAX),
    OneOrMore(),
]


def parse_quantity(value: object) -> Decimal:
    """How much of something: a number, a size in bytes or a duration in seconds."""
    if isinstance(value, str) and value[-1:] == "B":
        return Decimal(quantities.parse_size_bytes(value))
    if isinstance(value, str) and value[-1:] in ("s", "m", "h", "d"):
        return Decimal(quantities.parse_duration_us(value)) / 1_000_000
    try:
        return quantities.parse_amount(value)
    except Expected as exc:
        form = "a number, a size such as 1GB or a duration such as 1h"
        raise Expected(form, hint=exc.hint) from None


_QUANTITY_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {
            "type": "string",
            "pattern": r"^([0-9]+(\.[0-9]+)?([KMGT]i?B|B)?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$",
        },
    ],
    "examples": [10, "1GB", "1h"],
}
Quantity = Annotated[Decimal, PlainValidator(parse_quantity), WithJsonSchema(_QUANTITY_SCHEMA)]


def _parse_expected(value: object) -> tuple[frozenset[str], frozenset[str]]:
    """What a figure must be: (any of, none of). Raises Expected."""
    if value == "present":
        return frozenset(), frozenset()
    if isinstance(value, dict) and list(value) == ["not"]:
        return frozenset(), _texts(value["not"])
    return _texts(value), frozenset()


def _texts(value: object) -> frozenset[str]:
    entries = value if isinstance(value, list) else [value]
    form = "a value, a list of values, `present`, or {not: value}"
    texts = []
    for entry in entries:
        if isinstance(entry, bool):
            texts.append("true" if entry else "false")
        elif entry is None:
            texts.append("null")
        elif isinstance(entry, Decimal):
            texts.append(str(float(entry)))  # 1.50 is the number that JSON writes as 1.5
        elif isinstance(entry, str | int):
            texts.append(str(entry))
        else:
            raise Expected(form)
    if not texts:
        raise Expected(form)
    return frozenset(texts)


_VALUE_SCHEMA = {"type": ["string", "number", "boolean", "null"]}
_EXPECTED_SCHEMA = {
    "anyOf": [
        _VALUE_SCHEMA,
        {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1},
        {
            "type": "object",
            "properties": {
                "not": {
                    "description": "Anything but this.",
                    "anyOf": [_VALUE_SCHEMA, {"type": "array", "items": _VALUE_SCHEMA}],
                }
            },
            "required": ["not"],
            "additionalProperties": False,
        },
    ],
    "examples": ["2xx", ["acquired", "renewed"], {"not": "own"}],
}
ExpectedField = Annotated[
    tuple[frozenset[str], frozenset[str]],
    PlainValidator(_parse_expected),
    WithJsonSchema(_EXPECTED_SCHEMA),
]
ConditionField = Annotated[
    dict[FigureField, ExpectedField],
    WithJsonSchema({"type": "object", "additionalProperties": _EXPECTED_SCHEMA}),
]


class TableModel(Model):
    """A number by what a figure says."""

    by: FigureField = Field(description="The figure that is looked up, such as request.json:model.")
    values: dict[str, Quantity] = Field(
        min_length=1, max_length=TABLE_MAX, description="The number for each text."
    )
    otherwise: Quantity | Literal["refuse"] = Field(
        default="refuse",
        description="For every other text, and for none. Default: refuse, such a request has no "
        "price.",
    )


def _factor_kind(value: object) -> str:
    return "<table>" if isinstance(value, dict | TableModel) else "<number>"


# A number, or a table of numbers. Tags in <> never reach an error's place.
FactorField = Annotated[
    Annotated[Quantity, Tag("<number>")] | Annotated[TableModel, Tag("<table>")],
    Discriminator(_factor_kind),
]
AmountFactor = Annotated[
    Annotated[Amount, Tag("<number>")] | Annotated[TableModel, Tag("<table>")],
    Discriminator(_factor_kind),
]


class TierModel(Model):
    """A price for the next part of what is counted in a period."""

    up_to: Quantity | None = Field(
        default=None, description="Where it ends, counted from nothing. The last tier has none."
    )
    amount: Amount = Field(description="Amount of the meter, for each `per`.")
    per: Quantity = Field(default=Decimal(1), description="How many that is the price of.")


class ReserveModel(ShortModel):
    """What is set aside while a quantity is known only from the answer.

    Short forms: a number, a figure, or `average`.
    """

    form: ClassVar[str] = "a number, a figure, `average`, or a mapping with `of:`"
    short_schema: ClassVar[dict[str, Any]] = {
        "type": ["number", "string"],
        "examples": [1000, "request.json:max_tokens", "average"],
    }

    of: Figures | None = Field(default=None, description="The first of these that is there.")
    otherwise: Quantity = Field(default=Decimal(0), description="Where none is. Default: 0.")
    average: bool = Field(default=False, description="Better: the route's recent mean.")

    @classmethod
    def long_form(cls, value: object) -> dict[str, Any] | None:
        if value == "average":
            return {"average": True}
        if isinstance(value, str) and value[:1].isalpha():
            return {"of": [value]}
        return None if isinstance(value, bool | list) or value is None else {"otherwise": value}


class RuleModel(ShortModel):
    """`amount` of the meter for each `per` of what `of` counts.

    Short form: the amount alone, for each request.
    """

    form: ClassVar[str] = "an amount such as 1, or a rule such as {amount: 1, per: 10, of: FIGURE}"
    short_schema: ClassVar[dict[str, Any]] = {"type": ["number", "string"], "examples": [1, 0.25]}

    amount: AmountFactor = Field(default=Decimal(1), description="Amount of the meter. Default: 1.")
    per: FactorField = Field(
        default=Decimal(1),
        description="For so many: a number, a size such as 1GB, a duration such as 1h. Default: 1.",
    )
    of: Figures | None = Field(
        default=None,
        description="What is counted: the first of these figures that is there. Default: each "
        "request is one.",
    )
    times: Annotated[list[FactorField], BeforeValidator(as_list), OneOrMore()] = Field(
        default_factory=list,
        max_length=RULES_MAX,
        description="Factors, such as a table by model or by setting.",
    )
    round: Literal["up", "down", "nearest", "carry"] = Field(
        default="up",
        description="To the meter's smallest unit, per request; carry: what is left of a request "
        "counts with the next, exactly.",
    )
    counter: Name | None = Field(
        default=None, description="carry and tiers: the meter that keeps what was counted."
    )
    tiers: list[TierModel] | None = Field(
        default=None,
        min_length=1,
        max_length=RULES_MAX,
        description="Prices that change as the counter grows in its period; instead of `amount`.",
    )
    when: ConditionField = Field(
        default_factory=dict, description="Only where all of these figures are as given."
    )
    reserve: ReserveModel | None = Field(
        default=None, description="Set aside until the answer says the quantity."
    )
    missing: Quantity | Literal["reserve", "refuse"] = Field(
        default="reserve",
        description="What counts where no figure is there: the reserve (default), a number, or "
        "refuse the request.",
    )

    @classmethod
    def long_form(cls, value: object) -> dict[str, Any] | None:
        if isinstance(value, bool | list) or value is None:
            return None
        return {"amount": value}


def _price_form(value: object) -> object:
    """`free` and 0 are the empty price; an empty mapping is a mistake."""
    if value == "free" or (value == 0 and not isinstance(value, bool)):
        return {}
    if not isinstance(value, dict) or not value:
        raise Expected("`free` or amounts such as {coins: 1}")
    return value


Rules = Annotated[
    list[RuleModel],
    BeforeValidator(as_list),
    Field(min_length=1, max_length=RULES_MAX),
    OneOrMore(),
]
PriceField = Annotated[
    dict[Name, Rules],
    BeforeValidator(_price_form),
    OrForms({"const": "free"}, {"const": 0}),
]
