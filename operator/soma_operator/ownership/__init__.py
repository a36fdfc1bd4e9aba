"""Who owns which field: what `metadata.managedFields` tells, and what our entry there must look like.

Lives here: pure functions over managedFields and manifests. An edit of a field that we apply removes its path from
our entry, so the digest of the entry is a drift detector that costs no request. Imports `catalog` only.
"""

from __future__ import annotations
