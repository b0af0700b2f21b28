"""Evaluations keep their bits per byte."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column; evaluations from before have no bits per byte."""
    op.add_column("evals", sa.Column("bits_per_byte", sa.Double(), nullable=True))
