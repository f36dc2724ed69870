"""The link in a mail that ends mail of its kind, for whoever holds the mail: nobody logs in for it (RFC 8058).

A token is 24 bytes, 32 characters of base64url: kind, number of the account, and a MAC under a key of the vault.
Nothing is stored of it, and it never expires, for mails are read years later. All that it can do is end mail, which
the account's owner can have again at any time.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, timestamp
from securedelivery.service.batches import one_by_one
from securedelivery.service.profiles import entry
from securedelivery.store import accounts, audit
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.vault import Vault

__all__ = ["MailChoice", "OptOut", "Wish", "token", "wants"]

NUMBER_BYTES = 7  # so that the whole is a multiple of 3, and no character of base64 has bits to spare
MAC_BYTES = 16
HEAD_BYTES = 1 + NUMBER_BYTES


class MailChoice(StrEnum):
    """What mail an account can have or not, by the names of model.MailPreferences."""

    RECEIPTS = "receipts"
    SUMMARIES = "summaries"
    MISSED_CHAT = "missed_chat"


# In tokens of mails that have left: numbers are never given anew.
_NUMBERS = {MailChoice.RECEIPTS: 1, MailChoice.SUMMARIES: 2, MailChoice.MISSED_CHAT: 3}
_CHOICES = {number: choice for choice, number in _NUMBERS.items()}


class Wish(NamedTuple):
    """What a token would end, and whether there is something to end."""

    choice: MailChoice
    wanted: bool


def token(vault: Vault, account: AccountRow, choice: MailChoice) -> str:
    """For a mail to this account. The same every time, so that a mail that is sent again is the same mail."""
    head = bytes([_NUMBERS[choice]]) + account.id.to_bytes(NUMBER_BYTES, "big")
    return urlsafe_b64encode(head + _mac(vault, head, account)).decode()


def wants(account: AccountRow, choice: MailChoice) -> bool:
    return bool(getattr(account, f"mail_{choice}"))


class OptOut:
    """clock: aware, UTC. Everything here blocks, for the database."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def look(self, token: str) -> Wish:
        """Changes nothing: programs that look at mail follow its links. Raises Refusal not_found."""
        with self._database.read() as tx:
            account, choice = _opened(tx, token)
        return Wish(choice, wants(account, choice))

    def apply(self, token: str) -> MailChoice:
        """End mail of the token's kind; what has ended already stays so. Raises Refusal not_found."""
        wish = self.look(token)  # first, so that links that somebody made up do not wait for the writer
        return self._database.writer.call(self._end, token) if wish.wanted else wish.choice

    def _end(self, tx: Transaction, tokens: Sequence[str]) -> list[MailChoice | Refusal]:
        now = timestamp(self._clock())

        def end(token: str) -> MailChoice:
            account, choice = _opened(tx, token)
            if wants(account, choice):
                ended: dict[str, Any] = {f"mail_{choice}": False}
                accounts.change(tx, [account._replace(**ended)])
                detail = {"by": "mail link", choice.value: False}
                audit.append(tx, [entry(now, None, "account.mail_changed", account, **detail)])
            return choice

        return one_by_one(end, tokens)


def _opened(tx: Transaction, token: str) -> tuple[AccountRow, MailChoice]:
    """Raises Refusal."""
    data = _decoded(token)
    head, mac = data[:HEAD_BYTES], data[HEAD_BYTES:]
    account = accounts.by_id(tx, AccountId(int.from_bytes(head[1:], "big")))
    if account is None or account.deleted_at is not None:
        raise _unknown()
    if not hmac.compare_digest(_mac(tx.vault, head, account), mac):
        raise _unknown()
    return account, _CHOICES[head[0]]


def _decoded(token: str) -> bytes:
    """Of whatever length: what is too short or too long has no such MAC. Raises Refusal."""
    try:
        data = urlsafe_b64decode(token)
    except ValueError:
        raise _unknown() from None
    if urlsafe_b64encode(data).decode() != token:  # the decoder passes over what is not of the alphabet
        raise _unknown()
    return data


def _mac(vault: Vault, head: bytes, account: AccountRow) -> bytes:
    """16 bytes. With the time of the account's creation, for numbers come again when a backup is put back: an old link
    is not for whoever has the number then.
    """
    return vault.digest("mail opt-out", head + account.created_at.encode())[:MAC_BYTES]


def _unknown() -> Refusal:
    return Refusal(
        Reason.NOT_FOUND,
        "this link ends no mail: a part of it is missing, or its account was deleted; open it from the mail once more,"
        " or choose on your account's page which mail you get",
    )
