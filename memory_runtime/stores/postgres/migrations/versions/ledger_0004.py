"""No row holds a number that is none: NaN and infinities of before they were refused are mended.

Data only; nothing to undo. docs/reliability.md says what each column becomes.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
serves_back_to = "0001"

NONE = "('NaN', 'Infinity', '-Infinity')"
BAD = (
    "SELECT 1 FROM memories WHERE importance_raw IN :none OR importance_norm NOT BETWEEN 0.0 AND 1.0"
    " OR event_time IN :none OR ingest_time IN :none OR access_time IN :none OR expires_at IN :none"
)
MENDING = (
    # rows change without a new seq: an index, a snapshot or a cache of before is of no use
    "UPDATE ledger_head SET generation = generation + 1 WHERE EXISTS (:bad)",
    "UPDATE memories SET importance_raw = NULL WHERE importance_raw IN :none",
    # NaN is above every number here
    "UPDATE memories SET importance_norm = 1.0 WHERE importance_norm NOT BETWEEN 0.0 AND 1.0",
    "UPDATE memories SET ingest_time = CASE WHEN event_time IN :none THEN 0.0 ELSE event_time END"
    " WHERE ingest_time IN :none",
    "UPDATE memories SET event_time = ingest_time WHERE event_time IN :none",
    "UPDATE memories SET access_time = ingest_time WHERE access_time IN :none",
    # a memory is kept rather than lost for a time that says nothing
    "UPDATE memories SET expires_at = NULL WHERE expires_at IN :none",
    "UPDATE outbox SET event_time = NULL WHERE event_time IN :none",
    "UPDATE outbox SET importance = NULL WHERE importance IN :none",
    "UPDATE outbox SET at = 0.0 WHERE at IN :none",
    "UPDATE edges SET weight = 1.0 WHERE weight IN :none",
    "UPDATE edges SET at = 0.0 WHERE at IN :none",
)
UP = tuple(one.replace(":bad", BAD).replace(":none", NONE) for one in MENDING)


def upgrade() -> None:
    """Mends rows."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Nothing: what was mended stays."""
