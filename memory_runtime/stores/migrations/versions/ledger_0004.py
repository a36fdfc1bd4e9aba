"""A history has an identity: every group's changes carry a random token, and lineages say where histories parted.

Expand only: version N-1 goes on writing changes without a token.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
serves_back_to = "0001"

UP = (
    # drawn anew for each group: who holds the same token at the same seq holds the same history up to there
    "ALTER TABLE outbox ADD COLUMN history BLOB",
    # changes after `forked` are of this lineage, or of one with a higher epoch
    """
    CREATE TABLE lineages (
        lineage BLOB PRIMARY KEY,
        parent BLOB,
        epoch INTEGER NOT NULL UNIQUE,
        forked INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        at REAL NOT NULL
    ) STRICT
    """,
    # the same of the ledgers that events come from: what they tell of an abandoned future must lose
    "ALTER TABLE origin_versions ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE origin_lineages (
        origin TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        forked INTEGER NOT NULL,
        PRIMARY KEY (origin, epoch)
    ) STRICT, WITHOUT ROWID
    """,
)
DOWN = (
    "DROP TABLE origin_lineages",
    "ALTER TABLE origin_versions DROP COLUMN epoch",
    "DROP TABLE lineages",
    "ALTER TABLE outbox DROP COLUMN history",
)


def upgrade() -> None:
    """Adds columns and tables."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Drops them."""
    for statement in DOWN:
        op.execute(statement)
