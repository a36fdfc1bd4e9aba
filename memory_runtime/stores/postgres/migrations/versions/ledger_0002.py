"""A history has an identity: every group's changes carry a random token, and lineages say where histories parted.

Expand only: version N-1 goes on writing changes without a token, and followers take their numbers on trust as before.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
serves_back_to = "0001"

UP = (
    # drawn anew for each group: who holds the same token at the same seq holds the same history up to there
    "ALTER TABLE outbox ADD COLUMN history UUID",
    "ALTER TABLE ledger_head ADD COLUMN history UUID",
    "ALTER TABLE ledger_head ADD COLUMN lineage UUID",
    # which server, database and table the newest lineage was begun on: another one begins another lineage
    "ALTER TABLE ledger_head ADD COLUMN server TEXT",
    # changes after `forked` are of this lineage, or of one with a higher epoch
    """
    CREATE TABLE lineages (
        lineage UUID PRIMARY KEY,
        parent UUID,
        epoch BIGINT NOT NULL UNIQUE,
        forked BIGINT NOT NULL,
        generation BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL
    )
    """,
    # the same of the ledgers that events come from: what they tell of an abandoned future must lose
    "ALTER TABLE origin_versions ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0",
    """
    CREATE TABLE origin_lineages (
        origin TEXT COLLATE "C" NOT NULL,
        epoch BIGINT NOT NULL,
        forked BIGINT NOT NULL,
        PRIMARY KEY (origin, epoch)
    )
    """,
)
DOWN = (
    "DROP TABLE origin_lineages",
    "ALTER TABLE origin_versions DROP COLUMN epoch",
    "DROP TABLE lineages",
    "ALTER TABLE ledger_head DROP COLUMN server",
    "ALTER TABLE ledger_head DROP COLUMN lineage",
    "ALTER TABLE ledger_head DROP COLUMN history",
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
