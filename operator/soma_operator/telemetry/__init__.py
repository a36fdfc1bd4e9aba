"""What the operator says about itself: metrics and logs, and the ports they are read from. Imports `settings` only."""

from __future__ import annotations
