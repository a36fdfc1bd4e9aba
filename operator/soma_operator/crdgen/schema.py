"""From a pydantic model to a structural schema, the subset of OpenAPI v3 that CustomResourceDefinitions take.

Left out on purpose: `default` (the API server would write it into the author's spec; it is told in the description
instead), and `additionalProperties: false` (the API server refuses or prunes unknown fields by itself).
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
_KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)


def structural_schema(model: type[BaseModel]) -> Schema:
    """The schema of `model`, references resolved, with names as on the wire.

    Raises ValueError for what has no structural form or no upper bound: that is a defect of the model.
    """
    document = model.model_json_schema(by_alias=True)
    return _node(document, document.get("$defs", {}), model.__name__)


def _node(raw: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    raw = _resolve(raw, definitions)
    node: Schema = {}
    description = _description(raw)
    if description:
        node["description"] = description
    node.update({key: raw[key] for key in _KEPT if key in raw})
    if "properties" in raw:
        node["properties"] = {
            name: _node(sub, definitions, f"{path}.{name}") for name, sub in raw["properties"].items()
        }
        if raw.get("required"):
            node["required"] = sorted(raw["required"])
    elif raw.get("type") == "object" and "x-kubernetes-preserve-unknown-fields" not in raw:
        _map(node, raw, definitions, path)
    elif raw.get("type") == "array":
        _list(node, raw, definitions, path)
    _require_bounds(node, path)
    return node


def _resolve(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow references and drop the null branch of optional fields; what stands beside a reference wins."""
    while "$ref" in raw or "anyOf" in raw:
        beside = {key: value for key, value in raw.items() if key not in ("$ref", "anyOf")}
        if "$ref" in raw:
            target = definitions[raw["$ref"].rsplit("/", 1)[1]]
        else:
            branches = [branch for branch in raw["anyOf"] if branch.get("type") != "null"]
            if len(branches) != 1:
                raise ValueError(f"a union has no structural schema: {raw}")
            target = branches[0]
        raw = {**target, **beside}
    return raw


def _description(raw: Schema) -> str:
    text = " ".join(str(raw.get("description", "")).split())
    default = raw.get("default")
    if default in (None, "", [], {}) or "properties" in raw:
        return text
    shown = default if isinstance(default, str) else json.dumps(default)
    return f"{text} Default: {shown}."


def _map(node: Schema, raw: Schema, definitions: dict[str, Schema], path: str) -> None:
    patterns = raw.get("patternProperties")
    if patterns:
        ((pattern, values),) = patterns.items()
        rule = f"self.all(key, key.matches({json.dumps(pattern)}))"
        node["x-kubernetes-validations"] = [{"rule": rule, "message": f"a key does not have the form {pattern}"}]
    else:
        values = raw["additionalProperties"]
    node["additionalProperties"] = _node(values, definitions, f"{path}[*]")


def _list(node: Schema, raw: Schema, definitions: dict[str, Schema], path: str) -> None:
    node["items"] = _node(raw["items"], definitions, f"{path}[]")
    keys = raw.get("x-kubernetes-list-map-keys")
    if keys:
        node["x-kubernetes-list-type"] = "map"
        node["x-kubernetes-list-map-keys"] = keys
    else:
        node["x-kubernetes-list-type"] = "atomic" if node["items"].get("type") in ("object", "array") else "set"


def _require_bounds(node: Schema, path: str) -> None:
    """The API server refuses CEL rules whose cost it cannot bound: so everything has an upper bound."""
    unbounded = {
        "string": not node.keys() & {"enum", "maxLength", "format"},
        "array": "maxItems" not in node,
        "object": "additionalProperties" in node and "maxProperties" not in node,
    }
    if unbounded.get(node.get("type", ""), False):
        raise ValueError(f"{path} is a {node['type']} without an upper bound: give the model's field a max_length")
