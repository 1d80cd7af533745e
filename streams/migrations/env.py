"""What Alembic runs for every store: on the connection that `streams.migrate` opened, with the store's own version table.

The one rule: all revisions of an upgrade happen in one transaction.
"""

from alembic import context

options = context.config.attributes
context.configure(connection=options["connection"], version_table=options["version_table"], transactional_ddl=True)
context.run_migrations()
