"""How far each order has come."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table. What an older version reserves meanwhile is told from the reservations: see `stock.Stock.order`."""
    op.create_table(
        "orders",
        sa.Column("order_id", sa.String, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("customer_id", sa.String, nullable=False),
        sa.Column("currency", sa.String, nullable=False),
        sa.Column("total_minor", sa.BigInteger, nullable=False),
        sa.Column("payment_id", sa.String),
        sa.Column("note", sa.String, nullable=False),
    )
