"""Sessions of the web: opaque tokens that the browser keeps, of which the database has only the digest.

On the socket door a session lives as long as its connection. On the web it is looked up with each request, so that
whatever ends one (logging out, another password, being disabled or deleted) has ended it by the next.
"""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from securedelivery.model import Role, Timestamp, timestamp
from securedelivery.service.identity import name_of
from securedelivery.service.session import Session
from securedelivery.store import accounts, web_sessions
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.web_sessions import WebSessionRow

__all__ = ["LIFE", "WebSessions"]

TOKEN_BYTES = 32
IDLE = timedelta(days=7)
LIFE = timedelta(days=30)
STAFF_LIFE = timedelta(hours=12)
"""Of whoever sees what is not theirs: agents, couriers, admins."""

FARTHEST = timedelta(hours=2)
"""A session that was opened later than that from now was opened with a clock that was wrong, and would last as long."""

SEEN_EVERY = timedelta(hours=1)
KEPT = 50
"""Sessions an account can have; the oldest goes for the next."""


class _Opening(NamedTuple):
    digest: bytes
    session: Session
    certified: bool


class WebSessions:
    """clock: aware, UTC. Everything here blocks, for the database."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def open(self, session: Session, identity: str | None = None) -> str:
        """A token for somebody who has just logged in: 43 characters, URL-safe, 256 bits that nobody can guess.

        identity: the connection's spiffe URI. What a certificate has opened is good with that certificate alone, so
        that it ends with it.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._database.writer.call(self._open, _Opening(_digest(token), session, identity is not None))
        return token

    def find(self, token: str, identity: str | None) -> Session | None:
        """Who holds the token, as the account is now; None where the session is over, or another's certificate is on
        the connection. identity: the connection's spiffe URI.
        """
        digest = _digest(token)
        with self._database.read() as tx:
            row = web_sessions.by_digest(tx, digest)
            account = None if row is None else accounts.by_id(tx, row.account_id)
        if row is None or account is None or not self._lasts(row, account):
            return None
        if identity is None and (row.certified or account.certificate_required):
            return None
        if identity is not None and name_of(identity) != account.username:
            return None
        if row.seen_at < self._ago(SEEN_EVERY):
            # Nobody waits for it: a note of having been seen is not worth an answer.
            self._database.writer.submit(self._touch, digest, lambda _outcome: None)
        return Session(account.id, account.username, account.role, account.credentials)

    def csrf_token(self, binding: str) -> str:
        """What a page of ours knows and no other can: from the session's token, or the URI of a certificate."""
        return urlsafe_b64encode(self._database.vault.digest("web csrf", binding.encode())).decode().rstrip("=")

    def end(self, token: str) -> None:
        self._database.writer.call(self._end, _digest(token))

    def tidy(self) -> None:
        """Take out what is over."""
        self._database.writer.call(self._tidy, None)

    def _lasts(self, row: WebSessionRow, account: AccountRow) -> bool:
        life = LIFE if account.role is Role.CUSTOMER else STAFF_LIFE
        return (
            account.deleted_at is None
            and not account.disabled
            and account.credentials == row.credentials
            and row.seen_at >= self._ago(IDLE)
            and self._ago(life) <= row.opened_at <= self._ago(-FARTHEST)
        )

    def _ago(self, time: timedelta) -> Timestamp:
        return timestamp(self._clock() - time)

    def _open(self, tx: Transaction, openings: Sequence[_Opening]) -> list[None]:
        now = timestamp(self._clock())
        for digest, session, certified in openings:
            row = WebSessionRow(digest, session.account_id, session.credentials, certified, now, now)
            web_sessions.add(tx, row, KEPT)
        return [None for _ in openings]

    def _touch(self, tx: Transaction, digests: Sequence[bytes]) -> list[None]:
        now = timestamp(self._clock())
        for digest in digests:
            web_sessions.touch(tx, digest, now)
        return [None for _ in digests]

    def _end(self, tx: Transaction, digests: Sequence[bytes]) -> list[None]:
        for digest in digests:
            web_sessions.end(tx, digest)
        return [None for _ in digests]

    def _tidy(self, tx: Transaction, commands: Sequence[object]) -> list[None]:
        web_sessions.forget(tx, self._ago(IDLE), self._ago(LIFE))
        return [None for _ in commands]


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
