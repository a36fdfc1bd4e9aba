"""Builds the container images of the operator and the runtime. Lives here: collecting wheels, making a base without
an image registry, driving docker or buildah, reading the archives that come out. May import the standard library,
`packaging`, and `hack.cluster` (to load an image into a node, and to show progress); nothing of the product.

    from hack.images import build
    build()["soma-memory-runtime"].archive  # a docker-archive: `ctr images import`, `kind load image-archive`

`inside/` holds the scripts that the Dockerfiles run within a stage: standard library only.
"""

from hack.images.archive import Image
from hack.images.errors import ImageError
from hack.images.pipeline import build

__all__ = ["Image", "ImageError", "build"]
