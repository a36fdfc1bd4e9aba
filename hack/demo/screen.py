"""What a person sees: numbered, timed steps; on a terminal a live table, else a line for every change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

POLL_SECONDS = 0.5

Row = tuple[str, str, str]


def _console() -> Console:
    made = Console(highlight=False, soft_wrap=True)
    # A log has no width: without this, rich takes 80 columns and folds the tables.
    return made if made.is_terminal else Console(highlight=False, soft_wrap=True, width=180)


@dataclass
class Screen:
    """Prints to `console`; remembers how long every step took."""

    steps: int
    console: Console = field(default_factory=_console)
    taken: list[tuple[str, float]] = field(default_factory=list)
    seen: dict[tuple[str, str], str] = field(default_factory=dict)  # what a log was told already

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step: its number and title before, its seconds after, also when it fails."""
        self.console.print(f"\n[bold cyan]{escape(f'[{len(self.taken) + 1}/{self.steps}]')} {escape(title)}[/]")
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self.taken.append((title, seconds))
            self.console.print(f"      [dim]{seconds:.1f} s[/]")

    def say(self, text: str) -> None:
        self.console.print(f"      {escape(text)}")

    def good(self, text: str) -> None:
        self.console.print(f"      [green]✓[/] {escape(text)}")

    def bad(self, text: str, remedy: str) -> None:
        self.console.print(f"\n[bold red]✗ {escape(text)}[/]")
        if remedy:
            self.console.print(f"  {escape(remedy)}")

    def table(self, headings: tuple[str, ...], rows: list[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
        """Plain columns, indented; those in `right` are numbers."""
        made = Table(*headings, box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for index in right:
            made.columns[index].justify = "right"
        for column in made.columns:
            column.no_wrap = True
        for row in rows:
            made.add_row(*(escape(cell) for cell in row))
        with self.console.capture() as captured:
            self.console.print(made)
        for line in captured.get().rstrip("\n").split("\n"):
            self.console.print(f"      {line.rstrip()}", markup=False, highlight=False)

    def watch(self, read: Callable[[], list[Row]], done: Callable[[], bool], timeout: float) -> bool:
        """Shows `read()` until `done()`; False after `timeout` seconds. Each is called about twice a second."""
        deadline = time.monotonic() + timeout
        if self.console.is_terminal:
            return self._watch_live(read, done, deadline)
        while True:
            for kind, name, state in read():
                if self.seen.get((kind, name)) != state:
                    self.seen[kind, name] = state
                    self.say(f"{kind} {name}: {state}")
            if done():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def _watch_live(self, read: Callable[[], list[Row]], done: Callable[[], bool], deadline: float) -> bool:
        with Live(console=self.console, refresh_per_second=4) as live:
            while True:
                made = Table("", "", "", box=None, show_header=False, padding=(0, 2, 0, 6))
                for row in read():
                    made.add_row(*(escape(cell) for cell in row))
                live.update(made)
                if done():
                    return True
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL_SECONDS)
