"""`[mail]`, and the two mail servers below it."""

from typing import Any, ClassVar, Literal

import msgspec

from securedelivery.model import MailRoute

Security = Literal["starttls", "tls", "none"]

PORTS: dict[Security, int] = {"starttls": 587, "tls": 465, "none": 25}
"""RFC 6409 for submission, RFC 8314 for submission over implicit TLS."""


class MailServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mail server, and as whom the shop writes."""

    usual_security: ClassVar[Security] = "starttls"

    host: str | None = None
    """Without one nothing is sent."""
    port: int | None = None
    """By default that of the security: 587, 465 or 25."""
    security: Security | None = None
    """starttls (receipts, by default), tls (summaries, by default), or none: in clear, to loopback alone."""
    username: str | None = None
    """Without one there is no login."""
    password_file: str | None = None
    """The first line of this file, which is its owner's alone (0600)."""
    password: str | None = None
    """From the environment alone."""
    sender: str | None = None
    """`orders@shop.example.org` or `Parts & Co <orders@shop.example.org>`."""
    reply_to: str | None = None
    """Where answers go; by default the sender."""
    ca_file: str | None = None
    """Whom to trust, in PEM; by default the authorities of this machine."""

    def __repr__(self) -> str:
        """Without the password, which would else stand in every traceback that shows the settings."""
        return f"{type(self).__name__}({self.host}:{self.way[0]})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Nor here: msgspec's own shows every field."""
        return [("host", self.host), ("port", self.way[0])]

    @property
    def used(self) -> bool:
        return self.host is not None

    @property
    def way(self) -> tuple[int, Security]:
        """The port and how it is secured."""
        security = self.security or self.usual_security
        return (PORTS[security] if self.port is None else self.port), security


class ReceiptsServer(MailServer, frozen=True, forbid_unknown_fields=True):
    """`[mail.receipts]`: mail about orders, and about chat that was missed."""


class SummariesServer(MailServer, frozen=True, forbid_unknown_fields=True):
    """`[mail.summaries]`: the months' summaries."""

    usual_security: ClassVar[Security] = "tls"


class MailSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[mail]`."""

    receipts: ReceiptsServer = ReceiptsServer()
    summaries: SummariesServer = SummariesServer()
    operator: str | None = None
    """Who gets the operator's summary of the month."""
    time_zone: str = "UTC"
    """Of months, and of times in mail: a name of the IANA database, `Europe/Berlin`."""
    hour: int = 8
    """When a month's summaries are due on the first of the next one, in that zone."""
    chat_text: Literal["full", "beginning", "none"] = "beginning"
    """How much of a missed message mail may tell: e-mail is not encrypted from end to end."""
    templates: str | None = None
    """A folder whose templates go before those that come with the program."""

    @property
    def servers(self) -> dict[MailRoute, MailServer]:
        """Of the routes in use."""
        named: dict[MailRoute, MailServer] = {MailRoute.RECEIPTS: self.receipts, MailRoute.SUMMARIES: self.summaries}
        return {route: server for route, server in named.items() if server.used}
