"""The one error that a person sees: a sentence that says what is missing and how to mend it."""

from __future__ import annotations


class ClusterError(Exception):
    """Something cannot be had.

    The message is one clear sentence that names the remedy; the command line exits with status 2.
    """
