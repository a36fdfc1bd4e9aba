"""The one exception of this room: a sentence for a person, naming the remedy; the command line prints it and exits
with 2."""

from __future__ import annotations


class ImageError(Exception):
    """Something that the images need cannot be had here."""
