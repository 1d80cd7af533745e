"""Refunds."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. What was given back before is not told from a payment that never was."""
    op.add_column("payments", sa.Column("refunded_minor", sa.BigInteger))
