"""The counters."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("counters", sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.Integer, nullable=False))
