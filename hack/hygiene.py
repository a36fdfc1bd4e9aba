"""Checks of the tree that no linter has: no machine path, package index host or oversized file is committed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST_FILE = 1 << 20
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w./$}-])/(?:work|farm)/[a-z]|/root/(?!\.)"),
    "a package index host": re.compile(
        r"(?:files\.pythonhosted|proxy\.golang|registry\.npmjs|repo1?\.maven|deb\.debian|static\.crates)\.",
        re.IGNORECASE,
    ),
}


def tracked_files() -> list[Path]:
    """Every file that git tracks, as absolute paths."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def problems(files: list[Path]) -> list[str]:
    """One line per finding: `file:line: what`."""
    found: list[str] = []
    for path in files:
        if path == Path(__file__).resolve() or not path.is_file():
            continue
        if path.stat().st_size > LARGEST_FILE:
            found.append(f"{path.relative_to(ROOT)}: larger than 1 MiB")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            for what, pattern in FORBIDDEN.items():
                if pattern.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {what}: {line.strip()[:100]}")
    return found


def main() -> int:
    """Exit status 1 and a line per finding, or 0 in silence."""
    found = problems(tracked_files())
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
