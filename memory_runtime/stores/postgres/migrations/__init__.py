"""The PostgreSQL ledger's schema, revision by revision (Alembic), in a version line of its own.

Only SQL here; `stores.postgres.migrating` decides when it runs. Revisions expand before they contract: version N-1 of
the runtime keeps serving on the schema of version N (see docs/postgresql.md).
"""
