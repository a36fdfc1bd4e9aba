"""The API server: requests, their errors as reasons, and the life of the watch streams.

Lives here: everything that talks to Kubernetes but the Lease and the watches' content. Bodies of Secrets and the like
are never requested: their kinds are asked for as PartialObjectMetadata. Imports `ownership`, `catalog`, `api`
(reasons), `telemetry`.
"""

from __future__ import annotations
