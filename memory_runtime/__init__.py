"""The memory engine and its surfaces: what the runtime image runs and what `pip install` gives on a laptop."""
