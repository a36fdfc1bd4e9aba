"""Selection of pods and namespaces by their labels, as Kubernetes writes it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from soma_operator.api.base import ApiModel
from soma_operator.api.values import LabelKey, LabelValue


class SelectorOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelRequirement(ApiModel):
    """One expression of a label selector."""

    key: LabelKey
    """Label the expression looks at."""

    operator: SelectorOperator
    """How the label is compared with `values`."""

    values: Annotated[tuple[LabelValue, ...], Field(max_length=32)] | None = None
    """Values for In and NotIn; left out for Exists and DoesNotExist."""


class LabelSelector(ApiModel):
    """Selects by labels; all parts must hold, and an empty selector selects everything."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = None
    """Labels that must be present with exactly these values."""

    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=16)] | None = None
    """Expressions that must all hold."""
