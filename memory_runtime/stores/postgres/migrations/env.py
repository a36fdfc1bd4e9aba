"""Alembic's entry point: runs the revisions on the connection that `stores.postgres.migrating` hands over."""

from alembic import context

from memory_runtime.stores.postgres.schema import VERSION_TABLE

connection = context.config.attributes["connection"]
# one transaction for all revisions, begun by the caller: it holds the lock that keeps a second migration out
context.configure(connection=connection, version_table=VERSION_TABLE)
context.run_migrations()
