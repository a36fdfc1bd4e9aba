"""What filters see of payloads with the character NUL (which jsonb cannot hold) is told apart from other characters.

Expand only: version N-1 goes on writing and asking for such texts in its own way.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
serves_back_to = "0001"

_FIELDS = r"""
    regexp_replace(
        replace(payload, U&'\E000', U&'\E0001'), '(?<!\\)((?:\\\\)*)\\u0000', '\1' || U&'\E000' || '0', 'g'
    )::jsonb
"""


def upgrade() -> None:
    """Makes the fields of such payloads anew, as `storable` does."""
    op.execute(
        f"UPDATE memories SET fields = {_FIELDS}"  # noqa: S608 -- a constant
        r" WHERE NOT deleted AND (strpos(payload, '\u0000') > 0 OR strpos(payload, U&'\E000') > 0)"
    )


def downgrade() -> None:
    """Nothing: version N-1 reads these fields too."""
