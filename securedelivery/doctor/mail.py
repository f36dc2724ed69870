"""The two mail servers: whether they can be reached, are who they say, let us in and take our mail. None is sent."""

from collections.abc import Iterator
from datetime import datetime

from securedelivery.config import Settings
from securedelivery.doctor.findings import Found, State, ok
from securedelivery.mail import probe
from securedelivery.mail.addresses import address_of
from securedelivery.model import MailRoute


def receipts(settings: Settings, now: datetime) -> Iterator[Found]:
    """`[mail.receipts]`."""
    return _server(settings, MailRoute.RECEIPTS, now)


def summaries(settings: Settings, now: datetime) -> Iterator[Found]:
    """`[mail.summaries]`."""
    return _server(settings, MailRoute.SUMMARIES, now)


def _server(settings: Settings, route: MailRoute, now: datetime) -> Iterator[Found]:
    server = settings.mail.servers.get(route)
    section = f"mail.{route}"
    if server is None:
        yield ok(f"{section}: no server is set, so none of these mails are sent")
        return
    # To the operator: the server is the shop's own, so only somebody elsewhere would show whether it relays.
    operator = address_of(settings.mail.operator or server.sender or "")
    to = None if operator is None else operator.addr_spec
    for fact in probe.examine(server, section, to, now=now):
        what = fact.what if fact.what.startswith(section) else f"{section}: {fact.what}"
        yield Found(State(fact.state), what, fact.remedy)
