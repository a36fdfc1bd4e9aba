"""Draws specs from the CRD's own schema, extremes included: whatever a field's bounds, pattern and list type admit."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

from soma_operator.crdgen.definitions import custom_resource_definitions

Schema = dict[str, Any]
_ROOT = custom_resource_definitions()["somamemories.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC: Schema = _ROOT["properties"]["spec"]
_PRINTABLE = r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$"
_KEY_RULE = re.compile(r"self\.all\(key, key\.matches\((.*)\)\)", re.DOTALL)
_STALLED_FOR_GOOD = ("access.tls", "access.jwt", "access.opa", "encryption", "bootstrap")


def specs() -> st.SearchStrategy[Schema]:
    """Specs that fit the schema and mostly fit together: the rest is the admission's to refuse."""
    return st.builds(_fitting, _node(SPEC, depth=0), st.sampled_from(["embedded", "distributed"]), st.data())


def _node(schema: Schema, depth: int) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "x-kubernetes-int-or-string" in schema or schema["type"] == "string":
        return _text(schema)
    if schema["type"] == "boolean":
        return st.booleans()
    if schema["type"] == "integer":
        return _number(schema, st.integers(schema.get("minimum"), schema.get("maximum")))
    if schema["type"] == "number":
        return _number(schema, st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False))
    if schema["type"] == "array":
        return _list(schema, depth)
    return _map(schema, depth) if "additionalProperties" in schema else _object(schema, depth)


def _number(schema: Schema, drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    ends = [schema[end] for end in ("minimum", "maximum") if end in schema]
    return st.one_of(st.sampled_from(ends), drawn) if ends else drawn


def _text(schema: Schema) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.just("2026-01-01T00:00:00Z")
    most, least = schema.get("maxLength", 64), schema.get("minLength", 0)
    pattern = schema.get("pattern")
    if pattern is None or pattern == _PRINTABLE:
        some = st.text(st.characters(categories=("L", "M", "N", "P", "S"), include_characters=" "), min_size=1)
        anything = st.text(st.characters(exclude_categories=("Cs",)), min_size=least, max_size=min(most, 20))
        longest = st.sampled_from(["x" * most, "ü" * most, "拉" * most])
        return st.one_of(some.map(lambda text: text[:most]), longest, *([] if pattern else [anything]))
    drawn = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
    long = drawn.map(lambda text: _stretched(text, pattern, most))
    return st.one_of(drawn, long).filter(lambda text: least <= len(text) <= most and re.search(pattern, text))


def _stretched(text: str, pattern: str, most: int) -> str:
    """The longest text that repeats its first character and still fits."""
    for length in range(most, len(text), -1):
        longer = text[:1] * (length - len(text)) + text
        if re.search(pattern, longer):
            return longer
    return text


def _list(schema: Schema, depth: int) -> st.SearchStrategy[list[Any]]:
    least = schema.get("minItems", 0)
    bounds = {"min_size": least, "max_size": min(schema["maxItems"], max(least, 3))}
    items = _node(schema["items"], depth + 1)
    keys = schema.get("x-kubernetes-list-map-keys")
    if schema["x-kubernetes-list-type"] == "set":
        return st.lists(items, unique_by=json.dumps, **bounds)
    if keys:
        return st.lists(items, unique_by=lambda item: json.dumps([item.get(key) for key in keys]), **bounds)
    return st.lists(items, **bounds)


def _map(schema: Schema, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    keys: st.SearchStrategy[str] = st.text(min_size=1, max_size=10)
    for rule in schema.get("x-kubernetes-validations", ()):
        found = _KEY_RULE.fullmatch(rule["rule"])
        if found:
            keys = _text({"type": "string", "pattern": json.loads(found[1]), "maxLength": 63})
    return st.dictionaries(keys, _node(schema["additionalProperties"], depth + 1), max_size=4)


def _object(schema: Schema, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    required = set(schema.get("required", ()))
    properties = schema.get("properties", {})
    nodes = {name: st.deferred(lambda sub=sub: _node(sub, depth + 1)) for name, sub in properties.items()}  # type: ignore[misc]

    def chosen(names: set[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({name: nodes[name] for name in nodes if name in names | required})

    optional = sorted(set(properties) - required)
    # A few at a time: with all of them every spec would break some rule.
    some = st.sets(st.sampled_from(optional), max_size=6 if depth == 0 else 3) if optional else st.just(set())
    return some.flatmap(chosen)


def _fitting(spec: Schema, mode: str, data: st.DataObject) -> Schema:
    """The same spec in one mode: what that mode has no use for goes, what it needs comes."""
    spec = {**spec, "mode": mode}
    if mode == "embedded":
        spec.pop("consumer", None)
        if "api" in spec:
            spec["api"] = {k: v for k, v in spec["api"].items() if k not in ("replicas", "autoscaling")}
        spec.pop("events", None)
    else:
        spec.pop("persistence", None)
        endpoints = SPEC["properties"]["endpoints"]["properties"]
        wanted = {"postgresql"} | ({"kafka"} if spec.get("events", {}).get("enabled") else set())
        spec["endpoints"] = dict(spec.get("endpoints", {}))
        for name in sorted(wanted - set(spec["endpoints"])):
            spec["endpoints"][name] = data.draw(_node(endpoints[name], depth=2))
    for path in _STALLED_FOR_GOOD:
        parent, _, name = path.rpartition(".")
        place = spec.get(parent, {}) if parent else spec
        if name in place and data.draw(st.integers(0, 9)):
            del place[name]
    weights = spec.get("scoring", {}).get("featureWeights", {})
    if sum(weights.values()) > 1 and data.draw(st.booleans()):
        total = sum(weights.values())
        spec["scoring"]["featureWeights"] = {name: value / total for name, value in weights.items()}
    return spec
