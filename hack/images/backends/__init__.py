"""The image of the back ends that the end-to-end tests run in pods: PostgreSQL, Redis and Kafka, from packages.

Lives here: its recipe, and the three scripts that start them as an unprivileged user. For tests only: it has a shell,
its packages are unpacked without being configured, and nobody updates it.
"""

from __future__ import annotations

from hack.images.backends.recipe import NAME, build_backends

__all__ = ["NAME", "build_backends"]
