"""Connections made in memory by the real TLS and the real cores, recorded; cut and altered where asked."""

import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from certificate_authority import CertificateAuthority
from protocol.pair import Shop, drain

from securedelivery.protocol.connection import ALPN
from securedelivery.wireshark import pcapng
from securedelivery.wireshark.capture import Capture
from securedelivery.wireshark.tcp import Endpoint

SERVER = Endpoint("192.0.2.1", 5555)
CLIENT = Endpoint("192.0.2.10", 40_001)
HEADER = 4


class Studio:
    """A shop with its TLS contexts, and one capture for all its connections."""

    def __init__(self, folder: Path) -> None:
        authority = CertificateAuthority()
        self.shop = Shop(authority, authority.server(), authority.client())
        self.capture = Capture()
        self.folder = folder
        self.key_log = folder / "tls-keys.log"
        authority.write(folder / "ca", self.shop.host)
        self.shop.alice.write(folder / "alice.crt", folder / "alice.key")
        self._server_context = self._context(
            ssl.PROTOCOL_TLS_SERVER, folder / "ca/server.crt", folder / "ca/server.key"
        )
        self._client_context = self._context(ssl.PROTOCOL_TLS_CLIENT, folder / "alice.crt", folder / "alice.key")
        self._client_context.keylog_filename = str(self.key_log)

    def line(self, client: Endpoint = CLIENT, server: Endpoint = SERVER, *, alpn: bool = True) -> "Line":
        """A new connection with its TLS handshake done. alpn: whether it is agreed on in it."""
        names = [ALPN] if alpn else []
        self._server_context.set_alpn_protocols(names)
        self._client_context.set_alpn_protocols(names)
        return Line(self, self._client_context, self._server_context, client, server)

    def write(
        self,
        *,
        tls_keys: bool = True,
        comments: Mapping[int, Sequence[str]] | None = None,
        packets: Iterable[int] | None = None,
    ) -> Path:
        """The capture as a file. comments: by packet number, from 1; packets: the numbers of those that are in it."""
        kept = set(packets) if packets is not None else set(range(1, len(self.capture.packets) + 1))
        parts = [pcapng.section_header("tests"), pcapng.interface(pcapng.ETHERNET, "wire")]
        if tls_keys:
            parts.append(pcapng.tls_secrets(self.key_log.read_text()))
        parts += [
            pcapng.packet(one.data, at=one.at, comments=(comments or {}).get(number, ()))
            for number, one in enumerate(self.capture.packets, start=1)
            if number in kept
        ]
        path = self.folder / "capture.pcapng"
        path.write_bytes(b"".join(parts))
        return path

    def _context(self, protocol: "ssl._SSLMethod", certificate: Path, key: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.set_ecdh_curve("X25519")  # whatever an OpenSSL would choose: each hello is in one packet
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.folder / "ca/ca.crt")
        context.load_cert_chain(certificate, key)
        return context


@dataclass(frozen=True)
class _Side:
    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO


def _side(context: ssl.SSLContext, *, server_side: bool) -> _Side:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    name = None if server_side else "localhost"
    return _Side(
        context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=name), incoming, outgoing
    )


class Line:
    """One recorded connection. Its cores make frames; what goes into TLS is up to the test.

    syn: the number of the first packet. frame_keys: the lines of its frame key log, after greet().
    """

    def __init__(
        self,
        studio: Studio,
        client_context: ssl.SSLContext,
        server_context: ssl.SSLContext,
        client: Endpoint,
        server: Endpoint,
    ) -> None:
        self.syn = len(studio.capture.packets) + 1
        self.flow = studio.capture.flow(client, server)
        self.client, self.server = studio.shop.client(), studio.shop.server()
        self.frame_keys = ""
        self._sides = {True: _side(client_context, server_side=False), False: _side(server_context, server_side=True)}
        done: set[bool] = set()
        while len(done) < 2:
            for from_client in (True, False):
                try:
                    self._sides[from_client].tls.do_handshake()
                    done.add(from_client)
                except ssl.SSLWantReadError:
                    pass
                self._flush(from_client)

    def send(self, from_client: bool, data: bytes, *, record: int = 16_384, together: bool = True) -> None:
        """Send data in TLS records of that many bytes; together: in as few TCP segments as possible."""
        for start in range(0, len(data), record):
            self._sides[from_client].tls.write(data[start : start + record])
            if not together:
                self._flush(from_client)
        self._flush(from_client)

    def hello(self) -> bytes:
        """The client's HANDSHAKE, taken by the server's core; to be sent."""
        handshake = self.client.send_handshake()
        self.server.receive_data(handshake)
        drain(self.server)
        return handshake

    def flight(self, hello: bytes) -> bytes:
        """The server's HANDSHAKE and AUTH, taken by the client's core; to be sent."""
        flight = self.server.send_handshake()
        self.client.receive_data(flight)
        drain(self.client)
        assert self.server._sending is not None
        e = hello[HEADER : HEADER + 32].hex()
        self.frame_keys = (
            f"SD_FRAME_KEY_C2S {e} {self.server._receiving.key.hex()}\n"
            f"SD_FRAME_KEY_S2C {e} {self.server._sending.key.hex()}\n"
        )
        return flight

    def proof(self) -> bytes:
        """The client's AUTH, taken by the server's core; to be sent."""
        auth = self.client.send_auth()
        self.server.receive_data(auth)
        drain(self.server)
        return auth

    def greet(self, *, record: int = 16_384, together: bool = True) -> None:
        """The whole inner handshake and system.welcome."""
        hello = self.hello()
        self.send(True, hello, record=record, together=together)
        self.send(False, self.flight(hello), record=record, together=together)
        self.send(True, self.proof(), record=record, together=together)
        welcome = {"session": self.server.session.hex(), "identity": None, "server": "securedelivery/test"}
        self.send(False, self.server.send_notification("system.welcome", welcome), record=record, together=together)

    def ask(self, number: int, method: str = "system.ping", **params: object) -> bytes:
        return self.client.send_request(number, method, params)

    def answer(self, number: int, **result: object) -> bytes:
        return self.server.send_result(number, result)

    def close(self) -> None:
        """Both CLOSE, both close_notify, both FIN."""
        for from_client, core in ((True, self.client), (False, self.server)):
            self.send(from_client, core.send_close("bye"))
        for from_client in (True, False):
            self.hang_up(from_client)

    def hang_up(self, from_client: bool) -> None:
        """close_notify and FIN of one side."""
        with suppress(ssl.SSLWantReadError, ssl.SSLSyscallError):  # the other side's close_notify is not there yet
            self._sides[from_client].tls.unwrap()
        self._flush(from_client)
        self.flow.finished(from_client)

    def raw(self, from_client: bool, data: bytes) -> None:
        """Bytes of TCP that TLS has not made; the other side does not see them."""
        self.flow.sent(from_client, data)

    def _flush(self, from_client: bool) -> None:
        data = self._sides[from_client].outgoing.read()
        if data:
            self.flow.sent(from_client, data)
            other = self._sides[not from_client]
            other.incoming.write(data)
            self._drain(other)

    def _drain(self, side: _Side) -> None:
        with suppress(ssl.SSLError):  # it wants more, or is not so far yet
            while side.tls.version() is not None and side.tls.read():
                pass
