"""Load of new connections: each does both handshakes, gets its first answer, and stays open until stdin ends.

    python -m benchmarks.load.connect --port P --certs DIR --to ours|echo|login --accounts bench0,bench1
    ... [--connections 200] [--at-once 1]

--to ours: TLS, inner handshake, system.ping right behind AUTH. --to echo: TLS and one echo of as many bytes. --to
login: as ours, and account.login with PASSWORD from an address of its own (127.1.x.y), all of them sent before any is
answered. --accounts: whose certificates they use, in turn. --at-once: how many connect at the same time.
"""

import argparse
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.load.loop import QUIET_SECONDS, Timing, converse
from benchmarks.load.quiet import allow
from securedelivery.protocol.authentication import Credentials
from securedelivery.protocol.certificates import Trust
from securedelivery.protocol.connection import ClientConnection, PeerAuthenticated
from securedelivery.protocol.jsonrpc import Request, Response
from securedelivery.transport.channel import Channel
from securedelivery.transport.tls import client_context, load_credentials, load_trust

Kind = TypeVar("Kind")
PASSWORD = "correct horse battery staple"  # noqa: S105 -- of accounts that live as long as the benchmark
PING_FRAME = 84  # bytes of system.ping and of its answer
RECEIVE_BYTES = 16_384
PING, LOGIN = 1, 2  # ids of the requests


class Service:
    """A connection to the service, from dialling on."""

    def __init__(self, port: int, certs: Path, name: str, source: str) -> None:
        context, credentials, trust = identity(certs, name)
        self.name = name
        self.socket = dial(port, source)
        self._channel = Channel(context, server_hostname="localhost")
        self._core = ClientConnection(credentials, trust, "localhost", lambda: datetime.now(UTC))

    def connect(self) -> None:
        """Up to the answer of system.ping. Raises ConnectionError for anything else."""
        channel, core = self._channel, self._core
        while not channel.handshake():
            self._exchange()
        channel.write(core.send_handshake())
        self._expect(PeerAuthenticated)
        channel.write(core.send_auth() + core.send_request(PING, "system.ping", {}))
        self._flush()
        welcome = self._expect(Request)
        if welcome.method != "system.welcome" or self._answer(PING) != {}:
            raise ConnectionError(f"{self.name} got {welcome} and a wrong answer")

    def ask_login(self) -> None:
        self._channel.write(
            self._core.send_request(LOGIN, "account.login", {"username": self.name, "password": PASSWORD})
        )
        self._flush()

    def is_logged_in(self) -> bool:
        self.socket.settimeout(10 * QUIET_SECONDS)  # for its turn
        account = self._answer(LOGIN)
        return isinstance(account, dict) and account["username"] == self.name

    def _answer(self, number: int) -> object:
        response = self._expect(Response)
        return msgspec.json.decode(response.result) if response.id == number else None

    def _expect(self, kind: type[Kind]) -> Kind:
        while (event := self._core.next_event()) is None:
            plaintext = self._channel.read()
            if plaintext is None:
                self._exchange()
            else:
                self._core.receive_data(plaintext)
        if not isinstance(event, kind):
            raise ConnectionError(f"{self.name} got {event}")
        return event

    def _exchange(self) -> None:
        self._flush()
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError(f"the server has hung up on {self.name}")
        self._channel.feed(data)

    def _flush(self) -> None:
        if self._channel.has_raw:
            self.socket.sendall(self._channel.take_raw())


def dial(port: int, source: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), QUIET_SECONDS, (source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@cache
def identity(certs: Path, name: str) -> tuple[ssl.SSLContext, Credentials, Trust]:
    certificate, key = certs / f"clients/{name}.crt", certs / f"clients/{name}.key"
    context = client_context(certs / "ca.crt", certificate, key, None)
    return context, load_credentials(certificate, key), load_trust(certs / "ca.crt", None)


@cache
def bare_identity(certs: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certs / "ca.crt")
    context.load_cert_chain(certs / f"clients/{name}.crt", certs / f"clients/{name}.key")
    return context


def echoed(port: int, certs: Path, name: str) -> socket.socket:
    """A connection to the echo server with its first answer."""
    tls = bare_identity(certs, name).wrap_socket(dial(port, "127.0.0.1"), server_hostname="localhost")
    message = name.encode().ljust(PING_FRAME, b".")
    tls.sendall(message)
    answer = b""
    while len(answer) < PING_FRAME:
        data = tls.recv(RECEIVE_BYTES)
        if not data:
            break
        answer += data
    if answer != message:
        raise ConnectionError(f"{name} got {answer!r}")
    return tls


class Crowd:
    """connect: makes the connection of a number, counted from 0. All are kept."""

    def __init__(self, connect: Callable[[int], object]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self.kept: list[object] = []
        self.latencies: list[float] = []
        self.errors = 0

    def one(self, number: int) -> None:
        began = time.perf_counter()
        try:
            connection = self._connect(number)
        except Exception as error:  # noqa: BLE001 -- counted and told; each fails the case
            print(f"connection {number}: {error!r}", file=sys.stderr)
            with self._lock:
                self.errors += 1
            return
        with self._lock:
            self.kept.append(connection)
            self.latencies.append((time.perf_counter() - began) * 1e6)

    def come(self, connections: int, at_once: int) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        if at_once == 1:
            for number in range(connections):
                self.one(number)
        else:
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(self.one, range(connections)))
        timing = Timing(time.perf_counter() - began, time.process_time() - cpu, self.latencies or [0.0])
        return {"requests": connections, **timing.as_json(), "errors": self.errors, "checked": connections}


def log_in(crowd: list[Service]) -> dict[str, Any]:
    """All at once: every request is sent before the first answer is looked at."""
    began, cpu = time.perf_counter(), time.process_time()
    for connection in crowd:
        connection.ask_login()
    latencies, errors = [], 0
    for connection in crowd:
        errors += not connection.is_logged_in()
        latencies.append((time.perf_counter() - began) * 1e6)
    timing = Timing(time.perf_counter() - began, time.process_time() - cpu, latencies)
    return {"requests": len(crowd), **timing.as_json(), "errors": errors, "checked": len(crowd)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--to", choices=["ours", "echo", "login"], required=True)
    parser.add_argument("--accounts", required=True)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    allow(options.connections)
    names = options.accounts.split(",")
    for name in names:  # files are read before "go"
        (bare_identity if options.to == "echo" else identity)(options.certs, name)

    def connect(number: int) -> Service:
        source = f"127.1.{number // 250}.{number % 250 + 1}" if options.to == "login" else "127.0.0.1"
        connection = Service(options.port, options.certs, names[number % len(names)], source)
        connection.connect()
        return connection

    if options.to == "login":
        crowd = [connect(number) for number in range(options.connections)]
        converse(lambda: log_in(crowd))
        return
    if options.to == "ours":
        coming = Crowd(connect)
    else:
        coming = Crowd(lambda number: echoed(options.port, options.certs, names[number % len(names)]))
    converse(lambda: coming.come(options.connections, options.at_once))


if __name__ == "__main__":
    main()
