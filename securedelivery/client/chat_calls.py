"""chat.*: one conversation a customer, with whichever agent takes it."""

import uuid
from collections.abc import Iterator

from securedelivery.api import messages as m
from securedelivery.client.caller import PAGE, Caller
from securedelivery.model import Conversation, ConversationStatus, Message

__all__ = ["ChatCalls"]

TYPING_SECONDS = 5.0  # a hint that comes later is worth nothing


class ChatCalls(Caller):
    """conversation: its number, for agents; None is the caller's own."""

    def send_message(self, text: str, *, conversation: int | None = None, message_key: str | None = None) -> Message:
        """Say something, 1 to 4,000 characters. An agent who answers takes the conversation.

        The key makes the call repeatable, as in place_order: it is never said twice. Give your own (1 to 128
        characters) to be able to repeat it after an error, too.
        Refused: conversation_taken (`agent`), idempotency_conflict, not_found, invalid_params (`path`).
        """
        key = str(uuid.uuid4()) if message_key is None else message_key
        return self.call("chat.send", m.SendMessage(text, key, conversation), Message, repeat=True)

    def chat_history(
        self, conversation: int | None = None, *, after: int = 0, limit: int | None = None
    ) -> m.History[Message]:
        """Messages behind a sequence, ascending: what may have been missed. Refused: not_found."""
        return self.call("chat.history", m.GetHistory(conversation, after, limit), m.History[Message], repeat=True)

    def all_messages(self, conversation: int | None = None, *, after: int = 0) -> Iterator[Message]:
        """Every message behind a sequence, ascending, part by part."""
        following: int | None = after
        while following is not None:
            part = self.chat_history(conversation, after=following, limit=PAGE)
            yield from part.items
            following = part.next

    def mark_read(self, up_to: int, conversation: int | None = None) -> None:
        """up_to: the sequence of the last message that was seen. Refused: not_found."""
        self.call("chat.mark_read", m.MarkRead(up_to, conversation), m.Nothing, repeat=True)

    def typing(self, conversation: int | None = None) -> None:
        """Tell the other side, if it is there, that something is being written. Refused: not_found."""
        self.call("chat.typing", m.Type(conversation), m.Nothing, repeat=False, timeout_seconds=TYPING_SECONDS)

    # For agents

    def chat_queue(
        self, *, status: ConversationStatus | None = None, after: str | None = None, limit: int | None = None
    ) -> m.Page[Conversation]:
        """A page of conversations, longest waiting first. status: waiting by default; assigned: to the caller."""
        params = m.ListConversations(status, after, limit)
        return self.call("chat.queue", params, m.Page[Conversation], repeat=True)

    def claim(self, conversation: int) -> Conversation:
        """Take it. Of one's own: the conversation. Refused: conversation_taken (`agent`), not_found."""
        return self._about("chat.claim", conversation)

    def release(self, conversation: int) -> Conversation:
        """Let it wait for another. Refused: conversation_taken (`agent`), illegal_transition, not_found."""
        return self._about("chat.release", conversation)

    def resolve(self, conversation: int) -> Conversation:
        """The question is answered. Of a resolved one: the conversation. Refused: conversation_taken, not_found."""
        return self._about("chat.resolve", conversation)

    def transfer(self, conversation: int, agent: str) -> Conversation:
        """Hand it to another agent, by username.

        Never repeated: who has handed it over cannot do so again. After PeerClosed, conversation_taken by that agent
        says that it was. Refused: conversation_taken (`agent`), not_found, invalid_params at /agent.
        """
        params = m.TransferConversation(conversation, agent)
        return self.call("chat.transfer", params, Conversation, repeat=False)

    def _about(self, method: str, conversation: int) -> Conversation:
        return self.call(method, m.NameConversation(conversation), Conversation, repeat=True)
