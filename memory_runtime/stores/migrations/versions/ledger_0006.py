"""No row holds a number that is none: infinities of before they were refused are mended (NaN is NULL in SQLite).

Data only; nothing to undo. docs/reliability.md says what each column becomes.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
serves_back_to = "0001"

BAD = (
    "SELECT 1 FROM memories WHERE importance_raw IN (9e999, -9e999) OR importance_norm NOT BETWEEN 0.0 AND 1.0"
    " OR event_time IN (9e999, -9e999) OR ingest_time IN (9e999, -9e999) OR access_time IN (9e999, -9e999)"
    " OR expires_at IN (9e999, -9e999)"
)
UP = (
    # rows change without a new seq: an index, a snapshot or a cache of before is of no use
    f"INSERT INTO facts (key, value) SELECT 'index_generation', '1' WHERE EXISTS ({BAD})"
    " ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
    "UPDATE memories SET importance_raw = NULL WHERE importance_raw IN (9e999, -9e999)",
    "UPDATE memories SET importance_norm = 1.0 WHERE importance_norm NOT BETWEEN 0.0 AND 1.0",
    "UPDATE memories SET ingest_time = CASE WHEN event_time IN (9e999, -9e999) THEN 0.0 ELSE event_time END"
    " WHERE ingest_time IN (9e999, -9e999)",
    "UPDATE memories SET event_time = ingest_time WHERE event_time IN (9e999, -9e999)",
    "UPDATE memories SET access_time = ingest_time WHERE access_time IN (9e999, -9e999)",
    # a memory is kept rather than lost for a time that says nothing
    "UPDATE memories SET expires_at = NULL WHERE expires_at IN (9e999, -9e999)",
    "UPDATE outbox SET event_time = NULL WHERE event_time IN (9e999, -9e999)",
    "UPDATE outbox SET importance = NULL WHERE importance IN (9e999, -9e999)",
    "UPDATE outbox SET at = 0.0 WHERE at IN (9e999, -9e999)",
    "UPDATE edges SET weight = 1.0 WHERE weight IN (9e999, -9e999)",
    "UPDATE edges SET at = 0.0 WHERE at IN (9e999, -9e999)",
)


def upgrade() -> None:
    """Mends rows."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Nothing: what was mended stays."""
