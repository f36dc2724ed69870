"""Alembic runs this file; migrations.upgrade() has put the connection into the configuration. There is no
alembic.ini.
"""

from alembic import context

from securedelivery.store.schema import metadata

# transactional_ddl: the caller has begun a transaction, and SQLite takes DDL back like anything else.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
