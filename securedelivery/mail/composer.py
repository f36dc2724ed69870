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
from securedelivery.mail.links import OF_NOBODY, Links, Site
from securedelivery.mail.rendering import Content, Templates
from securedelivery.mail.settings import MailServer, MailSettings
from securedelivery.model import AccountId, MailKind, MailRoute, route_of
from securedelivery.service import opt_out
from securedelivery.service.months import Month
from securedelivery.service.opt_out import MailChoice
from securedelivery.service.summaries import CustomerSummary, OperatorSummary, Summaries
from securedelivery.store import accounts, orders
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.outbox import OutboxRow

TEST = "test"

_CHOICES = {MailKind.MISSED_CHAT: MailChoice.MISSED_CHAT, MailKind.CUSTOMER_SUMMARY: MailChoice.SUMMARIES}
_ASKING = {MailChoice.SUMMARIES: "unsubscribe {}", MailChoice.MISSED_CHAT: "unsubscribe {} chat"}
"""The subject of a mail that asks for no more."""


def samples(site: Site | None) -> Mapping[str, Mapping[str, Any]]:
    """What each template is tried with when the server starts. site: None where the shop has no web page."""
    at = "2026-11-30T17:45:00.000000Z"
    links = None if site is None else site.links()
    return {
        **receipts.samples(site),
        **missed_chat.samples(site),
        **summaries.samples(site),
        TEST: {"shop": "Parts & Co", "route": MailRoute.RECEIPTS.value, "at": at, "links": links},
    }


def composer(
    database: Database,
    months: Summaries,
    mail: MailSettings,
    shop_name: str,
    currency: str,
    *,
    public_url: str | None = None,
) -> "Composer":
    """public_url: where customers find the web page. Raises ConfigurationError, for a template that cannot be used
    too.
    """
    site = None if public_url is None else Site(public_url)
    folder = None if mail.templates is None else Path(mail.templates)
    templates = Templates(folder, ZoneInfo(mail.time_zone))
    templates.check(samples(site))
    return Composer(database, mail, shop_name, currency, templates=templates, summaries=months, site=site)


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
        site: Site | None,
    ) -> None:
        self._database = database
        self._mail = mail
        self._shop_name = message.one_line(shop_name)
        self._currency = currency
        self._templates = templates
        self._summaries = summaries
        self._site = site

    def __call__(self, row: OutboxRow) -> EmailMessage:
        """Raises Unwanted, NotYet, Undeliverable; DamagedRow where what it needs cannot be read."""
        if row.kind is MailKind.OPERATOR_SUMMARY:
            return self._to_operator(row)
        assert row.account_id is not None, "the schema: everything else is an account's"
        choice = _CHOICES.get(row.kind, MailChoice.RECEIPTS)
        with self._database.read() as tx:
            account = self._account(tx, row.account_id, choice)
            links = self._links(row, account, choice)
            content = self._content(tx, row, account, links)
        if content is None:  # not in the transaction: a month takes its time
            assert row.period is not None
            self._check_over(Month(row.period))
            content = self._of_month(self._summaries.customer(account.id, Month(row.period)), links)
        assert account.email is not None, "_account() has seen to it"
        to = message.recipient(account.name, account.email)
        return self._message(row, to, content, *_ways_out(choice, account.username, links))

    def page(self, summary: CustomerSummary | OperatorSummary) -> str:
        """The HTML of the mail that tells of it; for whoever looks at it here, its link to end such mail ends none."""
        token = OF_NOBODY if isinstance(summary, CustomerSummary) else None
        content = self._of_month(summary, None if self._site is None else self._site.links(token=token))
        return self._templates.render(content.template, content.values).html

    def _of_month(self, summary: CustomerSummary | OperatorSummary, links: Links | None) -> Content:
        return summaries.content(summary, shop_name=self._shop_name, currency=self._currency, links=links)

    def _links(self, row: OutboxRow, account: AccountRow, choice: MailChoice) -> Links | None:
        if self._site is None:
            return None
        return self._site.links(order=row.order_id, token=opt_out.token(self._database.vault, account, choice))

    def test(self, route: MailRoute, server: MailServer, to: Address, now: datetime) -> EmailMessage:
        """For `admin mail test`. now: aware, UTC."""
        at = now.isoformat()
        links = None if self._site is None else self._site.links()
        values = {"shop": self._shop_name, "route": route.value, "at": at, "links": links}
        rendered = self._templates.render(TEST, values)
        identity = f"test.{route}.{now:%Y%m%d%H%M%S%f}"
        return message.build(server, to, rendered, message_id=identity, date=now)

    def _account(self, tx: Transaction, number: AccountId, choice: MailChoice) -> AccountRow:
        """Whoever may not log in any more is still told what becomes of an order. Raises Unwanted."""
        row = accounts.by_id(tx, number)
        if row is None or row.deleted_at is not None:
            raise Unwanted("the account was deleted")
        if row.disabled and choice is not MailChoice.RECEIPTS:
            raise Unwanted("the account is disabled")
        if row.email is None:
            raise Unwanted("the account has no e-mail address any more")
        if not opt_out.wants(row, choice):
            raise Unwanted("its customer wants no such mail any more")
        return row

    def _content(self, tx: Transaction, row: OutboxRow, account: AccountRow, links: Links | None) -> Content | None:
        """None for a summary."""
        if row.kind is MailKind.CUSTOMER_SUMMARY:
            return None
        if row.kind is MailKind.MISSED_CHAT:
            return missed_chat.content(tx, row, self._mail.chat_text, shop_name=self._shop_name, links=links)
        assert row.order_id is not None, "the schema: the rest is about orders"
        order = orders.load(tx, [row.order_id])[row.order_id].order
        return receipts.content(row.kind, order, account.name or account.username, self._shop_name, links)

    def _to_operator(self, row: OutboxRow) -> EmailMessage:
        if self._mail.operator is None:
            raise Unwanted("mail.operator is not set any more")
        assert row.period is not None
        self._check_over(Month(row.period))
        links = None if self._site is None else self._site.links()
        content = self._of_month(self._summaries.operator(Month(row.period)), links)
        return self._message(row, message.operator(self._mail.operator), content)

    def _check_over(self, month: Month) -> None:
        """A command without the server's settings may have queued it by the calendar of another zone. Raises NotYet."""
        if not self._summaries.is_over(month):
            raise NotYet(f"{month} is not over in {self._mail.time_zone}")

    def _message(
        self,
        row: OutboxRow,
        to: Address,
        content: Content,
        unsubscribe: str | None = None,
        one_click: str | None = None,
    ) -> EmailMessage:
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
            one_click=one_click,
        )


def _ways_out(choice: MailChoice, username: str, links: Links | None) -> tuple[str | None, str | None]:
    """For mail programs to show beside the mail: the subject of a mail that asks for no more, and the address of the
    one click. Receipts belong to an order, and have none; nor has missed chat where there is no web page.
    """
    if choice is MailChoice.RECEIPTS or (choice is MailChoice.MISSED_CHAT and links is None):
        return None, None
    return _ASKING[choice].format(username), None if links is None else links.off
