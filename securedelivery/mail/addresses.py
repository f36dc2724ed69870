"""Addresses as they stand in the settings and in accounts."""

import re
from email.headerregistry import Address

# RFC 5321, 4.5.3.1: octets.
MAX_LOCAL = 64
MAX_ADDRESS = 254

# RFC 5322's dot-atom, and with RFC 6532 whatever is not ASCII: the vowels of many scripts are no letters to `\w`. No
# quoted strings, no comments, no address literals: nobody has them, and mail servers disagree about them.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATOM}(\.{_ATOM})*")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE | re.ASCII
)
_NAMED = re.compile(r"([^<>]*)<([^<>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

_DEVIATING = frozenset("ßẞς")
"""Python knows IDNA 2003 alone, which makes other letters of these, and so another domain, maybe somebody else's
(UTS 46). The two joiners of which it makes nothing are not printable.
"""


def mailbox(text: str) -> str | None:
    """The address as SMTP takes it, its domain in ASCII (IDNA); None for what is no address."""
    local, _, domain = text.rpartition("@")
    if len(text) > MAX_ADDRESS or not text.isprintable():
        return None
    ascii_domain = in_ascii(domain)
    if (
        ascii_domain is None
        or not _LOCAL.fullmatch(local)
        or not _DOMAIN.fullmatch(ascii_domain)
        or len(local.encode()) > MAX_LOCAL
    ):
        return None
    address = f"{local}@{ascii_domain}"
    return address if len(address.encode()) <= MAX_ADDRESS else None


def in_ascii(domain: str) -> str | None:
    """IDNA; None for what cannot be written so. What is ASCII already is not looked at any further."""
    try:
        return None if _DEVIATING & set(domain) else domain.encode("idna").decode()
    except UnicodeError:
        return None


def address_of(text: str) -> Address | None:
    """Of a setting: `orders@shop.example.org` or `Parts & Co <orders@shop.example.org>`, its name in quotes or not."""
    if not text.isprintable():
        return None
    named = _NAMED.fullmatch(text.strip())
    name, spec = ("", text) if named is None else named.groups()
    address = mailbox(spec.strip())
    if address is None:
        return None
    local, _, domain = address.rpartition("@")
    return Address(_unquoted(name.strip()), local, domain)


def _unquoted(name: str) -> str:
    quoted = _QUOTED.fullmatch(name)
    return name if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
