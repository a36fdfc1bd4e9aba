"""The ledger: one row that says whose turn it is, records, vectors, words, outbox, idempotency, edges, audit.

Text is in collation "C" everywhere: order and equality are those of code points, whatever the database was made with.
"""

from alembic import op

revision = "0001"
down_revision = "0000"
branch_labels = None
depends_on = None
serves_back_to = "0001"

_TEXT = 'TEXT COLLATE "C" NOT NULL'

UP = (
    # one row; whoever holds its lock writes, so the order of sequences is the order of commits
    """
    CREATE TABLE ledger_head (
        one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
        ledger_id UUID NOT NULL DEFAULT gen_random_uuid(),
        seq BIGINT NOT NULL DEFAULT 0,
        first_seq BIGINT NOT NULL DEFAULT 1,
        rows BIGINT NOT NULL DEFAULT 0,
        generation BIGINT NOT NULL DEFAULT 0,
        writer UUID,
        documents BIGINT NOT NULL DEFAULT 0,
        tokens BIGINT NOT NULL DEFAULT 0,
        reembedding BOOLEAN NOT NULL DEFAULT FALSE
    ) WITH (fillfactor = 10)
    """,
    "INSERT INTO ledger_head DEFAULT VALUES",
    # the last group of each process: after a connection died in COMMIT, this says whether it is durable
    """
    CREATE TABLE ledger_writers (
        writer UUID PRIMARY KEY,
        group_number BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL
    ) WITH (fillfactor = 20)
    """,
    f"""
    CREATE TABLE memories (
        row BIGINT PRIMARY KEY,
        id UUID NOT NULL UNIQUE,
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
        expires_at DOUBLE PRECISION,
        pinned BOOLEAN NOT NULL,
        hold BOOLEAN NOT NULL,
        version BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        deleted BOOLEAN NOT NULL,
        model_revision {_TEXT},
        features TEXT COLLATE "C",
        payload {_TEXT},
        fields JSONB NOT NULL,
        text {_TEXT}
    ) WITH (fillfactor = 90)
    """,
    "CREATE INDEX memories_scope ON memories (tenant, namespace, collection, coordinate_first) WHERE NOT deleted",
    "CREATE INDEX memories_time ON memories (tenant, namespace, event_time, row) WHERE NOT deleted AND collection = 0",
    "CREATE INDEX memories_expiry ON memories (expires_at) WHERE expires_at IS NOT NULL AND NOT deleted",
    "CREATE TABLE vectors (row BIGINT PRIMARY KEY, vector BYTEA NOT NULL)",
    "CREATE TABLE vectors_next (row BIGINT PRIMARY KEY, vector BYTEA NOT NULL)",
    "CREATE TABLE vectors_old (row BIGINT PRIMARY KEY, vector BYTEA NOT NULL)",
    "ALTER TABLE vectors ALTER COLUMN vector SET STORAGE EXTERNAL",
    "ALTER TABLE vectors_next ALTER COLUMN vector SET STORAGE EXTERNAL",
    "ALTER TABLE vectors_old ALTER COLUMN vector SET STORAGE EXTERNAL",
    # Porter's stems and no stop words, as the embedded ledger has them
    "CREATE TEXT SEARCH DICTIONARY soma_porter (TEMPLATE = snowball, LANGUAGE = porter)",
    "CREATE TEXT SEARCH CONFIGURATION soma_words (PARSER = pg_catalog.default)",
    """
    ALTER TEXT SEARCH CONFIGURATION soma_words ADD MAPPING FOR asciiword, word, numword, asciihword, hword, numhword,
        hword_asciipart, hword_part, hword_numpart, email, protocol, url, host, url_path, file, sfloat, float, int,
        uint, version WITH soma_porter
    """,
    # `folded` holds the words alone, folded and one space apart; `words` their stems; `length` how many words
    """
    CREATE TABLE memories_text (
        row BIGINT PRIMARY KEY,
        length INTEGER NOT NULL,
        folded TEXT COLLATE "C" NOT NULL,
        words TSVECTOR GENERATED ALWAYS AS (to_tsvector('soma_words'::regconfig, folded)) STORED
    )
    """,
    "CREATE INDEX memories_text_words ON memories_text USING gin (words)",
    f"""
    CREATE TABLE outbox (
        seq BIGINT PRIMARY KEY,
        operation {_TEXT},
        id UUID NOT NULL,
        collection SMALLINT NOT NULL,
        tenant {_TEXT},
        namespace {_TEXT},
        memory_type {_TEXT},
        version BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        previous_seq BIGINT,
        payload TEXT COLLATE "C",
        created BOOLEAN NOT NULL DEFAULT FALSE,
        coordinate {_TEXT} DEFAULT '',
        event_time DOUBLE PRECISION,
        importance DOUBLE PRECISION,
        model_revision {_TEXT} DEFAULT '',
        origin {_TEXT} DEFAULT '',
        trace {_TEXT} DEFAULT ''
    )
    """,
    f"""
    CREATE TABLE idempotency (
        -- of scope, operation and key: together they may be longer than an index entry holds
        digest UUID PRIMARY KEY,
        tenant {_TEXT},
        namespace {_TEXT},
        operation {_TEXT},
        key {_TEXT},
        body_hash {_TEXT},
        reply {_TEXT},
        at DOUBLE PRECISION NOT NULL
    )
    """,
    "CREATE INDEX idempotency_age ON idempotency (at)",
    # which version of each memory an event has told of: a late event must not undo a later one, nor a delete
    f"""
    CREATE TABLE origin_versions (
        origin {_TEXT},
        id UUID NOT NULL,
        version BIGINT NOT NULL,
        PRIMARY KEY (origin, id)
    )
    """,
    f"""
    CREATE TABLE edges (
        tenant {_TEXT},
        namespace {_TEXT},
        source {_TEXT},
        link_type {_TEXT},
        target {_TEXT},
        weight DOUBLE PRECISION NOT NULL,
        metadata {_TEXT},
        at DOUBLE PRECISION NOT NULL,
        seq BIGINT NOT NULL,
        -- a coordinate may be longer than an index entry holds
        key UUID PRIMARY KEY
    )
    """,
    "CREATE INDEX edges_scope ON edges (tenant, namespace, left(source, 256))",
    "CREATE INDEX edges_source ON edges USING hash (source)",
    "CREATE INDEX edges_target ON edges USING hash (target)",
    f"""
    CREATE TABLE audit (
        number BIGINT PRIMARY KEY,
        at DOUBLE PRECISION NOT NULL,
        tenant {_TEXT},
        actor {_TEXT},
        action {_TEXT},
        subject {_TEXT},
        detail {_TEXT},
        previous_hash {_TEXT},
        hash {_TEXT}
    )
    """,
    f"CREATE TABLE normalisers (tenant {_TEXT} PRIMARY KEY, version BIGINT NOT NULL, state {_TEXT})",
    f"CREATE TABLE sinks (name {_TEXT} PRIMARY KEY, seq BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL)",
    f"CREATE TABLE facts (key {_TEXT} PRIMARY KEY, value {_TEXT})",
    f"""
    CREATE TABLE importance_previous (
        row BIGINT PRIMARY KEY,
        tenant {_TEXT},
        importance_norm DOUBLE PRECISION NOT NULL,
        normaliser_version BIGINT NOT NULL,
        version BIGINT NOT NULL
    )
    """,
)

_TABLES = (
    "importance_previous",
    "facts",
    "sinks",
    "normalisers",
    "audit",
    "edges",
    "origin_versions",
    "idempotency",
    "outbox",
    "memories_text",
    "vectors_old",
    "vectors_next",
    "vectors",
    "memories",
    "ledger_writers",
    "ledger_head",
)


def upgrade() -> None:
    """Makes the schema."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Takes the schema away, and with it every memory: only an empty ledger may go this way (checked by the caller)."""
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP TEXT SEARCH CONFIGURATION soma_words")
    op.execute("DROP TEXT SEARCH DICTIONARY soma_porter")
