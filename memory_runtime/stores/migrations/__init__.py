"""The ledger's schema, revision by revision (Alembic). Only SQL here; `stores.migrating` decides when it runs."""
