"""The whole shop: what is said of people sealed; deliveries, chat, the audit's head, announcements."""

import sqlalchemy as sa
from alembic import context, op

from securedelivery.store.vault import Sealed

revision = "0002"
down_revision = "0001"

_SEALED = (("accounts", "name"), ("accounts", "email"), ("accounts", "address"), ("orders", "address"))
_AT = "LIKE '____-__-__T__:__:__.______Z'"


def upgrade() -> None:
    op.create_table(
        "vault",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_vault_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vault")),
        sqlite_strict=True,
    )
    connection = op.get_bind()
    lock = context.config.attributes["lock"]
    connection.execute(sa.text("INSERT INTO vault VALUES (1, :salt, :proof)"), {"salt": lock.salt, "proof": lock.proof})
    for table, column in _SEALED:
        _seal(table, column)
    _key_fingerprints()
    op.execute("ALTER TABLE accounts ADD COLUMN credentials INTEGER DEFAULT '0' NOT NULL")
    op.execute("ALTER TABLE accounts ADD COLUMN deleted_at TEXT")
    op.execute("ALTER TABLE orders ADD COLUMN wrong_codes INTEGER DEFAULT '0' NOT NULL")
    op.execute("ALTER TABLE orders ADD COLUMN orders_before INTEGER DEFAULT '0' NOT NULL")
    # So far no order could be cancelled, so each earlier one counted.
    op.execute(
        "UPDATE orders SET orders_before ="
        " (SELECT count(*) FROM orders AS o WHERE o.account_id = orders.account_id AND o.id < orders.id)"
    )
    op.execute("CREATE INDEX ix_accounts_staff ON accounts (id) WHERE role IN ('agent', 'admin')")
    _history()
    _names()
    _audit()
    _chat()
    _announcements()


def _seal(table: str, column: str) -> None:
    """Put sealed values in the place of the plain ones."""
    connection = op.get_bind()
    vault = context.config.attributes["vault"]
    sealed = Sealed(table, column)
    op.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO plain_{column}")
    op.execute(f"ALTER TABLE {table} ADD COLUMN {column} BLOB")
    # ruff: noqa: S608 -- the names are this file's own
    plain = connection.execute(sa.text(f"SELECT id, plain_{column} FROM {table} WHERE plain_{column} IS NOT NULL"))
    rows = [{"row": row, "cell": vault.seal(sealed, row, text)} for row, text in plain]
    if rows:
        connection.execute(sa.text(f"UPDATE {table} SET {column} = :cell WHERE id = :row"), rows)
    op.execute(f"ALTER TABLE {table} DROP COLUMN plain_{column}")


def _key_fingerprints() -> None:
    """So that nobody can try addresses against them."""
    connection = op.get_bind()
    vault = context.config.attributes["vault"]
    plain = connection.execute(sa.text("SELECT id, fingerprint FROM orders"))
    rows = [{"row": row, "keyed": vault.digest("fingerprint", fingerprint)} for row, fingerprint in plain]
    if rows:
        connection.execute(sa.text("UPDATE orders SET fingerprint = :keyed WHERE id = :row"), rows)


def _history() -> None:
    # Nothing has written into it yet: an order's placement is told by the order itself.
    op.drop_table("order_history")
    statuses = "'placed', 'confirmed', 'packed', 'out_for_delivery', 'delivered', 'returned', 'cancelled'"
    op.create_table(
        "order_history",
        sa.Column("order_id", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("by_id", sa.Integer(), nullable=True),
        sa.Column("note", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(f"status IN ({statuses})", name=op.f("ck_order_history_status_known")),
        sa.CheckConstraint(f"at {_AT}", name=op.f("ck_order_history_at_form")),
        sa.ForeignKeyConstraint(["by_id"], ["accounts.id"], name=op.f("fk_order_history_by_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_history_order_id")),
        sa.PrimaryKeyConstraint("order_id", "entry", name=op.f("pk_order_history")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _names() -> None:
    op.create_table(
        "retired_names",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_retired_names_digest_length")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_retired_names")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _audit() -> None:
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
        sqlite_strict=True,
    )
    op.execute("INSERT INTO audit_head SELECT 1, id, hash FROM audit ORDER BY id DESC LIMIT 1")
    op.execute("INSERT OR IGNORE INTO audit_head VALUES (1, 0, zeroblob(32))")
    op.execute("CREATE INDEX ix_audit_actor_id ON audit (actor_id, id) WHERE actor_id IS NOT NULL")
    op.execute("CREATE INDEX ix_audit_subject ON audit (subject, id) WHERE subject LIKE 'account:%'")


def _chat() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Integer(), nullable=True),
        sa.Column("since", sa.Text(), nullable=False),
        sa.Column("last_sequence", sa.Integer(), nullable=False),
        sa.Column("customer_unread", sa.Integer(), nullable=False),
        sa.Column("staff_unread", sa.Integer(), nullable=False),
        sa.Column("customer_read", sa.Integer(), nullable=False),
        sa.Column("staff_read", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(agent_id IS NOT NULL) = (status = 'assigned')", name=op.f("ck_conversations_agent_where_assigned")
        ),
        sa.CheckConstraint(
            "last_sequence >= 0 AND customer_unread >= 0 AND staff_unread >= 0", name=op.f("ck_conversations_natural")
        ),
        sa.CheckConstraint(f"since {_AT}", name=op.f("ck_conversations_since_form")),
        sa.CheckConstraint("status IN ('waiting', 'assigned', 'resolved')", name=op.f("ck_conversations_status_known")),
        sa.ForeignKeyConstraint(["agent_id"], ["accounts.id"], name=op.f("fk_conversations_agent_id")),
        sa.ForeignKeyConstraint(["customer_id"], ["accounts.id"], name=op.f("fk_conversations_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
        sa.UniqueConstraint("customer_id", name=op.f("uq_conversations_customer_id")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_conversations_status_since_id"), "conversations", ["status", "since", "id"])
    op.execute("CREATE INDEX ix_conversations_agent_id ON conversations (agent_id) WHERE agent_id IS NOT NULL")
    op.create_table(
        "messages",
        sa.Column("conversation_id", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("sender_id", sa.Integer(), nullable=False),
        sa.Column("staff", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("message_key", sa.Text(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("sequence >= 1", name=op.f("ck_messages_sequence_positive")),
        sa.CheckConstraint("staff IN (0, 1)", name=op.f("ck_messages_staff_truth")),
        sa.CheckConstraint(f"at {_AT}", name=op.f("ck_messages_at_form")),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_messages_conversation_id")),
        sa.ForeignKeyConstraint(["sender_id"], ["accounts.id"], name=op.f("fk_messages_sender_id")),
        sa.PrimaryKeyConstraint("conversation_id", "sequence", name=op.f("pk_messages")),
        sa.UniqueConstraint("sender_id", "message_key", name=op.f("uq_messages_sender_id_message_key")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _announcements() -> None:
    op.create_table(
        "announcements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        sa.CheckConstraint(f"at {_AT}", name=op.f("ck_announcements_at_form")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_announcements")),
        sqlite_strict=True,
        sqlite_autoincrement=True,
    )
