"""The ledger: records, vectors, words, outbox, idempotency, edges, audit, normalisers, sinks.

`row` is the memory's number in this file and stays with its id for good, so vectors and words can be keyed by it.
Vectors stand apart from records: reading payloads or counting accesses must not drag 1.5 KB a row through the cache.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
serves_back_to = "0001"

TABLES = (
    """
    CREATE TABLE memories (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
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
        expires_at REAL,
        pinned INTEGER NOT NULL,
        hold INTEGER NOT NULL,
        version INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        model_revision TEXT NOT NULL,
        features TEXT,
        payload TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX memories_scope ON memories (tenant, namespace, collection, coordinate_first) WHERE deleted = 0",
    # what was said before and after: the neighbours that hybrid recall reads a memory with
    "CREATE INDEX memories_time ON memories (tenant, namespace, event_time, row) WHERE deleted = 0 AND collection = 0",
    "CREATE INDEX memories_expiry ON memories (expires_at) WHERE expires_at IS NOT NULL AND deleted = 0",
    "CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT",
    """
    CREATE VIRTUAL TABLE memories_text USING fts5(
        text, content = 'memories', content_rowid = 'row', tokenize = 'porter unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        operation TEXT NOT NULL,
        id BLOB NOT NULL,
        collection INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        namespace TEXT NOT NULL,
        memory_type TEXT NOT NULL,
        version INTEGER NOT NULL,
        at REAL NOT NULL,
        previous_seq INTEGER,
        payload TEXT
    ) STRICT
    """,
    """
    CREATE TABLE idempotency (
        tenant TEXT NOT NULL,
        namespace TEXT NOT NULL,
        operation TEXT NOT NULL,
        key TEXT NOT NULL,
        body_hash TEXT NOT NULL,
        reply TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (tenant, namespace, operation, key)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX idempotency_age ON idempotency (at)",
    """
    CREATE TABLE edges (
        tenant TEXT NOT NULL,
        namespace TEXT NOT NULL,
        source TEXT NOT NULL,
        link_type TEXT NOT NULL,
        target TEXT NOT NULL,
        weight REAL NOT NULL,
        metadata TEXT NOT NULL,
        at REAL NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (tenant, namespace, source, link_type, target)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX edges_target ON edges (tenant, namespace, target)",
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        tenant TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        previous_hash TEXT NOT NULL,
        hash TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TABLE normalisers (tenant TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL) STRICT",
    "CREATE TABLE sinks (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, at REAL NOT NULL) STRICT",
    "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)


def upgrade() -> None:
    """Makes the schema."""
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Takes the schema away, and with it every memory: only an empty ledger may go this way (checked by the caller)."""
    for kind in (
        "facts",
        "sinks",
        "normalisers",
        "audit",
        "edges",
        "idempotency",
        "outbox",
        "memories_text",
        "vectors",
    ):
        op.execute(f"DROP TABLE {kind}")
    op.execute("DROP TABLE memories")
