"""What filters see of payloads with the character NUL (which jsonb cannot hold) is told apart from other characters.

Expand only: version N-1 goes on writing and asking for such texts in its own way.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
serves_back_to = "0001"

MEND = r"""
    UPDATE memories SET fields = regexp_replace(
        replace(payload, U&'\E000', U&'\E0001'), '(?<!\\)((?:\\\\)*)\\u0000', '\1' || U&'\E000' || '0', 'g'
    )::jsonb
    WHERE NOT deleted AND (strpos(payload, '\u0000') > 0 OR strpos(payload, U&'\E000') > 0)
"""
"""Makes the fields of such payloads anew, as `storable` does."""


def upgrade() -> None:
    """Once for what is there."""
    op.execute(MEND)


def downgrade() -> None:
    """Nothing: version N-1 reads these fields too."""
