"""Small values of the API: durations, shares of a fleet, label selectors, conditions.

The apiserver has checked everything against `crds/` before we see it. These types still refuse
what they cannot read (`ValueError`), as a guessed duration or share would be worse than none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
PERCENT_PATTERN = r"^(100|[1-9][0-9]?)%$"
NUMBER_PATTERN = r"^-?[0-9]+(\.[0-9]+)?$"


class ApiModel(BaseModel):
    """Base of all API models: frozen, camelCase in JSON, snake_case here.

    Unknown fields are ignored, so that an operator of this version can read objects that were
    stored under a newer CRD.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )

    def dump(self) -> dict[str, Any]:
        """Return the JSON object as the apiserver knows it; absent fields stay absent."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


class Duration(float):
    """A length of time in seconds, so that it can be added to a clock; its text is `1h30m`.

    Text is whole seconds, rounded down: `7m30s`, `0s`.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `1h30m`, `10m` or `90s`. Raise ValueError on anything else, as `10` or `1.5h`."""
        found = re.fullmatch(DURATION_PATTERN, text)
        if not text or found is None:
            raise ValueError(f"{text!r} is no duration: write for example 90s, 10m or 1h30m")
        hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in found.groups())
        return cls(hours * 3600 + minutes * 60 + seconds)

    def __str__(self) -> str:
        """Return the shortest text that `parse` reads back."""
        sign, whole = ("-" if self <= -1 else ""), int(abs(self))
        parts = ((whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
        return sign + ("".join(f"{count}{unit}" for count, unit in parts if count) or "0s")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept text or a Duration; write text."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            lambda raw: raw if isinstance(raw, cls) else cls.parse(_text(raw)),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the text form."""
        del schema, handler
        return {"type": "string", "pattern": DURATION_PATTERN}


@dataclass(frozen=True, slots=True)
class IntOrPercent:
    """A number of nodes, or a share of them in percent."""

    amount: int
    is_percent: bool = False

    @classmethod
    def parse(cls, raw: int | str) -> Self:
        """Read an int from 1 or `"1%"` to `"100%"`. Raise ValueError on anything else."""
        if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 1:
            return cls(raw)
        if isinstance(raw, str) and re.fullmatch(PERCENT_PATTERN, raw):
            return cls(int(raw[:-1]), is_percent=True)
        raise ValueError(f"{raw!r} is no share: write a number from 1, or from 1% to 100%")

    def resolve(self, total: int) -> int:
        """Return the number of nodes out of `total`: rounded up and at least 1.

        A plain number is returned as it is, also when it is greater than `total`.
        """
        return max(1, -(-total * self.amount // 100)) if self.is_percent else self.amount

    def __str__(self) -> str:
        """Return the text as written: `5` or `5%`."""
        return f"{self.amount}%" if self.is_percent else str(self.amount)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept what `parse` does; write an int or text."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            lambda raw: raw if isinstance(raw, cls) else cls.parse(raw),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda share: str(share) if share.is_percent else share.amount
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the union as Kubernetes does."""
        del schema, handler
        return {"x-kubernetes-int-or-string": True, "pattern": PERCENT_PATTERN}


class Operator(StrEnum):
    """How a requirement of a label selector compares."""

    In = "In"
    NotIn = "NotIn"
    Exists = "Exists"
    DoesNotExist = "DoesNotExist"


class Requirement(ApiModel):
    """One expression of a label selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether `labels` fulfil it. As in Kubernetes, NotIn holds without the label."""
        match self.operator:
            case Operator.In:
                return self.key in labels and labels[self.key] in self.values
            case Operator.NotIn:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.Exists:
                return self.key in labels
            case Operator.DoesNotExist:
                return self.key not in labels

    @property
    def query(self) -> str:
        """As a part of a selector in a URL."""
        match self.operator:
            case Operator.In | Operator.NotIn:
                return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"
            case Operator.Exists:
                return self.key
            case Operator.DoesNotExist:
                return f"!{self.key}"


class LabelSelector(ApiModel):
    """A Kubernetes label selector: all labels and all expressions must match."""

    match_labels: Mapping[str, str] = Field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether an object with `labels` is selected. An empty selector selects all."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )

    @property
    def query(self) -> str:
        """As the apiserver takes it in `labelSelector`: `app=edr,tier in (a,b),!old`."""
        equal = [f"{key}={value}" for key, value in sorted(self.match_labels.items())]
        return ",".join([*equal, *(requirement.query for requirement in self.match_expressions)])


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    true = "True"
    false = "False"
    unknown = "Unknown"


class Condition(ApiModel):
    """A Kubernetes condition. `last_transition_time` is RFC 3339 in UTC, as `…T…Z`."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int | None = None


class ObjectName(ApiModel):
    """A reference to an object in the same namespace."""

    name: str


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} is no text")  # noqa: TRY004 (pydantic reports only ValueError)
    return raw


def _number(raw: Any) -> float:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return float(raw)
    if not re.fullmatch(NUMBER_PATTERN, _text(raw)):
        raise ValueError(f"{raw!r} is no decimal number: write for example 0, 3 or 0.5")
    return float(raw)


Number = Annotated[
    float,
    BeforeValidator(_number),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": NUMBER_PATTERN}),
]
"""A decimal number, in JSON an int or text as `"0.5"` (the API has no floats)."""
