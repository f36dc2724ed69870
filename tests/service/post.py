"""Support chat in a Shop that sends mail."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from service.chat_room import Room

from securedelivery.errors import Unwanted
from securedelivery.model import AccountId, MailRoute, MailState, Role
from securedelivery.service.missed_chat import QUIET, MissedChat, missed
from securedelivery.service.outbox import Outbox, Sent
from securedelivery.service.session import Session
from securedelivery.store import accounts
from securedelivery.store.engine import Transaction
from securedelivery.store.outbox import OutboxRow

RECEIPTS = MailRoute.RECEIPTS


@dataclass
class Post(Room):
    """The room with a way for mail. seen: when customers were last connected; others not since the start."""

    seen: dict[AccountId, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.outbox = Outbox(self.shop.database, self.shop.clock)
        self.outbox.use({RECEIPTS})
        self.missed_chat = MissedChat(self.shop.database, self.shop.clock, self.seen.get)
        self.agnes = self.person("agnes", Role.AGENT)
        self.carol = self.customer("carol")
        self.conversation = int(self.say(self.carol, "does it fit?").conversation)

    def customer(self, name: str, role: Role = Role.CUSTOMER) -> Session:
        session = self.person(name, role)
        self.change(session, email=f"{name}@post.example")
        return session

    def change(self, session: Session, **columns: Any) -> None:
        def run(tx: Transaction, commands: Any) -> Any:
            row = accounts.by_id(tx, session.account_id)
            assert row is not None
            accounts.change(tx, [row._replace(**columns)])
            return commands

        self.call(run, None)

    def answer(self, text: str = "it does", agent: Session | None = None, conversation: int | None = None) -> int:
        """Its sequence."""
        return self.say(agent or self.agnes, text, conversation or self.conversation).sequence

    def later(self, amount: timedelta = QUIET) -> int:
        """How many mails are queued after that time."""
        self.shop.clock.now += amount
        return self.missed_chat.queue_due()

    def waiting(self) -> list[OutboxRow]:
        return self.outbox.page([MailState.WAITING])[0]

    def mails(self) -> list[tuple[int | None, MailState]]:
        return [(row.up_to, row.state) for row in self.outbox.page(MailState)[0]]

    def take(self) -> OutboxRow:
        row = self.outbox.next(RECEIPTS, "node")
        assert row is not None
        return row

    def send(self) -> list[str]:
        """Send the mail that is due; the texts that it tells."""
        row = self.take()
        texts = self.texts(row)
        self.outbox.settle("node", row, Sent("250 Ok"))
        return texts

    def texts(self, row: OutboxRow) -> list[str]:
        with self.shop.database.read() as tx:
            return [message.text for message in missed(tx, row).messages]

    def refused(self, row: OutboxRow) -> str:
        with self.shop.database.read() as tx, pytest.raises(Unwanted) as caught:
            missed(tx, row)
        return str(caught.value)
