"""Support chat in a Shop, in few words. Nothing here checks anything."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from service.shop import Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, Conversation, ConversationStatus, Message, Role, Timestamp, timestamp
from securedelivery.service import chat
from securedelivery.service.chat import (
    Chat,
    ConversationCommand,
    MarkReadCommand,
    SendCommand,
    TransferCommand,
)
from securedelivery.service.session import Session
from securedelivery.store.engine import Transaction

WAITING, ASSIGNED, RESOLVED = ConversationStatus


@dataclass
class Room:
    shop: Shop
    keys: int = 0

    def __post_init__(self) -> None:
        self.published: list[object] = []
        self.chat = Chat(self.shop.database, self.shop.clock, self.published.extend)
        self.call = self.shop.database.writer.call

    def person(self, name: str, role: Role = Role.CUSTOMER) -> Session:
        return self.shop.customer(name, role)

    @property
    def events(self) -> list[object]:
        return self.shop.events

    def now(self) -> Timestamp:
        return timestamp(self.shop.clock())

    def saying(
        self, session: Session, text: str, conversation: int | None = None, key: str | None = None
    ) -> SendCommand:
        if key is None:
            self.keys += 1
            key = f"key {self.keys}"
        return SendCommand(session, text, key, conversation)

    def say(self, session: Session, text: str, conversation: int | None = None, key: str | None = None) -> Message:
        return self.call(self.chat.send, self.saying(session, text, conversation, key))

    def read(self, session: Session, up_to: int, conversation: int | None = None) -> None:
        self.call(self.chat.mark_read, MarkReadCommand(session, conversation, up_to))

    def claim(self, session: Session, conversation: int) -> Conversation:
        return self.call(self.chat.claim, ConversationCommand(session, conversation))

    def release(self, session: Session, conversation: int) -> Conversation:
        return self.call(self.chat.release, ConversationCommand(session, conversation))

    def resolve(self, session: Session, conversation: int) -> Conversation:
        return self.call(self.chat.resolve, ConversationCommand(session, conversation))

    def transfer(self, session: Session, conversation: int, agent: str) -> Conversation:
        return self.call(self.chat.transfer, TransferCommand(session, conversation, agent))

    def batch(self, method: Callable[[Transaction, Sequence[Any]], Sequence[Any]], *commands: object) -> list[Any]:
        """All in one batch, whatever the writer's timing."""
        whole = lambda tx, batches: [method(tx, batch) for batch in batches]
        return self.call(whole, commands)  # type: ignore[arg-type, return-value]

    def release_all(self, account: AccountId) -> None:
        self._in_transaction(lambda tx: chat.release_all(tx, account, self.now()))

    def erase(self, account: AccountId) -> None:
        self._in_transaction(lambda tx: chat.erase(tx, account, self.now()))

    def _in_transaction(self, run: Callable[[Transaction], None]) -> None:
        self.call(lambda tx, commands: [run(tx) for _ in commands], None)

    def everything(self, session: Session, conversation: int | None = None, limit: int = 200) -> list[Message]:
        """The whole history, page by page."""
        found: list[Message] = []
        after: int | None = 0
        while after is not None:
            items, after, _ = self.chat.history(session, conversation, after, limit)
            found += items
        return found

    def all_queued(
        self, session: Session, status: ConversationStatus = WAITING, limit: int = 200
    ) -> list[Conversation]:
        """The whole queue, page by page."""
        found: list[Conversation] = []
        items, after = self.chat.queue(session, status, None, limit)
        found += [item.conversation for item in items]
        while after is not None:
            items, after = self.chat.queue(session, status, after, limit)
            found += [item.conversation for item in items]
        return found


def refusal(call: Callable[..., object], *arguments: object) -> tuple[Reason, dict[str, object]]:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.reason, caught.value.data


def together(call: Callable[[int], Any], count: int) -> list[Any]:
    """What call(0), call(1) ... give on as many threads that begin at once, in any order; what they raise as well."""
    outcomes: list[Any] = []
    ready = threading.Barrier(count)

    def run(number: int) -> None:
        ready.wait()
        try:
            outcomes.append(call(number))
        except Exception as error:  # noqa: BLE001 -- the caller looks at it
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
