"""The web's door: what browsers will see, and whether they can come."""

import errno
from collections.abc import Iterator
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from securedelivery.config import Settings, split_address
from securedelivery.doctor.certificates import OTHERS, life, server_names
from securedelivery.doctor.findings import Found, note, ok, wrong
from securedelivery.doctor.machine import ANOTHER_ADDRESS, bound
from securedelivery.transport.tls import ServerFiles, WebTls

RENEWED_BEFORE = timedelta(days=14)  # certbot renews 30 days before the end: by then no run has come


def door(settings: Settings, now: datetime) -> Iterator[Found]:
    """`[web]`: certificate and key, their dates and names, and the port."""
    web = settings.web
    if web.listen is None:
        yield ok("web: no address is set (--web), so there is no web page")
        return
    own = None if web.certificate is None or web.key is None else (Path(web.certificate), Path(web.key))
    certificate, key = WebTls(ServerFiles.in_directory(settings.certs), *(own or ())).paths
    leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    remedy = "renew it where it comes from" if own else "./gen_certs.sh renew server"
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    yield life(f"web certificate {certificate}", begins, ends, now, soon=RENEWED_BEFORE, remedy=remedy)
    if key.stat().st_mode & OTHERS:
        yield wrong(f"web key {key}: others can read it", f"chmod 600 {key}")
    if own is None:
        yield ok(
            "it is of the shop's own CA: browsers warn until they know ca.crt; docs/web.md says how a shop gets one"
        )
    if web.public_url is not None:
        yield _named(web.public_url, server_names(leaf))
    yield _port(web.listen)


def _named(url: str, names: list[str]) -> Found:
    host = urlsplit(url).hostname or ""
    if any(_fits(host, name) for name in names):
        return ok(f"web.public_url {url}: the certificate is for it")
    return wrong(
        f"web.public_url {url}: the certificate is for {', '.join(names) or 'no name'}, so browsers will refuse it",
        f"get one for {host}, or mend web.public_url",
    )


def _fits(host: str, name: str) -> bool:
    """RFC 9525, section 6.3: a wildcard stands for one label."""
    try:
        return ip_address(host) == ip_address(name)
    except ValueError:
        pass
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return host.lower() == name.lower()


def _port(address: str) -> Found:
    host, port = split_address(address, "web.listen")
    if port == 0:
        return ok(f"web {address}: any port that is free")
    error = bound(host, port)
    if error is None:
        return ok(f"web {address}: free; no service runs there")
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return note(
            f"web {address}: in use; by the shop itself, if it runs", f"else see by what: ss -ltnp 'sport = :{port}'"
        )
    return wrong(f"web {address}: {getattr(error, 'strerror', None) or error}", ANOTHER_ADDRESS)
