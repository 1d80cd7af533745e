"""Payments."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "payments",
        sa.Column("payment_id", sa.String, primary_key=True),
        sa.Column("order_id", sa.String, nullable=False),
        sa.Column("customer_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("captured_minor", sa.BigInteger, nullable=False),
        sa.Column("settled_minor", sa.BigInteger),
        sa.Column("settled_at", sa.BigInteger),
        sa.Column("disputed_minor", sa.BigInteger),
        sa.Column("disputed_at", sa.BigInteger),
    )
