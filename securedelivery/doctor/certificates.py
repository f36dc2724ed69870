"""The folder of gen_certs.sh: who the server is, whom it believes, and who could read what only it should."""

import shlex
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from securedelivery.config import Settings, split_address
from securedelivery.doctor.findings import Found, note, ok, wrong
from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.certificates import Trust, end_of_life
from securedelivery.transport.reload import WARN_BEFORE
from securedelivery.transport.tls import ServerFiles, load_credentials, load_trust

AUTHORITY_BEFORE = timedelta(days=90)  # time to get a new ca.crt to every customer
SERVER_BEFORE = timedelta(days=14)  # gen_certs.sh renews it from 29 days before its end: by then no run has come
OTHERS = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def authority(settings: Settings, now: datetime) -> Iterator[Found]:
    """ca.crt: readable, a certificate, within its life."""
    path = ServerFiles.in_directory(settings.certs).ca
    newest = max(load_trust(path, None).authorities, key=lambda one: one.not_valid_after_utc)
    yield life(
        f"CA {path}",
        newest.not_valid_before_utc,
        newest.not_valid_after_utc,
        now,
        soon=AUTHORITY_BEFORE,
        remedy=f"{generate(settings)}; then give everyone the new ca.crt",
    )


def server(settings: Settings, now: datetime) -> Iterator[Found]:
    """server.crt and server.key: a pair, of this CA, within its life, for the names it is reached by."""
    files = ServerFiles.in_directory(settings.certs)
    chain = load_credentials(files.certificate, files.key).certificates
    try:
        Trust(load_trust(files.ca, None).authorities, None).verify_own_server(chain, now)
    except RemoteProtocolError as error:
        if error.reason != "certificate_expired":
            yield wrong(
                f"server certificate {files.certificate}: no client accepts it: {error}",
                f"make one of {files.ca}: {generate(settings, 'server --force')}",
            )
            return
    yield life(
        f"server certificate {files.certificate}",
        chain[0].not_valid_before_utc,
        end_of_life(chain),
        now,
        soon=SERVER_BEFORE,
        remedy=generate(settings, "renew server"),
    )
    names = server_names(chain[0])
    host, _ = split_address(settings.server.listen)
    if _is_reachable_as(host, names):
        yield ok(f"it is for {', '.join(names)}; its key fits")
    else:
        yield note(
            f"it is for {', '.join(names)} alone: nobody can reach it by another name",
            f"name all that it is reached by: {generate(settings, 'server --force --dns NAME --ip ADDRESS')}",
        )


def revocation_list(settings: Settings, now: datetime) -> Iterator[Found]:
    """crl.pem: there, of this CA, neither outdated nor of the future."""
    files = ServerFiles.in_directory(settings.certs)
    remedy = generate(settings, "crl")
    if not files.crl.exists():
        yield wrong(f"there is no revocation list {files.crl}: every client certificate is refused", remedy)
        return
    (crl,) = load_trust(files.ca, files.crl).crls or ()
    if crl.next_update_utc is None:
        yield wrong(f"revocation list {files.crl}: it has no end, so every client certificate is refused", remedy)
        return
    what = f"revocation list {files.crl} ({len(crl)} revoked, made {_day(crl.last_update_utc)})"
    yield life(what, crl.last_update_utc, crl.next_update_utc, now, soon=WARN_BEFORE, remedy=remedy)


def private_keys(settings: Settings, _now: datetime) -> Iterator[Found]:
    """Who can read them, and which have no business here."""
    folder = settings.certs
    if folder.stat().st_mode & OTHERS_WRITE:
        yield wrong(
            f"{folder} can be written by others, who can put their own CA there", f"chmod go-w {_quoted(folder)}"
        )
    server_key = ServerFiles.in_directory(folder).key
    clients, proxies = sorted(folder.glob("clients/*.key")), sorted(folder.glob("proxies/*.key"))
    ca_key = folder / "ca.key"
    known = [path for path in (server_key, ca_key, *clients, *proxies) if path.exists()]
    open_ones = [path for path in known if path.stat().st_mode & OTHERS]
    if open_ones:
        others = f" and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
        paths = " ".join(map(_quoted, open_ones[:3])) if len(open_ones) <= 3 else f"{_quoted(folder)}/*/*.key"  # noqa: PLR2004
        yield wrong(
            f"{open_ones[0]}{others} can be read by others: take it for stolen",
            f"chmod go= {paths}; then renew what it belongs to, and revoke what it was",
        )
    elif server_key in known:
        yield ok(f"private key {server_key}: its owner alone can read it")
    if ca_key in known:
        yield note(
            f"the CA's key {ca_key} is on this machine: whoever breaks in can be anybody",
            "keep the CA's folder elsewhere; the server needs ca.crt, crl.pem, server.crt, server.key, names.txt and"
            " trust-domain",
        )
    if clients:
        yield note(
            f"customers' private keys are in {folder / 'clients'}: {len(clients)}",
            "hand them over and remove them; or let customers keep their own:"
            f" {generate(settings, 'client NAME --csr FILE')}",
        )


def names(settings: Settings, _now: datetime) -> Iterator[Found]:
    """names.txt, and the trust domain that identities are of."""
    path = Path(settings.accounts.names_file or settings.certs / "names.txt")
    domain = settings.trust_domain
    try:
        count = len(path.read_text("utf-8").split())
    except FileNotFoundError:
        what = f"there is no {path}"
        if settings.server.client_certificates == "optional":
            yield note(
                f"{what}: without a certificate anybody can take the name of one who has one",
                "copy it from the CA's folder, if a certificate was ever issued",
            )
        else:
            yield ok(f"{what}; with client certificates required, none is needed")
    except (OSError, UnicodeDecodeError) as error:
        yield wrong(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not text'}): its names are not reserved",
            "give this user the right to read it, or copy it anew from the CA's folder",
        )
    else:
        yield ok(f"names with certificates {path}: {count} reserved; identities are of {domain}")


def generate(settings: Settings, command: str = "") -> str:
    """The call of gen_certs.sh for this folder."""
    folder = "" if settings.server.certs == "certs" else f" --dir {_quoted(settings.certs)}"
    return f"./gen_certs.sh{folder}{' ' if command else ''}{command}"


def server_names(leaf: x509.Certificate) -> list[str]:
    """The host names and addresses in it, in its order."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]


def _is_reachable_as(host: str, names: Sequence[str]) -> bool:
    """Whether a client that dials the address listened on, or this machine from outside, finds the name it dialled."""
    try:
        address = ip_address(host)
    except ValueError:
        return host in names
    if address.is_unspecified:
        return not all(_is_local(name) for name in names)
    if address.is_loopback:
        return any(_is_local(name) for name in names)
    return str(address) in names or not all(_is_address(name) or _is_local(name) for name in names)


def _is_local(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def life(what: str, begins: datetime, ends: datetime, now: datetime, *, soon: timedelta, remedy: str) -> Found:
    """Whether `now` is within it. soon: how long before its end it is noted."""
    if now < begins:
        return wrong(f"{what}: not valid before {_day(begins)}", "check this machine's clock")
    if ends <= now:
        return wrong(f"{what}: ended {_day(ends)}", remedy)
    days = (ends - now).days
    until = f"{what}: until {_day(ends)}, {days} {'day' if days == 1 else 'days'} more"
    return note(until, remedy) if ends - now < soon else ok(until)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
