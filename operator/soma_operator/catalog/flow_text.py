"""Values as text that JSON and YAML read alike: templates are YAML, and so is the body of a server-side apply."""

from __future__ import annotations

import json
import re
from typing import Any


def flow_text(value: Any) -> str:
    """`value` in ASCII, as JSON and as YAML: the two differ in how they escape what lies beyond U+FFFF."""
    return _ESCAPE.sub(_yaml_escape, json.dumps(value, ensure_ascii=True, sort_keys=True))


# Every escape is matched, so that a backslash that is text is never taken for the beginning of one.
_ESCAPE = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|u(d[89a-f][0-9a-f]{2})|.)")


def _yaml_escape(match: re.Match[str]) -> str:
    high, low, alone = match.groups()
    if alone:
        return "\\ufffd"
    if not high:
        return match[0]
    return f"\\U{0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00:08X}"
