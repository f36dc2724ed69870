"""The first schema: accounts, catalogue, orders, rewards, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Words with the beginnings of words, in any case and without accents. The index holds no text of its own
# (content=products) and no positions (detail=none): a search looks for products in which every word occurs.
_SEARCH = """
CREATE VIRTUAL TABLE products_words USING fts5(
    sku, name, description, content=products, content_rowid=id, detail=none, prefix='1 2 3',
    tokenize='unicode61 remove_diacritics 2'
)
"""
_NEW = "INSERT INTO products_words (rowid, sku, name, description) VALUES (new.id, new.sku, new.name, new.description)"
_OLD = (
    "INSERT INTO products_words (products_words, rowid, sku, name, description)"
    " VALUES ('delete', old.id, old.sku, old.name, old.description)"
)
# Not at every sale: an order changes the stock alone.
_REWORDED = "old.sku <> new.sku OR old.name <> new.name OR old.description <> new.description"
_UPDATE = (
    "CREATE TRIGGER products_update AFTER UPDATE OF sku, name, description ON products"
    f" WHEN {_REWORDED} BEGIN {_OLD}; {_NEW}; END"
)
_TRIGGERS = (
    f"CREATE TRIGGER products_insert AFTER INSERT ON products BEGIN {_NEW}; END",
    f"CREATE TRIGGER products_delete AFTER DELETE ON products BEGIN {_OLD}; END",
    _UPDATE,
)
_APPEND_ONLY = ("points_ledger", "audit")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("certificate_required", sa.Integer(), nullable=False),
        sa.Column("disabled", sa.Integer(), nullable=False),
        sa.Column("mail_receipts", sa.Integer(), nullable=False),
        sa.Column("mail_summaries", sa.Integer(), nullable=False),
        sa.Column("mail_missed_chat", sa.Integer(), nullable=False),
        sa.Column("order_count", sa.Integer(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("ledger_entries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("created_at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_accounts_created_at_form")),
        sa.CheckConstraint("role IN ('customer', 'agent', 'courier', 'admin')", name=op.f("ck_accounts_role_known")),
        sa.CheckConstraint("certificate_required IN (0, 1)", name=op.f("ck_accounts_certificate_required_truth")),
        sa.CheckConstraint("disabled IN (0, 1)", name=op.f("ck_accounts_disabled_truth")),
        sa.CheckConstraint("ledger_entries >= 0", name=op.f("ck_accounts_ledger_entries_natural")),
        sa.CheckConstraint("order_count >= 0", name=op.f("ck_accounts_order_count_natural")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("certificate", name=op.f("uq_accounts_certificate")),
        sa.UniqueConstraint("username", name=op.f("uq_accounts_username")),
        sqlite_strict=True,
    )
    op.create_table(
        "products",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("price", sa.Integer(), nullable=False),
        sa.Column("stock", sa.Integer(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.CheckConstraint("active IN (0, 1)", name=op.f("ck_products_active_truth")),
        sa.CheckConstraint("price BETWEEN 0 AND 9007199254740991", name=op.f("ck_products_price_natural")),
        sa.CheckConstraint("stock BETWEEN 0 AND 9007199254740991", name=op.f("ck_products_stock_natural")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_products")),
        sa.UniqueConstraint("sku", name=op.f("uq_products_sku")),
        sqlite_strict=True,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_audit_at_form")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_audit_hash_length")),
        sa.ForeignKeyConstraint(["actor_id"], ["accounts.id"], name=op.f("fk_audit_actor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_strict=True,
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("subtotal", sa.Integer(), nullable=False),
        sa.Column("discount", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("points_earned", sa.Integer(), nullable=False),
        sa.Column("points_redeemed", sa.Integer(), nullable=False),
        sa.Column("courier_id", sa.Integer(), nullable=True),
        sa.Column("delivery_code", sa.Text(), nullable=False),
        sa.Column("placed_at", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Text(), nullable=False),
        sa.CheckConstraint("changed_at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_orders_changed_at_form")),
        sa.CheckConstraint("placed_at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_orders_placed_at_form")),
        sa.CheckConstraint(
            "status IN ('placed', 'confirmed', 'packed', 'out_for_delivery', 'delivered', 'returned', 'cancelled')",
            name=op.f("ck_orders_status_known"),
        ),
        sa.CheckConstraint("length(delivery_code) = 6", name=op.f("ck_orders_delivery_code_length")),
        sa.CheckConstraint("length(fingerprint) = 32", name=op.f("ck_orders_fingerprint_length")),
        sa.CheckConstraint("points_earned >= 0 AND points_redeemed >= 0", name=op.f("ck_orders_points_natural")),
        sa.CheckConstraint(
            "subtotal <= 9007199254740991 AND discount BETWEEN 0 AND subtotal AND total = subtotal - discount",
            name=op.f("ck_orders_sums"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_orders_version_positive")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_orders_account_id")),
        sa.ForeignKeyConstraint(["courier_id"], ["accounts.id"], name=op.f("fk_orders_courier_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("account_id", "idempotency_key", name=op.f("uq_orders_account_id_idempotency_key")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_orders_account_id_id"), "orders", ["account_id", "id"], unique=False)
    op.create_index(op.f("ix_orders_changed_at"), "orders", ["changed_at"], unique=False)
    op.create_index(
        "ix_orders_courier_id",
        "orders",
        ["courier_id", "id"],
        unique=False,
        sqlite_where=sa.text("courier_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_orders_status_id"), "orders", ["status", "id"], unique=False)
    op.create_table(
        "order_history",
        sa.Column("order_id", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("by_id", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_order_history_at_form")),
        sa.CheckConstraint(
            "status IN ('placed', 'confirmed', 'packed', 'out_for_delivery', 'delivered', 'returned', 'cancelled')",
            name=op.f("ck_order_history_status_known"),
        ),
        sa.ForeignKeyConstraint(["by_id"], ["accounts.id"], name=op.f("fk_order_history_by_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_history_order_id")),
        sa.PrimaryKeyConstraint("order_id", "entry", name=op.f("pk_order_history")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.CheckConstraint("quantity BETWEEN 1 AND 10000", name=op.f("ck_order_lines_quantity_range")),
        sa.CheckConstraint("unit_price >= 0 AND total = quantity * unit_price", name=op.f("ck_order_lines_sums")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_lines_order_id")),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name=op.f("fk_order_lines_product_id")),
        sa.PrimaryKeyConstraint("order_id", "position", name=op.f("pk_order_lines")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "points_ledger",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Text(), nullable=True),
        sa.CheckConstraint("at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_points_ledger_at_form")),
        sa.CheckConstraint(
            "expires_at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_points_ledger_expires_at_form")
        ),
        sa.CheckConstraint(
            "reason IN ('earned', 'redeemed', 'reversed', 'returned', 'expired')",
            name=op.f("ck_points_ledger_reason_known"),
        ),
        sa.CheckConstraint("points <> 0", name=op.f("ck_points_ledger_points_not_zero")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_points_ledger_account_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_points_ledger_order_id")),
        sa.PrimaryKeyConstraint("account_id", "entry", name=op.f("pk_points_ledger")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "points_lots",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Text(), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "expires_at LIKE '____-__-__T__:__:__.______Z'", name=op.f("ck_points_lots_expires_at_form")
        ),
        sa.CheckConstraint("remaining > 0", name=op.f("ck_points_lots_remaining_positive")),
        sa.ForeignKeyConstraint(
            ["account_id", "entry"],
            ["points_ledger.account_id", "points_ledger.entry"],
            name=op.f("fk_points_lots_account_id"),
        ),
        sa.PrimaryKeyConstraint("account_id", "entry", name=op.f("pk_points_lots")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_points_lots_expires_at"), "points_lots", ["expires_at"], unique=False)
    op.create_table(
        "points_uses",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("lot", sa.Integer(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.CheckConstraint("points > 0", name=op.f("ck_points_uses_points_positive")),
        sa.ForeignKeyConstraint(
            ["account_id", "entry"],
            ["points_ledger.account_id", "points_ledger.entry"],
            name=op.f("fk_points_uses_account_id"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "lot"], ["points_ledger.account_id", "points_ledger.entry"], name="fk_points_uses_lot"
        ),
        sa.PrimaryKeyConstraint("account_id", "entry", "lot", name=op.f("pk_points_uses")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(_SEARCH)
    for trigger in _TRIGGERS:
        op.execute(trigger)
    for table in _APPEND_ONLY:
        for change in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_{change} BEFORE {change.upper()} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
