"""Takes secrets out of what leaves the cluster in an incident bundle. Pure.

Two nets: values that are known (from the Secrets that the person may read) are replaced wherever they stand, in plain
and in base64; and what looks like a secret is replaced although nobody knows it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

HIDDEN: Final = "[redacted]"
SHORTEST: Final = 6
"""A shorter value would be found in half of all words."""

_WORDS = "password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|dsn"
_NAMES = rf"[A-Za-z0-9_.-]*(?:{_WORDS})[A-Za-z0-9_.-]*"
_PATTERNS: Final = (
    # user and password of a URL
    (re.compile(r"(?P<kept>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@\"']+@"), r"\g<kept>" + HIDDEN + "@"),
    (re.compile(r"(?i)(?P<kept>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"), r"\g<kept>" + HIDDEN),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (
        re.compile(rf"(?i)(?P<kept>\b{_NAMES}[\"']?\s*[:=]\s*)(?P<quote>[\"']?)[^\s\"',}}\]]+(?P=quote)"),
        r"\g<kept>" + HIDDEN,
    ),
)
_SECRET_NAME = re.compile(rf"(?i)^{_NAMES}$")
_HARMLESS = re.compile(
    r"(?i)(secretkeyref|secretref|tokensecretref|secretname|secretstoreref|automountserviceaccounttoken|tokensecret)$"
)


def known_values(secrets: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The values of Secrets, decoded and as they are stored."""
    found: set[str] = set()
    for secret in secrets:
        for stored in (secret.get("data") or {}).values():
            found.add(str(stored))
            try:
                text = base64.b64decode(stored, validate=True).decode()
            except ValueError:
                continue
            found.update((text, text.strip()))
    return frozenset(value for value in found if len(value) >= SHORTEST)


class Redactor:
    """Replaces what is secret by `[redacted]`."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        """`known`: values that are secret wherever they stand."""
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(value) for value in longest_first)) if known else None

    def text(self, given: str) -> str:
        """Any text: a log, metrics, an Event's message."""
        made = self._known.sub(HIDDEN, given) if self._known else given
        for pattern, replacement in _PATTERNS:
            made = pattern.sub(replacement, made)
        return made

    def body(self, given: Any) -> Any:
        """An object of Kubernetes: a Secret keeps its keys, an environment its names."""
        if isinstance(given, list):
            return [self.body(one) for one in given]
        if isinstance(given, dict):
            if given.get("kind") == "Secret":
                return self._secret(given)
            if _is_secret_pair(given):
                return {**given, "value": HIDDEN}
            return {key: self._field(str(key), value) for key, value in given.items() if key != _LAST_APPLIED}
        return self.text(given) if isinstance(given, str) else given

    def _field(self, key: str, value: Any) -> Any:
        if isinstance(value, str) and value and _SECRET_NAME.match(key) and not _HARMLESS.search(key):
            return HIDDEN
        return self.body(value)

    def _secret(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in given.items() if key not in {"data", "stringData", "metadata"}}
        hidden = {part: dict.fromkeys(given[part], HIDDEN) for part in ("data", "stringData") if given.get(part)}
        return {**kept, "metadata": self.body(given.get("metadata") or {}), **hidden}

    def json(self, given: Any) -> str:
        """An object as text."""
        return json.dumps(self.body(given), indent=2, sort_keys=True) + "\n"


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""A copy of the whole object in an annotation, which no rule for fields would see."""


def _is_secret_pair(given: Mapping[str, Any]) -> bool:
    """`{name: PGPASSWORD, value: …}` of an environment."""
    return isinstance(given.get("value"), str) and bool(_SECRET_NAME.match(str(given.get("name", ""))))
