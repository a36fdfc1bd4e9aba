"""The field reference, `docs/reference.md`: every field of both resources in the order of its definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


def reference(definitions: list[dict[str, Any]]) -> str:
    """Markdown without its first line, which says that the file is generated."""
    lines = [
        "# Field reference",
        "",
        "All that `kubectl explain` tells, on one page. Fields without `required` may be left out; defaults are not",
        "written into the resource, what was resolved shows in its status.",
    ]
    for definition in definitions:
        names, (version,) = definition["spec"]["names"], definition["spec"]["versions"]
        root = version["schema"]["openAPIV3Schema"]
        lines += [
            "",
            f"## {names['kind']} (`{definition['spec']['group']}/{version['name']}`)",
            "",
            root["description"],
        ]
        for part in ("spec", "status"):
            lines += ["", f"### {names['kind']}.{part}", "", "| field | type | meaning |", "|---|---|---|"]
            lines += [f"| `{path}` | {kind} | {about} |" for path, kind, about in _rows(root["properties"][part], part)]
        lines += ["", f"### What {names['kind']} refuses", ""]
        lines += [f"- `{path}`: {message}" for path, message in _rules(root, "")]
    return "\n".join(lines) + "\n"


def _rows(node: Schema, path: str, *, required: bool = False) -> Iterator[tuple[str, str, str]]:
    kind = _kind(node) + (", required" if required else "")
    yield path, kind, node.get("description", "").replace("|", "\\|")
    inner, suffix = _inner(node)
    for name, sub in inner.get("properties", {}).items():
        yield from _rows(sub, f"{path}{suffix}.{name}", required=name in inner.get("required", ()))


def _inner(node: Schema) -> tuple[Schema, str]:
    """The schema whose properties come next, and how the path says so."""
    if "items" in node:
        return node["items"], "[]"
    if "additionalProperties" in node:
        return node["additionalProperties"], "[*]"
    return node, ""


def _kind(node: Schema) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if "x-kubernetes-int-or-string" in node:
        return "integer or string"
    if "items" in node:
        return f"list of {_kind(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_kind(node['additionalProperties'])}"
    return str(node.get("type", "object"))


def _rules(node: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in node.get("x-kubernetes-validations", ()):
        yield (path + rule.get("fieldPath", "")).lstrip(".") or "metadata.name", rule["message"]
    inner, suffix = _inner(node)
    for name, sub in inner.get("properties", {}).items():
        yield from _rules(sub, f"{path}{suffix}.{name}")
