"""Sessions of the web."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_FORM = "LIKE '____-__-__T__:__:__.______Z'"


def upgrade() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("credentials", sa.Integer(), nullable=False),
        sa.Column("certified", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Text(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_web_sessions_digest_length")),
        sa.CheckConstraint("certified IN (0, 1)", name=op.f("ck_web_sessions_certified_truth")),
        sa.CheckConstraint(f"opened_at {_FORM}", name=op.f("ck_web_sessions_opened_at_form")),
        sa.CheckConstraint(f"seen_at {_FORM}", name=op.f("ck_web_sessions_seen_at_form")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_web_sessions_account_id")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_web_sessions")),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.execute("CREATE INDEX ix_web_sessions_account_id_opened_at ON web_sessions (account_id, opened_at)")
