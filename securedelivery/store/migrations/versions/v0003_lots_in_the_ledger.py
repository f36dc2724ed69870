"""What is left of points stands in the ledger: an order touches one page less for its customer, and one index less."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE points_ledger ADD COLUMN remaining INTEGER DEFAULT '0' NOT NULL"
        " CONSTRAINT ck_points_ledger_remaining_natural CHECK (remaining >= 0)"
    )
    op.execute("DROP TRIGGER points_ledger_update")
    op.execute(
        "UPDATE points_ledger SET remaining = lot.remaining FROM points_lots AS lot"
        " WHERE lot.account_id = points_ledger.account_id AND lot.entry = points_ledger.entry"
    )
    op.execute(
        "CREATE TRIGGER points_ledger_update"
        " BEFORE UPDATE OF account_id, entry, order_id, reason, points, at, expires_at ON points_ledger"
        " BEGIN SELECT RAISE(ABORT, 'points_ledger is append-only'); END"
    )
    op.execute("CREATE INDEX ix_points_ledger_expires_at ON points_ledger (expires_at) WHERE remaining > 0")
    op.execute("DROP TABLE points_lots")
