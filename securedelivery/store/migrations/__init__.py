"""The history of the schema. Importing this imports Alembic: engine.py does so only for a database that is not at
HEAD.
"""

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from securedelivery.store.schema import HEAD
from securedelivery.store.vault import Lock, Vault


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "securedelivery.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


def script() -> ScriptDirectory:
    """The revisions that this program brings."""
    return ScriptDirectory.from_config(_config())


def knows(revision: str) -> bool:
    return any(found.revision == revision for found in script().walk_revisions())


def upgrade(connection: Connection, vault: Vault, lock: Lock) -> None:
    """Bring the schema to HEAD, in the transaction that the connection has begun.

    vault, lock: a new key and its row, for a database that has none yet.
    """
    config = _config()
    config.attributes.update(connection=connection, vault=vault, lock=lock)
    command.upgrade(config, HEAD)
