"""What system.ping costs the server, beside a bare TLS echo of as many bytes, in one run, alternating.

    python benchmarks/ping.py [--rounds 5] [--requests 4000] [--connections 8]

The figure is the server's CPU time a request, of all its threads, as the kernel's scheduler counts it: that holds on a
noisy machine where requests a second do not. This process is the load generator. A slow one makes the servers wait,
which costs them no CPU time, so it does not distort the figure.
"""

import argparse
import os
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from securedelivery.protocol.connection import ClientConnection, PeerAuthenticated
from securedelivery.transport.channel import Channel
from securedelivery.transport.tls import client_context, load_credentials, load_trust

HERE = Path(__file__).parent
GOAL = 1.5
MESSAGE = 84  # bytes of a frame with system.ping, and of its answer: header, 64 padded, tag


def now() -> datetime:
    return datetime.now(UTC)


class Frames:
    """A connection to the service, driven by hand: one ping at a time."""

    def __init__(self, certs: Path, port: int) -> None:
        key = certs / "clients/bench.key"
        certificate = certs / "clients/bench.crt"
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = client_context(certs / "ca.crt", certificate, key, None)
        self._channel = Channel(context, server_hostname="localhost")
        while not self._channel.handshake():
            self._exchange()
        self._core = ClientConnection(
            load_credentials(certificate, key), load_trust(certs / "ca.crt", None), "localhost", now
        )
        self._channel.write(self._core.send_handshake())
        self._exchange()
        while not isinstance(self._next_event(), PeerAuthenticated):
            self._exchange()
        self._channel.write(self._core.send_auth())
        self._exchange()
        self._next_event()  # system.welcome

    def ask(self) -> None:
        self._channel.write(self._core.send_request(1, "system.ping", {}))
        self.socket.sendall(self._channel.take_raw())

    def take(self) -> int:
        """How many answers the socket's bytes complete."""
        self._channel.feed(self.socket.recv(65_536))
        answers = 0
        while self._next_event() is not None:
            answers += 1
        return answers

    def _exchange(self) -> None:
        self.socket.sendall(self._channel.take_raw())
        self._channel.feed(self.socket.recv(65_536))

    def _next_event(self) -> object | None:
        while (event := self._core.next_event()) is None:
            plaintext = self._channel.read()
            if plaintext is None:
                return None
            self._core.receive_data(plaintext)
        return event


class Echo:
    """A connection to the echo server."""

    def __init__(self, certs: Path, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certs / "ca.crt")
        context.load_cert_chain(certs / "clients/bench.crt", certs / "clients/bench.key")
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self.ask()
        self.socket.recv(65_536)  # so that the server's side of the handshake is over too

    def ask(self) -> None:
        self.socket.sendall(bytes(MESSAGE))

    def take(self) -> int:
        return len(self.socket.recv(65_536)) // MESSAGE


def cpu_seconds(pid: int) -> float:
    """CPU time of all living threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def server(command: list[str], first_line: Callable[[str], int]) -> Iterator[tuple[int, int]]:
    """A server of its own process; gives its process id and port."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, first_line(process.stdout.readline())
        finally:
            process.terminate()


def measure(pid: int, connections: list[Frames] | list[Echo], requests: int) -> tuple[float, float]:
    """Server CPU seconds a request, and requests a second, each connection with one request out at a time."""
    by_fd = {connection.socket.fileno(): connection for connection in connections}
    missing = dict.fromkeys(by_fd, requests)
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        began, cpu = time.perf_counter(), cpu_seconds(pid)
        for connection in connections:
            connection.ask()
        while missing:
            for fd, _ in poll.poll():
                missing[fd] -= by_fd[fd].take()
                if missing[fd]:
                    by_fd[fd].ask()
                else:
                    del missing[fd]
                    poll.unregister(fd)
        total = requests * len(connections)
        return (cpu_seconds(pid) - cpu) / total, total / (time.perf_counter() - began)


def make_certificates(certs: Path) -> None:
    script = HERE.parent / "gen_certs.sh"
    for arguments in ([], ["client", "bench"]):
        subprocess.run(["/bin/bash", script, "--dir", certs, *arguments], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4_000, help="for each connection")
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        certs = Path(folder) / "certs"
        make_certificates(certs)
        service = [
            *(sys.executable, "-m", "securedelivery", "serve", "--listen", "127.0.0.1:0", "--certs", str(certs)),
            *("--database", f"sqlite:///{folder}/bench.db"),
        ]
        echo = [sys.executable, str(HERE / "echo_server.py"), str(certs)]
        ratios = []
        for number in range(options.rounds):
            with server(echo, int) as (pid, port):
                connections = [Echo(certs, port) for _ in range(options.connections)]
                floor, floor_rate = measure(pid, connections, options.requests)
            with server(service, lambda line: int(line.rpartition(":")[2])) as (pid, port):
                ours, our_rate = measure(
                    pid, [Frames(certs, port) for _ in range(options.connections)], options.requests
                )
            ratios.append(ours / floor)
            print(
                f"round {number + 1}: echo {floor * 1e6:5.1f} us ({floor_rate:,.0f}/s)   "
                f"system.ping {ours * 1e6:5.1f} us ({our_rate:,.0f}/s)   ratio {ratios[-1]:.2f}"
            )
    median = statistics.median(ratios)
    print(
        f"server CPU of system.ping / bare TLS echo: median {median:.2f}, {min(ratios):.2f} to {max(ratios):.2f} "
        f"(goal: at most {GOAL}; {os.cpu_count()} CPUs, Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION})"
    )
    return int(median > GOAL)


if __name__ == "__main__":
    sys.exit(main())
