"""A row of the outbox becomes a mail: to whom, and what it says, as things are when it is sent."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from securedelivery.errors import NotYet, Undeliverable, Unwanted
from securedelivery.mail import message, missed_chat, receipts, summaries
from securedelivery.mail.rendering import Content, Templates
from securedelivery.mail.settings import MailServer, MailSettings
from securedelivery.model import AccountId, MailKind, MailRoute, route_of
from securedelivery.service.months import Month
from securedelivery.service.summaries import CustomerSummary, OperatorSummary, Summaries
from securedelivery.store import accounts, orders
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.outbox import OutboxRow

TEST = "test"

SAMPLES: Mapping[str, Mapping[str, Any]] = {
    **receipts.SAMPLES,
    **missed_chat.SAMPLES,
    **summaries.SAMPLES,
    TEST: {"shop": "Parts & Co", "route": MailRoute.RECEIPTS.value, "at": "2026-11-30T17:45:00.000000Z"},
}
"""What each template is tried with when the server starts."""

_OF_ORDERS = frozenset(map(MailKind, receipts.SAMPLES))
"""Whoever may not log in any more is still told what becomes of an order."""


def composer(database: Database, months: Summaries, mail: MailSettings, shop_name: str, currency: str) -> "Composer":
    """Raises ConfigurationError for a template that cannot be used."""
    folder = None if mail.templates is None else Path(mail.templates)
    templates = Templates(folder, ZoneInfo(mail.time_zone))
    templates.check(SAMPLES)
    return Composer(database, mail, shop_name, currency, templates=templates, summaries=months)


class Composer:
    """Call it with a row."""

    def __init__(
        self,
        database: Database,
        mail: MailSettings,
        shop_name: str,
        currency: str,
        *,
        templates: Templates,
        summaries: Summaries,
    ) -> None:
        self._database = database
        self._mail = mail
        self._shop_name = message.one_line(shop_name)
        self._currency = currency
        self._templates = templates
        self._summaries = summaries

    def __call__(self, row: OutboxRow) -> EmailMessage:
        """Raises Unwanted, NotYet, Undeliverable; DamagedRow where what it needs cannot be read."""
        if row.kind is MailKind.OPERATOR_SUMMARY:
            return self._to_operator(row)
        assert row.account_id is not None, "the schema: everything else is an account's"
        with self._database.read() as tx:
            account = self._account(tx, row.account_id, row.kind)
            content = self._content(tx, row, account)
        if content is None:  # not in the transaction: a month takes its time
            assert row.period is not None
            self._check_over(Month(row.period))
            content = self._of_month(self._summaries.customer(account.id, Month(row.period)))
        assert account.email is not None, "_account() has seen to it"
        to = message.recipient(account.name, account.email)
        unsubscribe = f"unsubscribe {account.username}" if row.kind is MailKind.CUSTOMER_SUMMARY else None
        return self._message(row, to, content, unsubscribe)

    def page(self, summary: CustomerSummary | OperatorSummary) -> str:
        """The HTML of the mail that tells of it."""
        content = self._of_month(summary)
        return self._templates.render(content.template, content.values).html

    def _of_month(self, summary: CustomerSummary | OperatorSummary) -> Content:
        return summaries.content(summary, shop_name=self._shop_name, currency=self._currency)

    def test(self, route: MailRoute, server: MailServer, to: Address, now: datetime) -> EmailMessage:
        """For `admin mail test`. now: aware, UTC."""
        at = now.isoformat()
        rendered = self._templates.render(TEST, {"shop": self._shop_name, "route": route.value, "at": at})
        identity = f"test.{route}.{now:%Y%m%d%H%M%S%f}"
        return message.build(server, to, rendered, message_id=identity, date=now)

    def _account(self, tx: Transaction, number: AccountId, kind: MailKind) -> AccountRow:
        """Raises Unwanted."""
        row = accounts.by_id(tx, number)
        if row is None or row.deleted_at is not None:
            raise Unwanted("the account was deleted")
        if row.disabled and kind not in _OF_ORDERS:
            raise Unwanted("the account is disabled")
        if row.email is None:
            raise Unwanted("the account has no e-mail address any more")
        wanted = {
            MailKind.MISSED_CHAT: row.mail_missed_chat,
            MailKind.CUSTOMER_SUMMARY: row.mail_summaries,
        }.get(kind, row.mail_receipts)
        if not wanted:
            raise Unwanted("its customer wants no such mail any more")
        return row

    def _content(self, tx: Transaction, row: OutboxRow, account: AccountRow) -> Content | None:
        """None for a summary."""
        if row.kind is MailKind.CUSTOMER_SUMMARY:
            return None
        if row.kind is MailKind.MISSED_CHAT:
            return missed_chat.content(tx, row, self._mail.chat_text, shop_name=self._shop_name)
        assert row.order_id is not None, "the schema: the rest is about orders"
        order = orders.load(tx, [row.order_id])[row.order_id].order
        return receipts.content(row.kind, order, account.name or account.username, self._shop_name)

    def _to_operator(self, row: OutboxRow) -> EmailMessage:
        if self._mail.operator is None:
            raise Unwanted("mail.operator is not set any more")
        assert row.period is not None
        self._check_over(Month(row.period))
        content = self._of_month(self._summaries.operator(Month(row.period)))
        return self._message(row, message.operator(self._mail.operator), content, None)

    def _check_over(self, month: Month) -> None:
        """A command without the server's settings may have queued it by the calendar of another zone. Raises NotYet."""
        if not self._summaries.is_over(month):
            raise NotYet(f"{month} is not over in {self._mail.time_zone}")

    def _message(self, row: OutboxRow, to: Address, content: Content, unsubscribe: str | None) -> EmailMessage:
        server = self._mail.servers.get(route_of(row.kind))
        if server is None:
            raise Undeliverable(f"mail.{route_of(row.kind)} is not set any more")
        # Unguessable, and no other shop's, for the key of this database is in it; and no other mail's, for the time is:
        # numbers come again when a backup is put back, and what has a known Message-ID is thrown away on its way.
        named = f"{row.kind}/{row.id}/{row.created_at}"
        digest = self._database.vault.digest("message-id", named.encode()).hex()[:16]
        return message.build(
            server,
            to,
            self._templates.render(content.template, content.values),
            message_id=f"{row.kind.value.replace('_', '-')}.{row.id}.{digest}",
            date=datetime.fromisoformat(row.created_at).astimezone(UTC),
            unsubscribe=unsubscribe,
        )
