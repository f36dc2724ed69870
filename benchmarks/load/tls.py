"""A connection over mutual TLS 1.3 that is driven by hand: bytes can be sealed long before they are sent."""

import ssl
import sys
from pathlib import Path

from benchmarks.load.loop import dial

RECEIVE_BYTES = 16_384  # a larger buffer would be mapped and unmapped by the kernel each time


class Tls:
    """Made with the certificate of `name`; its handshake is over. alpn: what is spoken inside."""

    def __init__(self, port: int, certs: Path, name: str, alpn: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(certs / "ca.crt")
        context.load_cert_chain(certs / f"clients/{name}.crt", certs / f"clients/{name}.key")
        context.set_alpn_protocols([alpn])
        self.name = name
        self.socket = dial(port)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._shake_hands()

    def seal(self, plaintext: bytes) -> bytes:
        """The records, to be sent in the order in which they were sealed: whenever that is, they hold no time."""
        self._tls.write(plaintext)
        return self._outgoing.read()

    def send(self, records: bytes) -> None:
        if self.socket.send(records) != len(records):
            sys.exit("error: the socket's buffer is full, which cannot be with answers to everything before")

    def receive(self) -> bytes:
        """What is there, opened; b"" where that was no whole record."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            sys.exit(f"error: the server has hung up on {self.name}")
        self._incoming.write(data)
        plaintext = b""
        try:
            while True:
                plaintext += self._tls.read(RECEIVE_BYTES)
        except ssl.SSLWantReadError:
            return plaintext

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(self.socket.recv(RECEIVE_BYTES))
            else:
                self.socket.sendall(self._outgoing.read())
                return
