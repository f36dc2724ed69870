"""What a running server has of mail: a sender for each route in use, and one way to write what they send."""

import os
import socket
from collections.abc import Sequence
from functools import partial

import structlog

from securedelivery.mail import smtp
from securedelivery.mail.composer import Composer
from securedelivery.mail.sender import Sender
from securedelivery.mail.settings import MailSettings
from securedelivery.model import MailRoute
from securedelivery.service.events import MailRetried, OrderChanged
from securedelivery.service.outbox import Outbox


class Delivery:
    """The senders, from start() to stop()."""

    def __init__(self, outbox: Outbox, compose: Composer, mail: MailSettings) -> None:
        """Raises ConfigurationError for a password or an authority that cannot be read."""
        self._outbox = outbox
        node = f"{socket.gethostname()}/{os.getpid()}"
        self._senders: dict[MailRoute, Sender] = {}
        for route, server in mail.servers.items():
            section = f"mail.{route}"
            smtp.load(server, section)
            self._senders[route] = Sender(route, outbox, compose, partial(smtp.Session, server, section=section), node)

    def start(self) -> None:
        """Of a database that no other server has: what the last one was sending when it ended is to be sent anew."""
        if interrupted := self._outbox.recover():
            structlog.get_logger("securedelivery.mail").warning(
                "= mail that was being sent when the server ended is sent again", count=interrupted
            )
        for sender in self._senders.values():
            sender.start()

    def heed(self, events: Sequence[object]) -> None:
        """What a commit has changed; from any thread, without waiting."""
        if any(isinstance(event, MailRetried) for event in events):
            for sender in self._senders.values():
                sender.resume()
        receipts = self._senders.get(MailRoute.RECEIPTS)
        if receipts is not None and any(isinstance(event, OrderChanged) for event in events):
            receipts.wake()

    def finish(self) -> None:
        """Begin to stop, without waiting."""
        for sender in self._senders.values():
            sender.finish()

    def stop(self) -> None:
        self.finish()
        for sender in self._senders.values():
            sender.stop()
