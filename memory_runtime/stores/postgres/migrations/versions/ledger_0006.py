"""Superseded versions: what a memory was before it was stored again, so that a question at a past moment is true.

Expand only: version N-1 keeps no versions, and its deletes leave those that are there, which the next sweep takes.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
serves_back_to = "0001"

_TEXT = 'TEXT COLLATE "C" NOT NULL'


def upgrade() -> None:
    """Makes the table."""
    op.execute(
        f"""
        CREATE TABLE memory_versions (
            id UUID NOT NULL,
            version BIGINT NOT NULL,
            collection SMALLINT NOT NULL,
            tenant {_TEXT},
            namespace {_TEXT},
            memory_type {_TEXT},
            coordinate {_TEXT},
            coordinate_first DOUBLE PRECISION NOT NULL,
            importance_raw DOUBLE PRECISION,
            importance_norm DOUBLE PRECISION NOT NULL,
            normaliser_version BIGINT NOT NULL,
            event_time DOUBLE PRECISION NOT NULL,
            ingest_time DOUBLE PRECISION NOT NULL,
            access_time DOUBLE PRECISION NOT NULL,
            access_count BIGINT NOT NULL,
            features TEXT COLLATE "C",
            model_revision {_TEXT},
            pinned BOOLEAN NOT NULL,
            hold BOOLEAN NOT NULL,
            expires_at DOUBLE PRECISION,
            seq BIGINT NOT NULL,
            payload {_TEXT},
            fields JSONB NOT NULL,
            vector BYTEA,
            superseded_at DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (id, version)
        )
        """
    )
    op.execute("ALTER TABLE memory_versions ALTER COLUMN vector SET STORAGE EXTERNAL")
    op.execute("CREATE INDEX memory_versions_time ON memory_versions (tenant, namespace, superseded_at)")


def downgrade() -> None:
    """Drops it, and with it what memories were before."""
    op.execute("DROP TABLE memory_versions")
