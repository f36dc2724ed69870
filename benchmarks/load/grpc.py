"""Load for gRPC: unary calls over HTTP/2 and mutual TLS 1.3, a connection each, one call out on each.

    python -m benchmarks.load.grpc --port P --certs DIR [--what ping|order] [--connections 8] [--requests 1000]

grpcio's own client takes as much CPU as its server, and on two cores each would measure the other; so the frames are
written by hand, once, before "go" (RFC 9113; what a call needs of it is little): HEADERS and DATA of a call are
what grpcio's client sends, with the header fields in the connection's dynamic table from the second call on. In the
measured part frames are sealed and sent, and the answers' frames counted; pings and settings of the server are
acknowledged, its flow control is obeyed. The answers are parsed by protobuf when the clock has stopped.
"""

import argparse
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Any

from google.protobuf.message import Message

from benchmarks import order
from benchmarks.load.loop import converse, run
from benchmarks.load.tls import Tls
from benchmarks.peers.messages import messages

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
HEAD = Struct(">BHBBI")  # length in 8 and 16 bits, type, flags, stream (RFC 9113, section 4.1)
PREFIX = Struct(">BI")  # of a gRPC message: not compressed, length
INITIAL_WINDOW = 65_535
MOST = 2**31 - 1
OUR_SETTINGS = Struct(">HIHI").pack(0x2, 0, 0x4, MOST)  # no push; any amount of answers

FIELDS = (
    (":path", "/shop.Shop/{method}"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
    ("user-agent", "grpc-python/1.85 grpc-c/1.85 (linux; chttp2)"),
)
POST_HTTPS = bytes((0x83, 0x87))  # `:method: POST` and `:scheme: https` of HPACK's static table (RFC 7541, appendix A)
NEWEST = 0x80 | 62  # the dynamic table's newest field, as an index


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return HEAD.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


def literal(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def first_headers(method: str) -> bytes:
    """The header block of the first call: literals that go into the dynamic table."""
    fields = b"".join(b"\x40" + literal(name) + literal(value.format(method=method)) for name, value in FIELDS)
    return POST_HTTPS + fields


def later_headers() -> bytes:
    """That of every further call: the same fields, by their place in the table."""
    return POST_HTTPS + bytes(NEWEST + place for place in reversed(range(len(FIELDS))))


class Connection(Tls):
    def __init__(self, port: int, certs: Path, name: str) -> None:
        super().__init__(port, certs, name, "h2")
        self.left = 0
        self.answers: dict[int, bytes] = defaultdict(bytes)
        """gRPC messages with their prefix, by stream."""
        self._calls: Iterator[bytes] = iter(())
        self._sizes: Iterator[int] = iter(())
        self._window = INITIAL_WINDOW
        self._buffer = b""
        settings = frame(SETTINGS, 0, 0, OUR_SETTINGS)
        wide = frame(WINDOW_UPDATE, 0, 0, (MOST - INITIAL_WINDOW).to_bytes(4))
        self.send(self.seal(PREFACE + settings + wide))

    def prepare(self, method: str, calls: Sequence[Message]) -> None:
        frames, sizes = [], []
        headers = first_headers(method)
        for number, call in enumerate(calls):
            stream, body = 2 * number + 1, call.SerializeToString()
            data = PREFIX.pack(0, len(body)) + body
            frames.append(frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, data))
            sizes.append(len(data))
            headers = later_headers()
        self._calls, self._sizes, self.left = iter(frames), iter(sizes), len(frames)

    def ask(self) -> None:
        self.left -= 1
        self._window -= next(self._sizes)
        if self._window < 0:
            sys.exit("error: the server has not opened its window again")
        self.send(self.seal(next(self._calls)))

    def take(self) -> bool:
        """Whether the call that is out has ended, well or not."""
        self._buffer += self.receive()
        buffer, position, ended = self._buffer, 0, False
        while len(buffer) - position >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(buffer, position)
            start = position + HEAD.size
            end = start + (high << 16 | low)
            if end > len(buffer):
                break
            position = end
            if kind == DATA:
                self.answers[stream] += buffer[start:end]
            elif kind == HEADERS:
                ended = ended or bool(flags & END_STREAM)
            else:
                self._control(kind, flags, stream, buffer[start:end])
        self._buffer = buffer[position:]
        return ended

    def _control(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._window += 0 if stream else int.from_bytes(body)
        elif kind in {PING, SETTINGS}:
            if not flags & ACK:
                self.send(self.seal(frame(kind, ACK, 0, body if kind == PING else b"")))
        elif kind in {RST_STREAM, GOAWAY}:
            sys.exit(f"error: the server ends it: {body!r}")


def ping(_seed: str, number: int) -> Message:
    return messages.PingMessage(number=number)


def placement(seed: str, number: int) -> Message:
    lines = [{"sku": product.sku, "quantity": quantity} for product, quantity in order.lines(number)]
    return messages.PlaceOrder(idempotency_key=f"{seed}-{number}", lines=lines, address=order.ADDRESS)


def right(name: str, call: Any, answer: bytes) -> bool:
    """Whether an answer is what it should be."""
    if len(answer) < PREFIX.size or PREFIX.unpack_from(answer) != (0, len(answer) - PREFIX.size):
        return False
    body = answer[PREFIX.size :]
    if call.DESCRIPTOR is messages.PingMessage.DESCRIPTOR:
        return bool(messages.PingMessage.FromString(body) == call)
    said = messages.Order.FromString(body)
    number = int(call.idempotency_key.rpartition("-")[2])
    return bool(
        [(line.sku, line.quantity) for line in said.lines] == [(line.sku, line.quantity) for line in call.lines]
        and said.account == name
        and said.total == order.total(number)
        and said.address == call.address
    )


WHAT = {"ping": ("Ping", ping), "order": ("Place", placement)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--what", choices=WHAT, default="ping")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=1_000, help="of all connections together")
    options = parser.parse_args()
    method, make = WHAT[options.what]
    seed = uuid.uuid4().hex
    asked: list[tuple[Connection, list[Message]]] = []
    for index in range(options.connections):
        connection = Connection(options.port, options.certs, order.customer(index))
        calls = [make(seed, number) for number in range(index, options.requests, options.connections)]
        connection.prepare(method, calls)
        asked.append((connection, calls))

    def work() -> dict[str, Any]:
        timing = run([connection for connection, _ in asked])
        errors = checked = 0
        for connection, calls in asked:
            for number, call in enumerate(calls):
                checked += 1
                answer = connection.answers[2 * number + 1]
                if not right(connection.name, call, answer):
                    errors += 1
                    print(f"{connection.name}: {call} was answered {answer!r}", file=sys.stderr)
        return {"requests": options.requests, **timing.as_json(), "errors": errors, "checked": checked}

    converse(work)


if __name__ == "__main__":
    main()
