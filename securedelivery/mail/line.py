"""One connection to a mail server: commands and answers, each of them bounded, and an end that comes from outside.

smtplib writes the commands and understands EHLO; sockets, TLS and the reading of answers are here, because its own
reading has no bound (RFC 5321 sets one for lines, none for their number) and cannot be ended by another thread.
"""

import contextlib
import re
import smtplib
import socket
import ssl
import threading
import time
from typing import Any, NamedTuple

MAX_LINE = 8_192  # RFC 5321 has 512; servers that quote policies, or links to them, have more
MAX_LINES = 200  # of one answer; EHLO's of the large providers have about 15
MAX_ANSWER = 500
"""Characters of an answer that are kept."""
RECEIVE_BYTES = 4_096

_ANSWER = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class Ended(OSError):  # noqa: N818 -- what has happened
    """The connection came to its end where an answer was due."""


class NoAnswer(OSError):  # noqa: N818 -- what has happened
    """What came is none of SMTP's answers: no code, or no end of it."""


class SpokenInClear(OSError):  # noqa: N818 -- what has happened
    """There was more in clear behind the answer to STARTTLS: somebody put it there (CVE-2011-0411)."""


class Answer(NamedTuple):
    """code: 200 to 599. text: in one line, without control characters."""

    code: int
    text: str

    @classmethod
    def of(cls, code: int, raw: bytes) -> "Answer":
        """Of what getreply() and ehlo() return."""
        return cls(code, clean(raw))

    @property
    def words(self) -> str:
        """`550 5.1.1 no such user`; at most MAX_ANSWER characters."""
        return f"{self.code} {self.text}"[:MAX_ANSWER].rstrip()

    @property
    def is_good(self) -> bool:
        return 200 <= self.code < 300  # noqa: PLR2004 -- SMTP's classes of answers

    @property
    def is_refusal(self) -> bool:
        return 400 <= self.code < 600  # noqa: PLR2004


def clean(raw: bytes) -> str:
    """An answer's lines as one, for people: what is not printable becomes a space."""
    text = raw[: 4 * MAX_ANSWER].decode("utf-8", "replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


class Line(smtplib.SMTP):
    """For one thread, but for abort(). Everything raises OSError (TimeoutError, ssl.SSLError, Ended ..), and ValueError
    for a host that is no name.
    """

    sock: socket.socket | None

    def __init__(self, own_name: str, timeout_seconds: float) -> None:
        super().__init__(local_hostname=own_name, timeout=timeout_seconds)
        self.sock = None
        self.command_encoding = "utf-8"  # addresses that are not all ASCII, with SMTPUTF8 (RFC 6531)
        self.aborted = False
        self._seconds = timeout_seconds
        self._received = bytearray()
        self._lock = threading.Lock()  # between abort() and the socket's change or end

    def dial(self, host: str, port: int) -> None:
        """Address by address, all of them within the timeout; the look-up of the name takes the system's time."""
        until = time.monotonic() + self._seconds
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            self._take(sock)
            try:
                sock.settimeout(_left(until))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the last dot goes in a packet of its own
            except OSError as error:
                failure = error
                self.close()
            else:
                return
        raise failure

    def begin_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Raises SpokenInClear where what came in clear was not all heard, which STARTTLS must not believe."""
        if self._received:
            raise SpokenInClear
        sock = self._connected
        sock.settimeout(self._seconds)
        host.encode("idna")  # what is no name is refused here: wrap_socket would refuse it too, and lose the socket
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        self._take(secured)
        secured.do_handshake()

    @property
    def tls(self) -> ssl.SSLSocket | None:
        return self.sock if isinstance(self.sock, ssl.SSLSocket) else None

    @property
    def peer(self) -> str:
        """Its IP address."""
        return str(self._connected.getpeername()[0])

    def ask(self, command: str, argument: str = "") -> Answer:
        self.putcmd(command, argument)
        return self.answer()

    def answer(self) -> Answer:
        return Answer.of(*self.getreply())

    @property
    def seconds(self) -> float:
        """The timeout of an operation."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds = seconds

    def getreply(self) -> tuple[int, bytes]:
        """smtplib's, within one timeout for all of it. Raises NoAnswer, Ended."""
        until = time.monotonic() + self._seconds
        lines: list[bytes] = []
        while len(lines) < MAX_LINES:
            line = self._read_line(until)
            if (found := _ANSWER.fullmatch(line)) is None:
                raise NoAnswer
            code, more, text = found.groups()
            lines.append((text or b"").strip())
            if more != b"-":
                return int(code), b"\n".join(lines)
        raise NoAnswer

    def send(self, s: Any) -> None:
        """smtplib's, without its end of the connection at a failure, which hides what failed."""
        sock = self._connected
        sock.settimeout(self._seconds)
        sock.sendall(s.encode(self.command_encoding) if isinstance(s, str) else s)

    def close(self) -> None:
        """Never raises."""
        with self._lock:
            sock, self.sock = self.sock, None
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()

    def abort(self) -> None:
        """From any thread: whatever waits on this connection ends now, and nothing begins on it any more."""
        with self._lock:
            self.aborted = True
            if self.sock is not None:
                with contextlib.suppress(OSError):
                    # The plain socket's own: SSLSocket's would go on reading in clear.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    @property
    def _connected(self) -> socket.socket:
        if self.sock is None:
            raise Ended
        return self.sock

    def _take(self, sock: socket.socket) -> None:
        with self._lock:
            self.sock = sock
            aborted = self.aborted
        if aborted:
            self.close()
            raise Ended

    def _read_line(self, until: float) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > MAX_LINE:
                raise NoAnswer
            sock = self._connected
            sock.settimeout(_left(until))
            data = sock.recv(RECEIVE_BYTES)
            if not data:
                raise Ended
            self._received += data
        line = bytes(self._received[:end]).removesuffix(b"\r")
        del self._received[: end + 1]
        return line


def _left(until: float) -> float:
    """Seconds. Raises TimeoutError where there are none: a timeout of 0 would mean not to wait at all."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
