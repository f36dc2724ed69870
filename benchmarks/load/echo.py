"""Load for the bare TLS echo: as many bytes as ours, likewise encrypted before "go".

    python -m benchmarks.load.echo --port P --certs DIR [--bytes 84] [--answer BYTES] [--connections 8] [--requests N]

--answer: what the server was told; by default it sends back what it gets. --requests: of all connections together.
"""

import argparse
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.load.loop import converse, dial, run

RECORD = 16_384  # the most plaintext that one TLS record holds (RFC 8446, section 5.1)
RECORD_EXTRA = 22  # bytes of a TLS 1.3 record beside the plaintext: its header, the type and the tag
RECEIVE_BYTES = 16_384  # a larger buffer would be mapped and unmapped by the kernel each time


class Connection:
    def __init__(self, port: int, certs: Path, *, answer: int, echoed: bool) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certs / "ca.crt")
        context.load_cert_chain(certs / "clients/bench.crt", certs / "clients/bench.key")
        self.socket = dial(port)
        self.left = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._answer = answer
        self._echoed = echoed
        self._raw: Iterator[bytes] = iter(())
        self._got = self._due = 0
        self._arrived: list[bytes] = []
        self._shake_hands()

    def prepare(self, requests: int, size: int) -> None:
        raw = []
        for number in range(requests):
            self._tls.write(self._message(number, size))
            raw.append(self._outgoing.read())
        self._raw, self.left = iter(raw), requests

    def ask(self) -> None:
        self.left -= 1
        self._due += self._answer + RECORD_EXTRA
        self.socket.send(next(self._raw))

    def take(self) -> bool:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            sys.exit("error: the echo server has hung up")
        self._arrived.append(data)
        self._got += len(data)
        return self._got >= self._due

    def wrong(self, requests: int) -> int:
        """How many answers are not what was asked."""
        got = self._open()
        if not self._echoed:
            return abs(len(got) // self._answer - requests)
        size = self._answer
        return sum(got[n * size : (n + 1) * size] != self._message(n, size) for n in range(requests))

    @staticmethod
    def _message(number: int, size: int) -> bytes:
        return number.to_bytes(4).ljust(size, b".")

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(self.socket.recv(RECEIVE_BYTES))
            else:
                break
        # One exchange, so that the server's side of the handshake is over too.
        self._tls.write(self._message(0, self._answer))
        self.socket.sendall(self._outgoing.read())
        self._due = self._answer + RECORD_EXTRA
        while not self.take():
            pass
        self._open()
        self._got = self._due = 0

    def _open(self) -> bytes:
        """The plaintext of all that has arrived."""
        plain = []
        for data in self._arrived:
            self._incoming.write(data)
        self._arrived.clear()
        while self._incoming.pending or self._tls.pending():
            plain.append(self._tls.read(RECORD))
        return b"".join(plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--bytes", type=int, default=84)
    parser.add_argument("--answer", type=int)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--rate", type=float, help="a second, paced; else as fast as the answers come")
    options = parser.parse_args()
    answer = options.bytes if options.answer is None else options.answer
    connections = [
        Connection(options.port, options.certs, answer=answer, echoed=options.answer is None)
        for _ in range(options.connections)
    ]
    shares = [len(range(index, options.requests, options.connections)) for index in range(options.connections)]
    for connection, share in zip(connections, shares, strict=True):
        connection.prepare(share, options.bytes)

    def work() -> dict[str, Any]:
        timing = run(connections, options.rate)
        errors = sum(connection.wrong(share) for connection, share in zip(connections, shares, strict=True))
        return {
            "requests": options.requests,
            **timing.as_json(),
            "errors": errors,
            "checked": options.requests,
            "paced": options.rate is not None,
        }

    converse(work)


if __name__ == "__main__":
    main()
