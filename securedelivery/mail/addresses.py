"""Addresses as they stand in the settings and in accounts."""

import re
from email.headerregistry import Address
from email.utils import parseaddr

# RFC 5321, 4.5.3.1: octets.
MAX_LOCAL = 64
MAX_ADDRESS = 254

# RFC 5322's dot-atom, and with RFC 6532 any letter; no quoted strings, no comments, no address literals: nobody has
# them, and mail servers disagree about them.
_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE | re.ASCII
)


def mailbox(text: str) -> str | None:
    """The address as SMTP takes it, its domain in ASCII (IDNA); None for what is no address."""
    local, _, domain = text.rpartition("@")
    try:
        ascii_domain = domain.encode("idna").decode()
    except UnicodeError:
        return None
    if not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(ascii_domain) or len(local.encode()) > MAX_LOCAL:
        return None
    address = f"{local}@{ascii_domain}"
    return address if len(address.encode()) <= MAX_ADDRESS else None


def address_of(text: str) -> Address | None:
    """Of a setting: `orders@shop.example.org` or `Parts & Co <orders@shop.example.org>`."""
    if any(not one.isprintable() for one in text):
        return None
    name, spec = parseaddr(text) if "<" in text else ("", text.strip())
    address = mailbox(spec)
    if address is None:
        return None
    local, _, domain = address.rpartition("@")
    return Address(name, local, domain)
