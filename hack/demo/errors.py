"""The one exception of the demo: what is not as it should be, as a sentence."""

from __future__ import annotations


class DemoError(Exception):
    """A step that did not come out as it should. `remedy` says what to look at next; `usage` that the input was
    wrong."""

    def __init__(self, message: str, remedy: str = "", *, usage: bool = False) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.usage = usage
