"""What happened in support chat, for the connections of those concerned. Delivered after the transaction."""

import msgspec

from securedelivery.model import AccountId, Conversation, ConversationId, Message


class MessageSent(msgspec.Struct, frozen=True):
    """Something was said. agent: who had the conversation after it, if anybody."""

    customer: AccountId
    agent: AccountId | None
    message: Message
    sender: AccountId

    @property
    def recipients(self) -> list[AccountId]:
        """Each account once; the sender is one of them, for its other connections."""
        concerned = (self.customer, self.agent, self.sender)
        return list(dict.fromkeys(account for account in concerned if account is not None))


class ConversationChanged(msgspec.Struct, frozen=True):
    """A conversation is not what it was: who has it, its status, or what is unread.

    Published once for a conversation and batch, behind its MessageSent, for those who cannot tell from these.
    customer: None where nothing has changed for the customer. agents: every agent and admin but the customer; none
    where nothing has changed for the shop's side. Both structs are the conversation as that side sees it.
    """

    customer: AccountId | None
    agents: tuple[AccountId, ...]
    for_customer: Conversation
    for_staff: Conversation


class Typing(msgspec.Struct, frozen=True):
    """Somebody is writing. to: the account that is told, sender: a username."""

    to: AccountId
    conversation: ConversationId
    sender: str


ChatEvent = MessageSent | ConversationChanged | Typing
