"""The tables of the service that we replace, as it makes them: its database is at this revision whatever it holds.

Nothing is made that is there already, and nothing with rows in it is taken away.
"""

from alembic import op

revision = "0000"
down_revision = None
branch_labels = None
depends_on = None
serves_back_to = "0000"

UP = (
    "CREATE TABLE IF NOT EXISTS kv_store (key TEXT PRIMARY KEY, value JSONB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS idx_kv_key_pattern ON kv_store (key text_pattern_ops)",
    "CREATE INDEX IF NOT EXISTS idx_kv_memory_type ON kv_store ((value ->> 'memory_type'))",
    # the extension needs a privilege and a package that not every server has: without it, the search reads every row
    """
    DO $$ BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE INDEX IF NOT EXISTS idx_kv_value_trgm ON kv_store USING gin ((value::text) gin_trgm_ops);
    EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR undefined_object THEN
        RAISE NOTICE 'pg_trgm is not to be had: %', SQLERRM;
    END $$
    """,
    """
    CREATE TABLE IF NOT EXISTS memory_events (
        id UUID PRIMARY KEY,
        event_id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        timestamp DOUBLE PRECISION NOT NULL,
        payload JSONB NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_memory_events_namespace_timestamp ON memory_events (namespace, timestamp)",
    "CREATE INDEX IF NOT EXISTS ix_memory_events_event_id ON memory_events (event_id)",
)


def upgrade() -> None:
    """Makes what is not there."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Takes the two tables away where they are empty."""
    for table in ("kv_store", "memory_events"):
        op.execute(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM {table}) THEN DROP TABLE {table}; END IF; END $$"  # noqa: S608
        )
