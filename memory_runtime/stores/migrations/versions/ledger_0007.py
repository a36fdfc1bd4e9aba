"""Superseded versions: what a memory was before it was stored again, so that a question at a past moment is true.

Expand only: version N-1 keeps no versions, and its deletes leave those that are there, which the next sweep takes.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
serves_back_to = "0001"


def upgrade() -> None:
    """Makes the table."""
    op.execute(
        """
        CREATE TABLE memory_versions (
            id BLOB NOT NULL,
            version INTEGER NOT NULL,
            collection INTEGER NOT NULL,
            tenant TEXT NOT NULL,
            namespace TEXT NOT NULL,
            memory_type TEXT NOT NULL,
            coordinate TEXT NOT NULL,
            coordinate_first REAL NOT NULL,
            importance_raw REAL,
            importance_norm REAL NOT NULL,
            normaliser_version INTEGER NOT NULL,
            event_time REAL NOT NULL,
            ingest_time REAL NOT NULL,
            access_time REAL NOT NULL,
            access_count INTEGER NOT NULL,
            features TEXT,
            model_revision TEXT NOT NULL,
            pinned INTEGER NOT NULL,
            hold INTEGER NOT NULL,
            expires_at REAL,
            seq INTEGER NOT NULL,
            payload TEXT NOT NULL,
            vector BLOB,
            superseded_at REAL NOT NULL,
            PRIMARY KEY (id, version)
        ) STRICT
        """
    )
    op.execute("CREATE INDEX memory_versions_time ON memory_versions (tenant, namespace, superseded_at)")


def downgrade() -> None:
    """Drops it, and with it what memories were before."""
    op.execute("DROP TABLE memory_versions")
