"""Load for securedelivery: TLS, frames and JSON-RPC, all sealed before "go".

    python -m benchmarks.load.ours --port P --certs DIR --what ping|order [--connections 8] [--requests 1000]
    python -m benchmarks.load.ours --port P --certs DIR --calls FILE ...

--what order places orders (benchmarks.order). --calls FILE has a line of JSON a request, {"method": ..., "params":
{...}}, taken in turn by all connections, and again from the top. --window N sends N requests in one TLS record and the
next N when all are answered. Connection i has the account and certificate bench<i>, or all have that of --account.
"""

import argparse
import functools
import itertools
import json
import socket
import ssl
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from struct import Struct
from typing import Any

import msgspec

from benchmarks import order
from benchmarks.load.loop import converse, dial, run
from securedelivery.protocol.authentication import Credentials
from securedelivery.protocol.certificates import Trust
from securedelivery.protocol.connection import ClientConnection, PeerAuthenticated
from securedelivery.protocol.frames import HEADER, HEADER_LENGTH
from securedelivery.protocol.jsonrpc import Request, Response
from securedelivery.transport.channel import Channel
from securedelivery.transport.tls import client_context, load_credentials, load_trust

RECEIVE_BYTES = 16_384  # a larger buffer would be mapped and unmapped by the kernel each time
RECORD = Struct(">BHH")  # TLS: type, version, length (RFC 8446, section 5.1)
RECORD_EXTRA = 17  # bytes of a TLS 1.3 record beside the plaintext: the type and the tag
PING_FRAME = 84  # bytes of an answer to system.ping

Call = tuple[str, dict[str, Any]]
"""Method and parameters."""


@functools.cache
def identity(certs: Path, name: str) -> tuple[ssl.SSLContext, Credentials, Trust]:
    """What an account's connections read from files, once for all of them."""
    ca, certificate, key = certs / "ca.crt", certs / f"clients/{name}.crt", certs / f"clients/{name}.key"
    return client_context(ca, certificate, key, None), load_credentials(certificate, key), load_trust(ca, None)


class Connection:
    """One connection, from dialling to the last answer.

    behind: notifications that follow each answer. answer_bytes: of each frame that comes, where all are of one size;
    then even TLS is opened after the run.
    """

    def __init__(self, port: int, certs: Path, name: str, *, behind: int = 0, answer_bytes: int | None = None) -> None:
        context, credentials, trust = identity(certs, name)
        self.name = name
        self.behind = behind
        self._answer_bytes = answer_bytes
        self.socket: socket.socket = dial(port)
        self._channel = Channel(context, server_hostname="localhost")
        self._core = ClientConnection(credentials, trust, "localhost", lambda: datetime.now(UTC))
        self._ids = itertools.count(1)
        self._raw: Iterator[bytes] = iter(())
        self._rest = b""  # the beginning of a frame
        self._arrived: list[bytes] = []  # what came in the run, to be opened afterwards
        self._plain_bytes = 0
        self._frames = self._due = self._window = self._unsent = 0
        self.left = 0
        self.calls: dict[int, Call] = {}
        self.bytes_out = self.bytes_in = 0  # of frames, in the run
        self._shake_hands()

    def call(self, method: str, params: dict[str, Any]) -> Any:
        """One call with its answer at once, before the run. Notifications are passed over."""
        self._channel.write(self._core.send_request(next(self._ids), method, params))
        self._flush()
        while not isinstance(event := self._wait(), Response):
            if not isinstance(event, Request):
                sys.exit(f"error: {method} was answered with {event}")
        return msgspec.json.decode(event.result)

    def prepare(self, calls: list[Call], window: int) -> None:
        """Seal all calls: frames and, `window` of them each, TLS records."""
        raw = []
        for first in range(0, len(calls), window):
            frames = []
            for call in calls[first : first + window]:
                number = next(self._ids)
                self.calls[number] = call
                frames.append(self._core.send_request(number, *call))
            plaintext = b"".join(frames)
            self.bytes_out += len(plaintext)
            self._channel.write(plaintext)
            raw.append(self._channel.take_raw())
        self._raw, self.left, self._window = iter(raw), len(raw), window
        self._unsent = len(calls)

    def ask(self) -> None:
        self.left -= 1
        now = min(self._window, self._unsent)
        self._unsent -= now
        self._due += now * (1 + self.behind)
        data = next(self._raw)
        if self.socket.send(data) != len(data):
            sys.exit("error: the socket's buffer is full, which cannot be with answers to everything before")

    def take(self) -> bool:
        """With one request outstanding the first frame is its answer, else all frames have to be there."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            sys.exit(f"error: the server has hung up on {self.name}")
        if self._answer_bytes is not None:
            self._arrived.append(data)
            self._count_records(data)
            return self._plain_bytes >= self._due * self._answer_bytes
        self._channel.feed(data)
        self._count_frames()
        return self._frames >= self._due - (self.behind if self._window == 1 else 0)

    def _count_records(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        while end - position >= RECORD.size:
            length = RECORD.unpack_from(data, position)[2]
            if position + RECORD.size + length > end:
                break
            position += RECORD.size + length
            self._plain_bytes += length - RECORD_EXTRA
        self._rest = data[position:]

    def _count_frames(self) -> None:
        while (chunk := self._channel.read()) is not None:
            self._arrived.append(chunk)
            if self._rest:
                chunk = self._rest + chunk
            position, end = 0, len(chunk)
            while end - position >= HEADER_LENGTH:
                following = position + HEADER_LENGTH + HEADER.unpack_from(chunk, position)[2]
                if following > end:
                    break
                position = following
                self._frames += 1
            self._rest = chunk[position:]

    def answers(self) -> dict[int, object]:
        """Open everything that came in the run: the answers by id; and wait for the notifications behind the last."""
        if self._answer_bytes is not None:
            for data in self._arrived:
                self._channel.feed(data)
            self.bytes_in = self._plain_bytes
        else:
            for chunk in self._arrived:
                self._core.receive_data(chunk)
            self.bytes_in = sum(map(len, self._arrived))
        self._arrived.clear()
        self.socket.settimeout(10)
        found: dict[int, object] = {}
        for _ in range(self._due):
            event = self._wait()
            if isinstance(event, Response) and isinstance(event.id, int):
                found[event.id] = msgspec.json.decode(event.result)
            elif not isinstance(event, Request):
                print(f"{self.name}: {event}", file=sys.stderr)
        return found

    def _shake_hands(self) -> None:
        channel, core = self._channel, self._core
        while not channel.handshake():
            self._exchange()
        channel.write(core.send_handshake())
        while not isinstance(self._wait(), PeerAuthenticated):
            pass
        channel.write(core.send_auth())
        welcome = self._wait()
        assert isinstance(welcome, Request), welcome

    def _wait(self) -> object:
        """The next event."""
        while (event := self._core.next_event()) is None:
            plaintext = self._channel.read()
            if plaintext is None:
                self._exchange()
            else:
                self._core.receive_data(plaintext)
        return event

    def _exchange(self) -> None:
        self._flush()
        self._channel.feed(self.socket.recv(RECEIVE_BYTES))

    def _flush(self) -> None:
        if self._channel.has_raw:
            self.socket.sendall(self._channel.take_raw())


def pings() -> Iterator[Call]:
    while True:
        yield "system.ping", {}


def placements(seed: str, connection: int, connections: int) -> Iterator[Call]:
    """The orders of one connection: numbers connection, connection + connections, ..."""
    for number in itertools.count(connection, connections):
        yield "order.place", placement(seed, number)


def placement(seed: str, number: int) -> dict[str, Any]:
    return {
        "idempotency_key": f"{seed}-{number}",
        "lines": [{"sku": product.sku, "quantity": quantity} for product, quantity in order.lines(number)],
        "address": order.ADDRESS,
    }


def right(call: Call, result: object, account: str) -> bool:
    """Whether an answer is what it should be, and this account's; of calls from a file, that there is a result."""
    method, params = call
    if method == "system.ping":
        return result == {}
    if method == "order.place":
        number = int(params["idempotency_key"].rpartition("-")[2])
        return (
            isinstance(result, dict)
            and result["account"] == account
            and result["total"] == order.total(number)
            and result["address"] == params["address"]
            and [(one["sku"], one["quantity"]) for one in result["lines"]]
            == [(one["sku"], one["quantity"]) for one in params["lines"]]
        )
    return result is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--what", choices=["ping", "order"], default="ping")
    parser.add_argument("--calls", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=1_000, help="of all connections together")
    parser.add_argument("--window", type=int, default=1, help="requests outstanding on a connection")
    parser.add_argument("--behind", type=int, help="notifications that the server sends behind an answer")
    parser.add_argument("--account", help="the one account of all connections, instead of bench0, bench1, ...")
    parser.add_argument("--rate", type=float, help="sendings a second, paced; else as fast as the answers come")
    options = parser.parse_args()
    ordering = options.calls is None and options.what == "order"
    behind = options.behind if options.behind is not None else (2 if ordering else 0)  # order and rewards have changed
    pinging = options.calls is None and not ordering
    answer_bytes = PING_FRAME if pinging else None
    connections = [
        Connection(
            options.port, options.certs, options.account or f"bench{i}", behind=behind, answer_bytes=answer_bytes
        )
        for i in range(options.connections)
    ]
    seed = uuid.uuid4().hex
    listed = (
        [(call["method"], call["params"]) for call in map(json.loads, options.calls.read_text().splitlines())]
        if options.calls
        else []
    )
    for index, connection in enumerate(connections):
        if ordering or options.calls:
            connection.call("account.login_certificate", {})
        if listed:
            calls: Iterator[Call] = itertools.islice(itertools.cycle(listed), index, None, len(connections))
        elif ordering:
            calls = placements(seed, index, len(connections))
        else:
            calls = pings()
        share = len(range(index, options.requests, len(connections)))
        connection.prepare(list(itertools.islice(calls, share)), options.window)

    def work() -> dict[str, Any]:
        timing = run(connections, options.rate)
        errors = checked = 0
        for connection in connections:
            found = connection.answers()
            for number, call in connection.calls.items():
                checked += 1
                if number not in found or not right(call, found[number], connection.name):
                    errors += 1
                    print(f"{connection.name}: {call} was answered {found.get(number)}", file=sys.stderr)
        requests = sum(len(connection.calls) for connection in connections)
        return {
            "requests": requests,
            **timing.as_json(),
            "errors": errors,
            "checked": checked,
            "paced": options.rate is not None,
            "request_bytes": sum(one.bytes_out for one in connections) / requests,
            "answer_bytes": sum(one.bytes_in for one in connections) / requests,
        }

    converse(work)


if __name__ == "__main__":
    main()
