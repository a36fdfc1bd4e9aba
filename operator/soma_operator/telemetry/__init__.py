"""What the operator says about itself: metrics and logs. Imports `settings` only."""

from __future__ import annotations
