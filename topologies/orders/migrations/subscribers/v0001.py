"""Subscribers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "subscribers",
        sa.Column("subscriber_id", sa.String, primary_key=True),
        sa.Column("customer_id", sa.String),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("secrets", sa.String, nullable=False),
        sa.Column("ended", sa.String),
    )
    op.create_index("subscribers_by_customer", "subscribers", ["customer_id"])
