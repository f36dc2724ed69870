"""Mail."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_FORM = "LIKE '____-__-__T__:__:__.______Z'"


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("order_id", sa.Integer(), nullable=True),
        sa.Column("period", sa.Text(), nullable=True),
        sa.Column("up_to", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("interrupted", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("tried_since", sa.Text(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('order_placed', 'order_cancelled', 'order_delivered', 'order_returned', 'missed_chat',"
            " 'customer_summary', 'operator_summary')",
            name=op.f("ck_outbox_kind_known"),
        ),
        sa.CheckConstraint("route IN ('receipts', 'summaries')", name=op.f("ck_outbox_route_known")),
        sa.CheckConstraint(
            "state IN ('waiting', 'sending', 'sent', 'failed', 'withdrawn')", name=op.f("ck_outbox_state_known")
        ),
        sa.CheckConstraint("attempts >= 0 AND interrupted >= 0", name=op.f("ck_outbox_natural")),
        sa.CheckConstraint("(node IS NOT NULL) = (state = 'sending')", name=op.f("ck_outbox_node_while_sending")),
        sa.CheckConstraint(f"created_at {_FORM}", name=op.f("ck_outbox_created_at_form")),
        sa.CheckConstraint(f"due_at {_FORM}", name=op.f("ck_outbox_due_at_form")),
        sa.CheckConstraint(f"tried_since {_FORM}", name=op.f("ck_outbox_tried_since_form")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_outbox_account_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_outbox_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sqlite_strict=True,
    )
    op.execute("CREATE INDEX ix_outbox_account_id ON outbox (account_id) WHERE order_id IS NULL")
    op.execute("CREATE INDEX ix_outbox_due ON outbox (route, due_at) WHERE state IN ('waiting', 'sending')")
    op.execute("CREATE UNIQUE INDEX uq_outbox_order ON outbox (order_id, kind) WHERE order_id IS NOT NULL")
    op.execute("CREATE UNIQUE INDEX uq_outbox_month ON outbox (period, account_id) WHERE period IS NOT NULL")
    op.execute("CREATE UNIQUE INDEX uq_outbox_operator ON outbox (period) WHERE kind = 'operator_summary'")
    op.execute("CREATE UNIQUE INDEX uq_outbox_chat ON outbox (account_id, up_to) WHERE up_to IS NOT NULL")
    op.create_table(
        "mail_routes",
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.CheckConstraint("route IN ('receipts', 'summaries')", name=op.f("ck_mail_routes_route_known")),
        sa.CheckConstraint(f"since {_FORM}", name=op.f("ck_mail_routes_since_form")),
        sa.PrimaryKeyConstraint("route", name=op.f("pk_mail_routes")),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "mail_months",
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.CheckConstraint(f"at {_FORM}", name=op.f("ck_mail_months_at_form")),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_mail_months")),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.execute("CREATE INDEX ix_conversations_unread ON conversations (customer_id) WHERE customer_unread > 0")
