"""Whether the documentation tells the truth: what its pages name must be there."""
