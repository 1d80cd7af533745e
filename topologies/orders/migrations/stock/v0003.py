"""When an order last moved, so that it can be forgotten."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column. What is there already counts from now on; what an older version writes meanwhile is kept for ever."""
    op.add_column("orders", sa.Column("changed_at", sa.BigInteger))
    op.execute(f"UPDATE orders SET changed_at = {int(time.time() * 1000)}")  # noqa: S608  # a number
