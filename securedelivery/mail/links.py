"""Where mail leads: pages of the shop's web page. What stands before their paths is put together here alone."""

import re
from typing import NamedTuple

from securedelivery.errors import ConfigurationError
from securedelivery.mail.addresses import in_ascii
from securedelivery.model import OrderId

__all__ = ["OF_NOBODY", "Links", "Site"]

OF_NOBODY = "a-link-as-long-as-those-of-mails"
"""A token that ends nothing, for mail that goes to nobody."""

_ADDRESS = re.compile(r"https://([^/?#@\s]+)((?:/[A-Za-z0-9._~-]+)*)/*", re.IGNORECASE)
_HOST = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)


class Links(NamedTuple):
    """Addresses for one mail, ASCII, without blanks or quotes.

    order: of the order that the mail tells of; off: where this kind of mail can be ended, for whoever has the mail.
    None in mail that has no such thing.
    """

    shop: str
    orders: str
    chat: str
    account: str
    order: str | None = None
    off: str | None = None

    def page_of(self, number: OrderId) -> str:
        return f"{self.orders}/{number}"


class Site:
    """public_url: of the settings, with or without a path, and a slash at its end."""

    def __init__(self, public_url: str) -> None:
        """Raises ConfigurationError."""
        self._base = _plain(public_url)

    def links(self, *, order: OrderId | None = None, token: str | None = None) -> Links:
        """token: of service.opt_out."""
        return Links(
            shop=f"{self._base}/",
            orders=f"{self._base}/orders",
            chat=f"{self._base}/chat",
            account=f"{self._base}/account#mail",
            order=None if order is None else f"{self._base}/orders/{order}",
            off=None if token is None else f"{self._base}/mail/off?token={token}",
        )


def _plain(public_url: str) -> str:
    """Its host in ASCII (IDNA), without a slash at the end. Raises ConfigurationError."""
    found = _ADDRESS.fullmatch(public_url)
    host = None if found is None else in_ascii(found[1])
    if found is None or host is None or not _HOST.fullmatch(host):
        raise ConfigurationError(
            "web.public_url", f"{public_url!r} cannot stand in a mail", "write https://shop.example.org"
        )
    return f"https://{host}{found[2]}"
