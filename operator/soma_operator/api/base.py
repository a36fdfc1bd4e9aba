"""The model every part of a resource derives from, and the rules that schemas cannot say.

A rule is written once: as CEL, which the API server evaluates at admission, and as a predicate, which the operator
evaluates on what was stored before the rule existed. Rules about a change (`oldSelf`) have no predicate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """`message` is `what is wrong: the remedy`; `field` names the culprit, relative to the model (`.replicas`).

    Without `cel`, for what CEL cannot say, the operator alone holds to it: the resource is Stalled.
    """

    cel: str
    message: str
    field: str = ""
    holds: Callable[[Any], bool] | None = None

    def validation(self) -> dict[str, str]:
        """The rule as an entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        return {**entry, "fieldPath": self.field} if self.field else entry


class ApiModel(BaseModel):
    """Part of a resource: camelCase outside, snake_case inside, unknown fields refused, values immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        validate_default=False,
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in type(self).rules:
            if rule.holds is not None and not rule.holds(self):
                reason, _, remedy = rule.message.partition(": ")
                raise PydanticCustomError("rule", reason, {"field": rule.field, "remedy": remedy})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        said = [rule.validation() for rule in cls.rules if rule.cel]
        if said:
            schema["x-kubernetes-validations"] = said
        return schema

    def to_manifest(self) -> dict[str, Any]:
        """JSON-compatible dictionary with the names of the wire; what is None is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


@dataclass(frozen=True, slots=True, init=False)
class OneEach:
    """Marks a list whose items differ in `keys` (names on the wire). The API server holds to it at admission, the
    model on what was stored before: Kubernetes refuses an object with such an item twice."""

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, inner: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(inner), "x-kubernetes-list-map-keys": list(self.keys)}

    def _check(self, items: tuple[ApiModel, ...]) -> tuple[ApiModel, ...]:
        seen = [tuple(item.to_manifest().get(key) for key in self.keys) for item in items]
        if len(set(seen)) < len(seen):
            reason = f"has two items with the same {' and '.join(self.keys)}"
            raise PydanticCustomError("rule", reason, {"field": "", "remedy": "remove one"})
        return items


class StatusModel(ApiModel):
    """Part of a status. What another version of the operator wrote there is ignored, not refused."""

    model_config = ConfigDict(extra="ignore")
