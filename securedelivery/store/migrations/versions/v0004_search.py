"""A search that finds in no time whatever the word: beginnings of all lengths, of what is sold alone."""

from alembic import op

revision = "0004"
down_revision = "0003"

# FTS5 merges all words with the beginning that is looked for before it gives the first row, but for beginnings of these
# lengths, each of which has a list of its own. Of longer ones few words share one. 31 is all that FTS5 takes.
_LENGTHS = " ".join(map(str, range(1, 32)))
_SEARCH = f"""
CREATE VIRTUAL TABLE products_words USING fts5(
    sku, name, description, content=products_sold, content_rowid=id, detail=none, prefix='{_LENGTHS}',
    tokenize='unicode61 remove_diacritics 2'
)
"""
# Else who has many products that are not sold any more would have the search pass over them one by one.
_SOLD = "CREATE VIEW products_sold AS SELECT id, sku, name, description FROM products WHERE active = 1"
_NEW = (
    "INSERT INTO products_words (rowid, sku, name, description)"
    " SELECT new.id, new.sku, new.name, new.description WHERE new.active = 1"
)
_OLD = (
    "INSERT INTO products_words (products_words, rowid, sku, name, description)"
    " SELECT 'delete', old.id, old.sku, old.name, old.description WHERE old.active = 1"
)
# Not at every sale: an order changes the stock alone.
_CHANGED = (
    "old.active <> new.active OR old.sku <> new.sku OR old.name <> new.name OR old.description <> new.description"
)
_UPDATE = (
    "CREATE TRIGGER products_update AFTER UPDATE OF active, sku, name, description ON products"
    f" WHEN {_CHANGED} BEGIN {_OLD}; {_NEW}; END"
)
_TRIGGERS = (
    f"CREATE TRIGGER products_insert AFTER INSERT ON products BEGIN {_NEW}; END",
    f"CREATE TRIGGER products_delete AFTER DELETE ON products BEGIN {_OLD}; END",
    _UPDATE,
)


def upgrade() -> None:
    for trigger in ("products_insert", "products_delete", "products_update"):
        op.execute(f"DROP TRIGGER {trigger}")
    op.execute("DROP TABLE products_words")
    op.execute(_SOLD)
    op.execute(_SEARCH)
    op.execute("INSERT INTO products_words (products_words) VALUES ('rebuild')")
    for trigger in _TRIGGERS:
        op.execute(trigger)
    op.create_index(op.f("ix_products_active_id"), "products", ["active", "id"], unique=False)
