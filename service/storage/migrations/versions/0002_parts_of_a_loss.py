"""Steps keep what their loss is made of."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column; steps from before have no parts."""
    op.add_column("steps", sa.Column("parts", sa.JSON(), nullable=True))
