"""Reads and names docker-archives: the tar files that buildah and `docker save` write and containerd and kind
import."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.images.errors import ImageError
from hack.images.layout import reference


@dataclass(frozen=True, slots=True)
class Image:
    """A built image. `id` is the digest of its configuration, `size` the bytes of its layers, unpacked.

    `ref` ends in `:dev`, `pinned_ref` in the hash of what went in. `tags` are the archive's own words for the two,
    which docker writes without its registry and in an order of its own.
    """

    name: str
    archive: Path
    ref: str
    pinned_ref: str
    id: str
    size: int
    tags: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    config: dict[str, Any] | None = None


def read(name: str, archive: Path) -> Image:
    """What the archive, named `<name>-<hash of what went in>.tar`, says of its (only) image."""
    try:
        with tarfile.open(archive) as tar:
            manifest = json.loads(_content(tar, "manifest.json"))[0]
            config = json.loads(_content(tar, manifest["Config"]))
            layers = tuple(_layer_size(tar, layer) for layer in manifest["Layers"])
    except (tarfile.TarError, KeyError, IndexError, ValueError) as error:
        raise ImageError(f"{archive} is not a whole docker-archive ({error}): delete it and build again") from error
    digest = Path(manifest["Config"]).name.removesuffix(".json")
    inputs = archive.stem.removeprefix(f"{name}-")
    names = (reference(name, "dev"), reference(name, inputs))
    return Image(name, archive, *names, f"sha256:{digest}", sum(layers), tuple(manifest["RepoTags"]), layers, config)


def retag(source: Path, target: Path, references: list[str]) -> None:
    """Copies the archive with other names for its image; buildah writes one name only."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            if member.name == "manifest.json":
                content = json.loads(_content(old, member.name))
                content[0]["RepoTags"] = references
                body = json.dumps(content).encode()
                member.size = len(body)
                new.addfile(member, io.BytesIO(body))
            elif member.name != "repositories":
                new.addfile(member, old.extractfile(member) if member.isfile() else None)


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    handle = tar.extractfile(name)
    if handle is None:
        raise KeyError(name)
    return handle.read()


def _layer_size(tar: tarfile.TarFile, name: str) -> int:
    member = tar.getmember(name)
    # The same layer may stand there twice, the second time as a link to the first.
    while member.issym():
        member = tar.getmember(str(Path(member.name).parent / member.linkname).replace("../", ""))
    return member.size
