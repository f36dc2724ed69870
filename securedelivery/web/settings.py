"""`[web]` of the configuration."""

from typing import Literal

import msgspec

__all__ = ["WebSettings"]


class WebSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: str | None = None
    """HOST:PORT of the web page; left out, there is none."""
    certificate: str | None = None
    """PEM, with the chain: what browsers see, where it is not the server's own. For a certificate of a public CA."""
    key: str | None = None
    """Its key, PEM."""
    client_certificates: Literal["optional", "none"] = "optional"
    """none: browsers are not asked for one, and nobody logs in with one there."""
    public_url: str | None = None
    """https://shop.example.org: where customers find the page, for links in mails and behind a proxy."""
