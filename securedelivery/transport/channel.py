"""TLS over memory: raw bytes in, plaintext out, for whoever owns the socket.

One SSLSocket used by two threads crashes CPython 3.11, and a blocking one makes a thread wait for its peer; an
SSLObject over two MemoryBIOs does neither. A Channel has no lock: it belongs to one thread at a time, and its owner
sees to that.
"""

import re
import ssl

from securedelivery.protocol.connection import ALPN

__all__ = ["Channel", "TlsFailure", "reason_of"]

RECORD = 16_384  # the most plaintext that one TLS record holds (RFC 8446, section 5.1)


class TlsFailure(Exception):  # noqa: N818 -- the owner turns it into an error of its own side
    """TLS is over: refused, broken or cut. What it had left to say (an alert) is in take_raw()."""


class Channel:
    """One TLS connection of either side. server_hostname: what the client dialled, None for the server.

    A MemoryBIO never gives back what it once took: after an answer of 64 KiB a quiet connection would hold as much for
    the rest of its life. So nothing larger than a record stands in one.
    """

    __slots__ = ("_incoming", "_outgoing", "_ready", "_tls", "raw_ended")

    def __init__(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._ready = b""  # raw bytes in front of those in _outgoing
        self.raw_ended = False

    def feed(self, raw: bytes) -> None:
        """What the socket delivered; b"" is its end."""
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
            self.raw_ended = True

    def handshake(self) -> bool:
        """Go on with the TLS handshake; True once it is done. Raises TlsFailure, also without the protocol's ALPN."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise TlsFailure(describe(error)) from error
        if self._tls.selected_alpn_protocol() != ALPN:
            raise TlsFailure(f"no agreement on the protocol (ALPN {ALPN})")
        return True

    def peer_certificate(self) -> bytes | None:
        """The peer's leaf, DER."""
        return self._tls.getpeercert(binary_form=True)

    def read(self) -> bytes | None:
        """Some plaintext; None where more raw bytes are needed; b"" after close_notify. Raises TlsFailure."""
        if not self._incoming.pending and not self.raw_ended:
            return None  # each read takes a whole record, so TLS holds nothing back; an exception would cost more
        try:
            return self._tls.read(RECORD)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise TlsFailure(describe(error)) from error

    def write(self, plaintext: bytes) -> None:
        """Encrypt; the raw bytes are in take_raw(). Raises TlsFailure."""
        try:
            if len(plaintext) <= RECORD:
                self._tls.write(plaintext)
                return
            records = [self._ready]
            for start in range(0, len(plaintext), RECORD):
                self._tls.write(plaintext[start : start + RECORD])
                records.append(self._outgoing.read())
        except ssl.SSLError as error:
            raise TlsFailure(describe(error)) from error
        self._ready = b"".join(records)

    @property
    def has_raw(self) -> bool:
        """Whether take_raw() has something: reading makes some too, such as the answer to a KeyUpdate."""
        return self._outgoing.pending > 0 or self._ready != b""

    def take_raw(self) -> bytes:
        """What is to go out on the socket, in order."""
        raw = self._outgoing.read()
        if self._ready:
            raw, self._ready = self._ready + raw, b""
        return raw

    def close(self) -> None:
        """Put close_notify behind what was written (RFC 8446, section 6.1)."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):  # it waits for the peer's close_notify, or TLS was never up: either is fine
            return


def describe(error: ssl.SSLError) -> str:
    """OpenSSL's words without its file and line: `certificate verify failed: certificate has expired`."""
    reason = (reason_of(error) or error.strerror or str(error)).replace("_", " ").lower()
    detail = getattr(error, "verify_message", "")
    return f"{reason}: {detail}" if detail else reason


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's name for what happened, such as TLSV1_ALERT_UNKNOWN_CA; "" where it has none.

    CPython 3.11 leaves `reason` empty for reasons that it does not know (the alert no_application_protocol among them),
    and has OpenSSL's words in its message only: `[SSL] tlsv1 alert no application protocol (_ssl.c:1006)`.
    """
    if getattr(error, "reason", None):  # it is missing where the error was not made by OpenSSL
        return error.reason
    words = re.fullmatch(r"(?:\[[^]]*\] )?([a-zA-Z0-9 ]+) \(_ssl\.c:[0-9]+\)", error.strerror or str(error))
    return words[1].replace(" ", "_").upper() if words else ""
