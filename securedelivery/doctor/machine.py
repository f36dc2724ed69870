"""The machine: the port, the clock, the limit of open files."""

import ctypes
import errno
import resource
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta

from securedelivery.application import RESERVED_FILES
from securedelivery.config import Settings, split_address
from securedelivery.doctor.certificates import server_names
from securedelivery.doctor.database import newest_entry
from securedelivery.doctor.findings import Found, note, ok, wrong
from securedelivery.errors import ConfigurationError
from securedelivery.protocol.certificates import der
from securedelivery.protocol.connection import ALPN
from securedelivery.transport.tls import ServerFiles, client_context, load_credentials, load_trust

ANSWER_SECONDS = 3.0
FUTURE = timedelta(minutes=1)
"""What is dated further ahead than this was dated by another clock, or by this one before it was set back."""

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_TIMEX_BYTES = 512  # struct timex takes 208 on 64-bit systems


ANOTHER_ADDRESS = "choose an address of this machine, and a port above 1023 or the right to the lower one"


def listen(settings: Settings, _now: datetime) -> Iterator[Found]:
    """The address and port: free, or the service itself has it."""
    host, port = split_address(settings.server.listen)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if port == 0:
        yield ok(f"listen {shown}: any port that is free")
        return
    error = bound(host, port)
    if error is None:
        yield ok(f"listen {shown}: free; no service runs there")
    elif isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        yield _who_answers(settings, host, port, shown)
    else:
        yield wrong(f"listen {shown}: {getattr(error, 'strerror', None) or error}", ANOTHER_ADDRESS)


def bound(host: str, port: int) -> Exception | None:
    """Why nobody could listen there; None: somebody could."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:
        return error
    return None


def _who_answers(settings: Settings, host: str, port: int, shown: str) -> Found:
    """What has the port: this service, as its certificate and the protocol's name prove, or something else."""
    files = ServerFiles.in_directory(settings.certs)
    taken = wrong(
        f"listen {shown}: another program has it",
        f"see which: ss -ltnp 'sport = :{port}'; end it, or choose another port",
    )
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- what the server listens on
    try:
        own = load_credentials(files.certificate, files.key).certificates[0]
        context = client_context(files.ca, None, None, None)
        with (
            socket.create_connection((reached, port), ANSWER_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=next(iter(server_names(own)), reached)) as secured,
        ):
            protocol, shown_certificate = secured.selected_alpn_protocol(), secured.getpeercert(binary_form=True)
    except ssl.SSLError:
        return taken
    except OSError:
        return note(f"listen {shown}: something has it and does not answer", f"see what: ss -ltnp 'sport = :{port}'")
    except ConfigurationError:
        return note(f"listen {shown}: in use; without certificates there is no telling by what")
    if protocol != ALPN:
        return taken
    if shown_certificate != der(own):
        return note(
            f"listen {shown}: securedelivery answers, but with another certificate than {files.certificate}",
            "kill -HUP loads it; if it stays so, the server's log says why",
        )
    return ok(f"listen {shown}: securedelivery answers, with this certificate")


def clock(settings: Settings, now: datetime) -> Iterator[Found]:
    """Whether what is on disk could have been written before now, and what the kernel says of its clock."""
    newest = [(moment, what) for moment, what in _written(settings) if moment > now + FUTURE]
    if newest:
        moment, what = max(newest)
        yield wrong(
            f"clock: {now:%Y-%m-%d %H:%M} UTC, but {what} is of {moment:%Y-%m-%d %H:%M}",
            "set it (timedatectl set-ntp true); if it is right, it was wrong when that was written",
        )
    else:
        yield ok(f"clock: {now:%Y-%m-%d %H:%M} UTC, later than all that is on disk")
    if _is_adrift():
        yield note("the kernel does not know its clock to be synchronized", "timedatectl set-ntp true")


def _written(settings: Settings) -> Iterator[tuple[datetime, str]]:
    """Moments that are past, if the clock is right. What cannot be read is told by its own check."""
    files = ServerFiles.in_directory(settings.certs)
    try:
        yield (
            load_credentials(files.certificate, files.key).certificates[0].not_valid_before_utc,
            str(files.certificate),
        )
        for crl in load_trust(files.ca, files.crl).crls or ():
            yield crl.last_update_utc, str(files.crl)
    except ConfigurationError:
        pass
    entry = newest_entry(settings)
    if entry is not None:
        yield entry, "the newest row of the audit"


def _is_adrift() -> bool:
    """Asks the kernel, where there is a way to ask; needs no rights."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return False
    return bool(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)) == _TIME_ERROR)


def open_files(settings: Settings, _now: datetime) -> Iterator[Found]:
    """Each connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = settings.limits.connections
    wanted = connections + RESERVED_FILES
    if most != resource.RLIM_INFINITY and most < wanted:
        yield note(
            f"open files: {most:,} are allowed, too few for limits.connections = {connections:,}",
            f"LimitNOFILE={wanted} in the systemd unit, or a smaller limits.connections",
        )
    else:
        allowed = "any number is" if most == resource.RLIM_INFINITY else f"{most:,} are"
        yield ok(f"open files: {allowed} allowed, enough for limits.connections = {connections:,}")
