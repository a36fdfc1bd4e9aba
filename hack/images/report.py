"""Prints what was built: one row an image, one a layer."""

from __future__ import annotations

from collections.abc import Iterable

from hack.images.archive import Image

LAYERS = {
    4: ("system and Python", "dependencies", "model", "our packages"),
    3: ("system and Python", "dependencies", "our packages"),
}


def table(images: Iterable[Image]) -> str:
    rows = [("image", "MB", "what it holds")]
    for image in images:
        names = LAYERS.get(len(image.layers), tuple(f"layer {index}" for index in range(1, len(image.layers) + 1)))
        parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in zip(names, image.layers, strict=True))
        rows.append((image.name, f"{image.size / 1e6:.0f}", parts))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {parts}".rstrip() for name, size, parts in rows)
