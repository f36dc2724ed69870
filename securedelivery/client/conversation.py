"""One conversation, live: its history first, then what either side says, each message once and in order.

    talk = LiveConversation(client)
    threading.Thread(target=lambda: talk.send("Is it quiet?")).start()
    for event in talk.events():
        if isinstance(event, Message):
            print(event.sender, event.text)

Messages have sequence numbers without gaps. A notification with the next number is the next message; one with a number
that was told already is a repetition; any other means that some were missed, and the history has them.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator

from securedelivery.api import messages as m
from securedelivery.client.caller import PAGE
from securedelivery.client.chat_calls import ChatCalls
from securedelivery.client.following import Following, Live, Lost
from securedelivery.client.notifications import Notification
from securedelivery.errors import ConnectionFailure, Refusal, RemoteProtocolError
from securedelivery.model import Conversation, Message

__all__ = ["Event", "Live", "LiveConversation", "Lost"]

_News = Message | m.Typing | Conversation
_METHODS = ("chat.message", "chat.typing", "chat.conversation")

Event = Message | m.Typing | Conversation | Live | Lost
"""Typing: of the other side. Conversation: as it is now, when something but its messages has changed."""


class LiveConversation:
    """number: None is the caller's own conversation, which need not exist yet. after: the last sequence that is known.

    One thread iterates events(); any thread may send. Own messages come as events, too, also those of another client of
    the same account.
    """

    def __init__(self, client: ChatCalls, number: int | None = None, *, after: int = 0) -> None:
        self._client = client
        self._number = number
        self._known = number  # the own one's, too, once something was said in it
        self._last = after
        self._early: list[_News] = []  # about a conversation that is not known yet
        self._following: Following[_News] = Following(
            client, self._catch_up, self._heard, lasting=("chat.conversation",)
        )

    @property
    def last(self) -> int:
        """The sequence of the last message that was told."""
        return self._last

    def events(self) -> Iterator[Event]:
        """For one thread, once. Ends after stop() or the client's close(); a lost connection is replaced meanwhile.

        Raises Refusal (not_found; what a login says), ConnectionFailure that is not temporary, RemoteProtocolError.
        """
        return self._following.events()

    def stop(self) -> None:
        """Have events() end, and send() give up. From any thread."""
        self._following.stop()

    def send(self, text: str, *, message_key: str | None = None, patient: Callable[[], bool] = lambda: True) -> Message:
        """Say it, under one key, and repeat that until it is answered: it is said once, however often it is sent.

        patient(): after a try that took the client's whole time in vain: whether to try again. Raises Refusal;
        ConnectionFailure where that is not temporary, patience is at its end, or after stop().
        """
        key = str(uuid.uuid4()) if message_key is None else message_key
        failures = 0
        while True:
            try:
                return self._client.send_message(text, conversation=self._number, message_key=key)
            except (ConnectionFailure, Refusal) as error:
                if self._following.over() or not patient():
                    raise
                self._following.wait_after(error, failures)
            failures += 1

    def _catch_up(self) -> Iterator[_News]:
        more = True
        while more:
            params = m.GetHistory(self._number, self._last, PAGE)
            page = self._client.call("chat.history", params, m.History[Message], repeat=False)
            for message in page.items:
                if message.sequence != self._last + 1:
                    raise RemoteProtocolError(f"chat.history after {self._last} goes on with {message.sequence}")
                yield self._told(message)
            more = page.next is not None and bool(page.items)
        early, self._early = self._early, []
        yield from (news for news in early if news.conversation == self._known)

    def _heard(self, notification: Notification) -> Iterable[_News] | None:
        news = notification.params
        if notification.method not in _METHODS:
            return ()
        if not isinstance(news, _News):
            return None
        if self._known is None:  # the history knows whether it is the own conversation that has begun
            if not isinstance(news, Message):
                self._early.append(news)
            return None
        if news.conversation != self._known:
            return ()
        if not isinstance(news, Message):
            return (news,)
        if news.sequence <= self._last:
            return ()
        return (self._told(news),) if news.sequence == self._last + 1 else None

    def _told(self, message: Message) -> Message:
        self._known = message.conversation
        self._last = message.sequence
        return message
