"""Attempts keep where their time went; jobs what the trainer warns of, and requests for a checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the columns; of what came before nothing is known."""
    op.add_column("attempts", sa.Column("goodput", sa.JSON(), nullable=True))
    op.add_column("progress", sa.Column("notices", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("saves_asked", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("saves_answered", sa.Integer(), nullable=False, server_default="0"))
