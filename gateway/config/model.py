"""What every model of the configuration has in common.

Strict (a text is no number), closed (an unknown key is a mistake) and
documented (every field has a description, which editors show). A model may
have a short form, which becomes its long form before validation.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.config.problems import Expected


class Model(BaseModel):
    """A mapping of the configuration."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class OneOrMore:
    """Annotation of a list: one entry may stand for a list of one."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        several = handler(core_schema)
        return {"anyOf": [several.get("items", {}), {"minItems": 1, **several}]}


def as_list(value: object) -> object:
    """One entry is a list of one."""
    return value if isinstance(value, list) else [value]


class OrForms:
    """Annotation of a mapping: these scalars may stand for it, and it is not empty."""

    def __init__(self, *forms: JsonSchemaValue) -> None:
        self._forms = forms

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [*self._forms, {"minProperties": 1, **handler(core_schema)}]}


class ShortModel(Model):
    """A mapping that may be written shorter: `long_form` says what that means.

    `short_schema` is the JSON Schema of the short form, `form` what is
    expected when the value is neither.
    """

    form: ClassVar[str]
    short_schema: ClassVar[dict[str, Any]]

    @classmethod
    def long_form(cls, value: object) -> dict[str, Any] | None:
        """The long form of a short value, None when it is not a short form."""
        raise NotImplementedError

    @model_validator(mode="before")
    @classmethod
    def _lengthen(cls, value: object) -> object:
        if isinstance(value, dict | cls):
            return value
        longer = cls.long_form(value)
        if longer is None:
            raise Expected(cls.form)
        return longer

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        long = handler.resolve_ref_schema(handler(core_schema))
        about: JsonSchemaValue = {
            key: long.pop(key) for key in ("title", "description") if key in long
        }
        return {**about, "anyOf": [cls.short_schema, long]}
