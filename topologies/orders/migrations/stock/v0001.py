"""Stock and reservations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SKU = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "stock",
        sa.Column("sku", _SKU, primary_key=True),
        sa.Column("on_hand", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.CheckConstraint("on_hand >= 0 AND reserved >= 0 AND reserved <= on_hand", name="stock_never_oversold"),
    )
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.String, primary_key=True),
        sa.Column("sku", _SKU, sa.ForeignKey("stock.sku"), primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("shipped", sa.Boolean, nullable=False),
        sa.CheckConstraint("quantity > 0", name="reservation_of_something"),
    )
