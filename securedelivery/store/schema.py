"""The tables, as SQLAlchemy Core describes them. Triggers and the full-text index are in the migrations alone.

What must never be is forbidden here where a database can: negative stock, sums that do not add up, an unknown status,
one idempotency key twice. Money is whole cents, truth is 0 or 1, times are TEXT in the form of model.Timestamp, so
that text order is time order on every database; strict tables hold SQLite to the types. What is said of people (names,
e-mail, addresses, notes, chat) is LargeBinary: sealed by vault.py. A change here needs a revision in
migrations/versions and a new HEAD; tests compare the two.
"""

from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

from securedelivery.model import (
    ConversationStatus,
    MailKind,
    MailRoute,
    MailState,
    OrderStatus,
    PointsReason,
    Role,
)

HEAD = "0006"
"""The revision that this program works with. A constant, so that an up-to-date database is opened without Alembic."""

MAX_INTEGER = 2**53 - 1  # what JSON numbers carry without loss

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _moment(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} LIKE '____-__-__T__:__:__.______Z'", name=f"{column}_form")


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    known = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({known})", name=f"{column}_known")


def _truth(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} IN (0, 1)", name=f"{column}_truth")


accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("username", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("certificate", Text, unique=True),  # the whole spiffe URI
    Column("password", Text),  # Argon2id in PHC form; NULL: no login by password
    Column("certificate_required", Integer, nullable=False),
    Column("disabled", Integer, nullable=False),
    Column("mail_receipts", Integer, nullable=False),
    Column("mail_summaries", Integer, nullable=False),
    Column("mail_missed_chat", Integer, nullable=False),
    # Sums kept beside what they sum, so that an order needs no scan: orders that count for the tier, and the ledger.
    Column("order_count", Integer, nullable=False),
    Column("points", Integer, nullable=False),  # below 0 after a reversal of points already spent
    Column("ledger_entries", Integer, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("name", LargeBinary),
    Column("email", LargeBinary),
    Column("address", LargeBinary),
    Column("credentials", Integer, nullable=False, server_default="0"),  # goes up with each change that ends sessions
    Column("deleted_at", Text),
    _one_of("role", Role),
    _truth("certificate_required"),
    _truth("disabled"),
    CheckConstraint("order_count >= 0", name="order_count_natural"),
    CheckConstraint("ledger_entries >= 0", name="ledger_entries_natural"),
    _moment("created_at"),
    sqlite_strict=True,
)
# Who is told of conversations that wait.
Index("ix_accounts_staff", accounts.c.id, sqlite_where=accounts.c.role.in_(("agent", "admin")))

# HMACs of the names of deleted accounts, which are never given again.
retired_names = Table(
    "retired_names",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    CheckConstraint("length(digest) = 32", name="digest_length"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

products = Table(
    "products",
    metadata,
    Column("id", Integer, primary_key=True),  # the order in which the catalogue is listed
    Column("sku", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("price", Integer, nullable=False),
    Column("stock", Integer, nullable=False),
    Column("active", Integer, nullable=False),
    CheckConstraint(f"price BETWEEN 0 AND {MAX_INTEGER}", name="price_natural"),
    CheckConstraint(f"stock BETWEEN 0 AND {MAX_INTEGER}", name="stock_natural"),
    _truth("active"),
    Index(None, "active", "id"),  # catalog.list, past whatever is not sold
    sqlite_strict=True,
)

orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),  # HMAC of the call's parameters
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("subtotal", Integer, nullable=False),
    Column("discount", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("points_earned", Integer, nullable=False),
    Column("points_redeemed", Integer, nullable=False),
    Column("courier_id", ForeignKey("accounts.id")),
    Column("delivery_code", Text, nullable=False),
    Column("placed_at", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
    Column("address", LargeBinary),  # NULL once its customer has deleted the account
    Column("wrong_codes", Integer, nullable=False, server_default="0"),  # since staff last looked
    Column("orders_before", Integer, nullable=False, server_default="0"),  # of the account: its tier at placement
    UniqueConstraint("account_id", "idempotency_key"),
    CheckConstraint("length(fingerprint) = 32", name="fingerprint_length"),
    CheckConstraint("version >= 1", name="version_positive"),
    _one_of("status", OrderStatus),
    CheckConstraint(
        f"subtotal <= {MAX_INTEGER} AND discount BETWEEN 0 AND subtotal AND total = subtotal - discount", name="sums"
    ),
    CheckConstraint("points_earned >= 0 AND points_redeemed >= 0", name="points_natural"),
    CheckConstraint("length(delivery_code) = 6", name="delivery_code_length"),
    _moment("placed_at"),
    _moment("changed_at"),
    Index(None, "account_id", "id"),  # order.list of a customer, newest first
    Index(None, "status", "id"),  # order.list of staff by status
    Index(None, "changed_at"),  # order.list changed_since
    sqlite_strict=True,
)
Index("ix_orders_courier_id", orders.c.courier_id, orders.c.id, sqlite_where=orders.c.courier_id.is_not(None))

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", ForeignKey("orders.id"), primary_key=True),
    Column("position", Integer, primary_key=True),  # 1, 2, 3 ... as the customer named them
    Column("product_id", ForeignKey("products.id"), nullable=False),  # to whom stock goes back
    Column("sku", Text, nullable=False),  # sku, name and price as they were at placement
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    CheckConstraint("quantity BETWEEN 1 AND 10000", name="quantity_range"),
    CheckConstraint("unit_price >= 0 AND total = quantity * unit_price", name="sums"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

# What happened after the placement, which the order itself tells of.
order_history = Table(
    "order_history",
    metadata,
    Column("order_id", ForeignKey("orders.id"), primary_key=True),
    Column("entry", Integer, primary_key=True),  # 1, 2, 3 ...
    Column("status", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("by_id", ForeignKey("accounts.id")),  # NULL: the operator at the machine
    Column("note", LargeBinary),
    _one_of("status", OrderStatus),
    _moment("at"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

# Each account has a ledger of its own, its rows side by side: an order touches one page, not a table and two indexes.
points_ledger = Table(
    "points_ledger",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("entry", Integer, primary_key=True),  # 1, 2, 3 ... without gaps
    Column("order_id", ForeignKey("orders.id")),
    Column("reason", Text, nullable=False),
    Column("points", Integer, nullable=False),  # what the entry adds to the balance
    Column("at", Text, nullable=False),
    Column("expires_at", Text),  # of what was earned or returned
    # What is left of points that were earned: a lot. The sum over an account is its balance where that is above 0, else
    # 0: a debt is paid from a new lot at once. The one column that changes.
    Column(
        "remaining",
        Integer,
        CheckConstraint("remaining >= 0", name="remaining_natural"),
        nullable=False,
        server_default="0",
    ),
    _one_of("reason", PointsReason),
    CheckConstraint("points <> 0", name="points_not_zero"),
    _moment("at"),
    _moment("expires_at"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)
Index("ix_points_ledger_expires_at", points_ledger.c.expires_at, sqlite_where=points_ledger.c.remaining > 0)

# Which lots a redemption used, so that points given back keep the expiry they had.
points_uses = Table(
    "points_uses",
    metadata,
    Column("account_id", Integer, primary_key=True),
    Column("entry", Integer, primary_key=True),  # that used the points
    Column("lot", Integer, primary_key=True),  # the entry that gave them
    Column("points", Integer, nullable=False),
    ForeignKeyConstraint(["account_id", "entry"], ["points_ledger.account_id", "points_ledger.entry"]),
    ForeignKeyConstraint(
        ["account_id", "lot"], ["points_ledger.account_id", "points_ledger.entry"], name="fk_points_uses_lot"
    ),
    CheckConstraint("points > 0", name="points_positive"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Text, nullable=False),
    # By number, not by name: rows cannot change, and a deleted account's name must be able to go.
    Column("actor_id", ForeignKey("accounts.id")),
    Column("action", Text, nullable=False),
    Column("subject", Text),  # "account:5", "order:17"
    Column("detail", Text),  # a JSON object
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("length(hash) = 32", name="hash_length"),
    _moment("at"),
    sqlite_strict=True,
)
Index("ix_audit_actor_id", audit.c.actor_id, audit.c.id, sqlite_where=audit.c.actor_id.is_not(None))
Index("ix_audit_subject", audit.c.subject, audit.c.id, sqlite_where=audit.c.subject.like("account:%"))

# The newest row of the audit, so that one taken off the end is missed as well. One row.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("entry", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
    sqlite_strict=True,
)

# One a customer.
conversations = Table(
    "conversations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("customer_id", ForeignKey("accounts.id"), nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("agent_id", ForeignKey("accounts.id")),
    Column("since", Text, nullable=False),  # when the present status began
    Column("last_sequence", Integer, nullable=False),
    Column("customer_unread", Integer, nullable=False),
    Column("staff_unread", Integer, nullable=False),
    # Up to which sequence each side has read: a read counts what lies between, once, and never walks the rest.
    Column("customer_read", Integer, nullable=False),
    Column("staff_read", Integer, nullable=False),
    _one_of("status", ConversationStatus),
    CheckConstraint("(agent_id IS NOT NULL) = (status = 'assigned')", name="agent_where_assigned"),
    CheckConstraint("last_sequence >= 0 AND customer_unread >= 0 AND staff_unread >= 0", name="natural"),
    _moment("since"),
    Index(None, "status", "since", "id"),
    sqlite_strict=True,
)
Index("ix_conversations_agent_id", conversations.c.agent_id, sqlite_where=conversations.c.agent_id.is_not(None))
# To whom something was said that has not been read.
Index("ix_conversations_unread", conversations.c.customer_id, sqlite_where=conversations.c.customer_unread > 0)

# A conversation's messages stand side by side, so that a page of history is a page or two of the file.
messages = Table(
    "messages",
    metadata,
    Column("conversation_id", ForeignKey("conversations.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),  # 1, 2, 3 ... without gaps
    Column("sender_id", ForeignKey("accounts.id"), nullable=False),
    Column("staff", Integer, nullable=False),
    Column("at", Text, nullable=False),
    Column("message_key", Text, nullable=False),
    Column("text", LargeBinary, nullable=False),
    UniqueConstraint("sender_id", "message_key"),
    CheckConstraint("sequence >= 1", name="sequence_positive"),
    _truth("staff"),
    _moment("at"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

# What a process without connections of its own (an operator's command) has changed, for the server to tell.
announcements = Table(
    "announcements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Integer, nullable=False),
    _moment("at"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

# Mail that is to leave, and what has become of it. A row says what a mail tells of, not what it says: whom it goes to
# and what stands in it is read when it is sent, from where it lies sealed.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("account_id", ForeignKey("accounts.id")),  # to whom; NULL: the operator
    Column("order_id", ForeignKey("orders.id")),
    Column("period", Text),  # of a summary: 2026-10
    Column("up_to", Integer),  # of missed chat: the last sequence that it tells of
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column(
        "interrupted", Integer, nullable=False
    ),  # attempts of which nobody knows how they ended: it may have gone out
    Column("created_at", Text, nullable=False),
    # waiting: not to be tried before; sending: the sender has it until then; else when that became of it.
    Column("due_at", Text, nullable=False),
    Column("node", Text),  # who is sending it
    Column("tried_since", Text),  # the first try, or the first since the operator has asked for another
    Column("answer", LargeBinary),  # the mail server's, or why there was none: may quote the address
    _one_of("kind", MailKind),
    _one_of("route", MailRoute),
    _one_of("state", MailState),
    CheckConstraint("attempts >= 0 AND interrupted >= 0", name="natural"),
    CheckConstraint("(node IS NOT NULL) = (state = 'sending')", name="node_while_sending"),
    _moment("created_at"),
    _moment("due_at"),
    _moment("tried_since"),
    sqlite_strict=True,
)
# For the end of an account; what is about orders is found by them.
Index("ix_outbox_account_id", outbox.c.account_id, sqlite_where=outbox.c.order_id.is_(None))
Index("ix_outbox_due", outbox.c.route, outbox.c.due_at, sqlite_where=outbox.c.state.in_(("waiting", "sending")))
# One of each kind: of an order, of an account and month, of a month for the operator, and of what was said up to there.
Index("uq_outbox_order", outbox.c.order_id, outbox.c.kind, unique=True, sqlite_where=outbox.c.order_id.is_not(None))
Index("uq_outbox_month", outbox.c.period, outbox.c.account_id, unique=True, sqlite_where=outbox.c.period.is_not(None))
Index(
    "uq_outbox_operator",
    outbox.c.period,
    unique=True,
    sqlite_where=outbox.c.kind == literal_column("'operator_summary'"),
)
Index("uq_outbox_chat", outbox.c.account_id, outbox.c.up_to, unique=True, sqlite_where=outbox.c.up_to.is_not(None))

# Since when a route has been in use, as the server's settings had it last; no row: it is not. Other processes go by it.
mail_routes = Table(
    "mail_routes",
    metadata,
    Column("route", Text, primary_key=True),
    Column("since", Text, nullable=False),
    _one_of("route", MailRoute),
    _moment("since"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

# Months whose summaries are all in the outbox.
mail_months = Table(
    "mail_months",
    metadata,
    Column("month", Text, primary_key=True),  # 2026-10
    Column("at", Text, nullable=False),
    _moment("at"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

# Who is logged in on the web. What the browser keeps is not kept here: a thief of this file cannot log in with it.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),  # SHA-256 of the token
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("credentials", Integer, nullable=False),  # the account's at the login
    Column("certified", Integer, nullable=False),  # opened on a connection with a certificate, and good on such alone
    Column("opened_at", Text, nullable=False),
    Column("seen_at", Text, nullable=False),  # to within the hour
    CheckConstraint("length(digest) = 32", name="digest_length"),
    _truth("certified"),
    _moment("opened_at"),
    _moment("seen_at"),
    Index(None, "account_id", "opened_at"),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

# How the key of the sealed columns is found, and what tells the right one from a wrong one. One row.
vault = Table(
    "vault",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("salt", LargeBinary),  # of Argon2id; NULL: the key is in a file
    Column("proof", LargeBinary, nullable=False),  # a known text, sealed
    CheckConstraint("id = 1", name="one_row"),
    sqlite_strict=True,
)
