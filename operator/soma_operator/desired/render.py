"""From template to checked, hashed manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from soma_operator.catalog.flow_text import flow_text
from soma_operator.catalog.kinds import DEPLOYMENT, Ref
from soma_operator.catalog.names import DESIRED_HASH, TEMPLATE_HASH
from soma_operator.ownership.entries import digest
from soma_operator.ownership.expected import expected_paths

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Stage(IntEnum):
    """The order of application; a stage that fails stops only what depends on it."""

    IDENTITY = 0
    CONFIGURATION = 1
    MIGRATION = 2
    SERVICES = 3
    WORKLOADS = 4
    AVAILABILITY = 5


class TemplateError(RuntimeError):
    """A template made something that is not the object it should be: a defect of the operator, never of a spec."""


@dataclass(frozen=True, slots=True)
class Child:
    """One desired object. `digest` is what our managedFields entry must be after it was applied."""

    ref: Ref
    stage: Stage
    manifest: Mapping[str, Any]
    hash: str
    digest: str
    template_hash: str | None = None


@cache
def _environment() -> Environment:
    # S701 is about HTML: here every value passes through tojson, and JSON is YAML.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("soma_operator.desired", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tojson"] = flow_text
    return environment


def canonical_hash(value: Any) -> str:
    """Hash over canonical JSON: equal for equal values, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render(template: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest that a template gives, without what is null or empty where Kubernetes would drop it."""
    text = _environment().get_template(f"{template}.yaml.j2").render(**context)
    try:
        manifest = yaml.load(text, Loader=_Loader)  # noqa: S506 a safe loader, the one written in C where there is one
    except yaml.YAMLError as error:
        raise TemplateError(f"{template}: not YAML: {error}") from error
    if not isinstance(manifest, dict):
        raise TemplateError(f"{template}: not an object")
    return manifest


def make_child(ref: Ref, stage: Stage, template: str, context: Mapping[str, Any]) -> Child:
    """Render, check that it is the object it should be, and hash it."""
    manifest = render(template, context)
    _check(ref, template, manifest)
    template_hash = None
    annotations: dict[str, str] = manifest["metadata"].setdefault("annotations", {})
    if ref.kind is DEPLOYMENT:
        template_hash = canonical_hash(manifest["spec"]["template"])
        annotations[TEMPLATE_HASH] = template_hash
    desired = canonical_hash(manifest)
    annotations[DESIRED_HASH] = desired
    return Child(ref, stage, manifest, desired, digest(expected_paths(manifest)), template_hash)


def _check(ref: Ref, template: str, manifest: Mapping[str, Any]) -> None:
    meta = manifest.get("metadata") or {}
    found = (manifest.get("apiVersion"), manifest.get("kind"), meta.get("namespace"), meta.get("name"))
    wanted = (ref.kind.api_version, ref.kind.name, ref.namespace, ref.name)
    if found != wanted:
        raise TemplateError(f"{template}: made {found}, expected {wanted}")
    if _has_null(manifest):
        raise TemplateError(f"{template}: holds a null, which server-side apply would drop and we would miss")


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_null(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_has_null(inner) for inner in value)
    return value is None
