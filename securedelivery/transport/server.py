"""The server: an acceptor, handshake threads, I/O threads, workers; limits at the door, drain and reload."""

import contextlib
import itertools
import os
import select
import socket
import threading
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv6Address

import msgspec
import structlog
from cryptography import x509

from securedelivery.errors import ConfigurationError, Reason, Refusal
from securedelivery.protocol.certificates import uri_names
from securedelivery.transport.departures import Departures
from securedelivery.transport.dispatch import Application, Lane
from securedelivery.transport.io import IOThread
from securedelivery.transport.peer import ENDING_SECONDS, Peer
from securedelivery.transport.tls import ServerSecurity
from securedelivery.transport.workers import Workers

__all__ = ["Limits", "Server"]

_encode = msgspec.json.Encoder().encode

BACKLOG = 4_096  # connections that the kernel holds while the acceptor is busy; it lowers this to net.core.somaxconn
DRAIN_SECONDS = 8.0  # of the 10 that a stop may take: ENDING_SECONDS, LINGER_SECONDS and the sweeps' delay
JOIN_SECONDS = 1.0  # for jobs that nobody waits for any more; the rest is for the database
ROOM = 64  # connections that give way at once where file descriptors have run out
HANDSHAKE_THREADS = 2
REPEAT_SECONDS = 60.0  # between two log lines about one lasting trouble


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[limits]` of the configuration: each bounds what one peer, or all together, can take from the others."""

    connections: int = 20_000
    """Open at once; beyond it they are closed at accept. A quiet one holds about 38 KiB: 20,000 stay under 1 GiB."""
    connections_per_address: int = 256
    """From one IPv4 address or one IPv6 /64: an office behind NAT fits, one machine cannot take all places."""
    handshakes: int = 1_024
    """In progress; beyond it the oldest gives way, so that half-open ones cannot shut the door."""
    handshake_seconds: float = 10.0
    """TLS and inner handshake together (docs/protocol.md, section 4)."""
    frame_seconds: float = 30.0
    """For a frame once begun: 64 KiB at 20 kbit/s. Nobody holds a buffer longer by sending a byte now and then."""
    outstanding_requests: int = 32
    """Unanswered on one connection, then the server reads no further (docs/protocol.md, section 5)."""
    unsent_bytes: int = 4_194_304
    """Waiting for a client that does not read: 32 answers of 64 KiB, twice. Beyond it the client is dropped."""
    idle_seconds: float = 1_800.0
    """Of silence; clients send system.ping every 5 minutes."""
    connection_seconds: float = 86_400.0
    """A day, so that no key lives longer."""
    io_threads: int = 1
    """More do not help while Python runs one thread at a time."""
    workers: int = 8
    """Threads for database reads."""
    password_workers: int = 2
    """Threads for password hashes, each of which takes 64 MiB and a whole core for 0.1 s."""


class Server:
    """Call start(), then stop() from any thread but its own. application: what answers the requests."""

    def __init__(self, application: Application, security: ServerSecurity, limits: Limits) -> None:
        self.application = application
        self.security = security
        self.limits = limits
        self.log = structlog.get_logger("securedelivery.transport")
        # Of each connection at most one call is on a worker or waits for one.
        self._call_workers = Workers("worker", threads=limits.workers, capacity=limits.connections)
        self._password_workers = Workers("password", threads=limits.password_workers, capacity=limits.connections)
        self._pools = (self._call_workers, self._password_workers)
        # Two handshakes at once keep two cores busy, as OpenSSL lets go of the interpreter.
        self._handshake_threads = self._loops("handshake", HANDSHAKE_THREADS)
        self._io_threads = self._loops("io", limits.io_threads)
        self._listener: socket.socket
        self._acceptor = threading.Thread(target=self._accept_all, name="acceptor")
        self._stop_accepting = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._complain_again = 0.0
        self._lock = threading.Lock()  # for the tables below
        self._departure = threading.Condition(self._lock)
        self._peers: dict[Peer, IOThread] = {}
        self._per_address: Counter[str] = Counter()
        self._handshaking: OrderedDict[Peer, None] = OrderedDict()
        self._accounts: defaultdict[int, set[Peer]] = defaultdict(set)
        self._departures = Departures()

    # Life

    def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address in use (port 0 picks a free one). Raises ConfigurationError."""
        try:
            family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._listener = socket.create_server(
                (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=family == socket.AF_INET6 and host == "::"
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one (IDNA)
            raise ConfigurationError(
                f"listen {host}:{port}",
                getattr(error, "strerror", None) or str(error),
                "choose an address of this machine and a port that nobody else uses (--listen HOST:PORT)",
            ) from error
        self._listener.setblocking(False)
        for workers in self._pools:
            workers.start()
        for io in (*self._io_threads, *self._handshake_threads):
            io.start()
        self._acceptor.start()
        address, bound_port = self._listener.getsockname()[:2]
        return address, bound_port

    def stop(self) -> None:
        """Accept no more, tell everyone, answer what is under way, close, join every thread; within 10 seconds.

        A worker that is stuck in a call is left behind, with a line in the log.
        """
        began = time.monotonic()
        os.eventfd_write(self._stop_accepting, 1)
        self._acceptor.join()
        self._listener.close()
        params = {"seconds": int(ENDING_SECONDS)}
        for peer, io in self._snapshot():
            io.post(peer.drain, params)
        with self._departure:
            self._departure.wait_for(lambda: not self._peers, began + DRAIN_SECONDS - time.monotonic())
        ends = time.monotonic() + JOIN_SECONDS
        for workers in self._pools:
            workers.close()
        stuck = [name for workers in self._pools for name in workers.join(max(0.1, ends - time.monotonic()))]
        if stuck:
            self.log.error("! left behind, still busy", threads=stuck)
        for ios in (self._handshake_threads, self._io_threads):  # in this order: the former post to the latter
            for io in ios:
                io.stop()
            for io in ios:
                io.join()
        os.close(self._stop_accepting)

    def use(self, security: ServerSecurity) -> None:
        """Take freshly loaded files for new connections, and hold the open ones against them."""
        self.security = security
        for peer, io in self._snapshot():
            io.post(peer.recheck)

    def _loops(self, name: str, count: int) -> list[IOThread]:
        return [IOThread(f"{name}-{i}", self._report, self.application.begin_writes) for i in range(count)]

    # For the application

    def notify(self, accounts: Iterable[int], method: str, params: object) -> None:
        """Send a notification to every logged-in connection of the accounts. From any thread."""
        directory = self._accounts
        with self._lock:
            concerned = [(account, peer) for account in accounts if account in directory for peer in directory[account]]
        if concerned:
            encoded = msgspec.Raw(_encode(params))
            for account, peer in concerned:
                peer.io.post(peer.tell, account, method, encoded)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is posted to connections in this `with` reaches them at once at its end, and then the next writes begin.

        For one thread, which is the store's writer.
        """
        for io in self._io_threads:
            io.hold()
        try:
            yield
        finally:
            for io in self._io_threads:
                io.post(io.write_waits)
                io.release()

    def review(self, account: int) -> None:
        """The account has changed: have the application look again at each connection it is logged in on, which may
        change or end it. From any thread.
        """
        with self._lock:
            concerned = [(peer, self._peers[peer]) for peer in self._accounts.get(account, ())]
        for peer, io in concerned:
            io.post(peer.review)

    def last_connected(self, account: int) -> datetime | None:
        """When the account was last logged in on a connection: now, if it is. None: not since the start, or many others
        have left since. From any thread.
        """
        with self._lock:
            is_here = account in self._accounts
        return datetime.now(UTC) if is_here else self._departures.last(account)

    # For peers

    def submit_call(self, lane: Lane, job: Callable[[], None], busy: Callable[[Refusal], None]) -> None:
        """Run job on one of the lane's workers, or busy at once where too much is waiting."""
        workers = self._password_workers if lane is Lane.HASHING else self._call_workers
        if not workers.submit(job):
            busy(Refusal(Reason.UNAVAILABLE, "the server is busy: try again in a moment"))

    def opened(self, peer: Peer, outer_leaf: x509.Certificate | None) -> None:
        """The handshake is done. A proxy's connections are many customers', so they do not count for its address."""
        proxies = self.security.policy.trusted_proxies
        with self._lock:
            self._peers[peer] = peer.io
            self._handshaking.pop(peer, None)
            if proxies and outer_leaf is not None and not proxies.isdisjoint(uri_names(outer_leaf)):
                self._release_address(peer)

    def moved(self, peer: Peer, account: int | None) -> None:
        """Another account (None: nobody) is logged in on the connection."""
        with self._lock:
            if peer.account == account:  # it was looked at again, and is who it was
                return
            if peer.account is not None:
                peers = self._accounts[peer.account]
                peers.discard(peer)
                if not peers:
                    del self._accounts[peer.account]
                    self._departures.note(peer.account)
            peer.account = account
            if account is not None:
                self._accounts[account].add(peer)

    def left(self, peer: Peer) -> None:
        with self._lock:
            self._peers.pop(peer, None)
            self._handshaking.pop(peer, None)
            self._release_address(peer)
            if not self._peers:
                self._departure.notify_all()

    # Inside

    def _snapshot(self) -> list[tuple[Peer, IOThread]]:
        with self._lock:
            return list(self._peers.items())

    def _release_address(self, peer: Peer) -> None:
        """With the lock held."""
        if peer.address_slot is not None:
            self._per_address[peer.address_slot] -= 1
            if not self._per_address[peer.address_slot]:
                del self._per_address[peer.address_slot]
            peer.address_slot = None

    def _accept_all(self) -> None:
        turns = itertools.cycle(self._io_threads)
        with contextlib.closing(select.epoll()) as poll:
            poll.register(self._stop_accepting, select.EPOLLIN)
            poll.register(self._listener, select.EPOLLIN)
            while all(fd != self._stop_accepting for fd, _ in poll.poll()):
                self._accept_waiting(turns)

    def _accept_waiting(self, turns: Iterator[IOThread]) -> None:
        for _ in range(BACKLOG):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # out of file descriptors: the kernel keeps the rest until some are free
                if time.monotonic() >= self._complain_again:
                    self._complain_again = time.monotonic() + REPEAT_SECONDS
                    hint = "raise the limit of open files"
                    self.log.error("! cannot accept", error=str(error), hint=hint)  # noqa: TRY400
                self._make_room()
                time.sleep(0.05)
                return
            try:
                self._admit(sock, address[0], next(turns))
            except Exception as error:  # noqa: BLE001 -- a bug costs one connection, not the door
                sock.close()
                self.application.incident(error, "admitting a connection")

    def _make_room(self) -> None:
        """Silent and half-open connections must not keep customers out: the oldest of them go at once."""
        with self._lock:
            oldest = list(itertools.islice(self._handshaking, ROOM))
            going = [(peer, self._peers[peer]) for peer in oldest]
            for peer in oldest:
                del self._handshaking[peer]
        for peer, io in going:
            io.post(peer.give_way)

    def _admit(self, sock: socket.socket, address: str, home: IOThread) -> None:
        slot = _slot(address)
        with self._lock:
            if len(self._peers) >= self.limits.connections:
                refusal = "connections"
            elif self._per_address[slot] >= self.limits.connections_per_address:
                refusal = "connections_per_address"
            else:
                refusal = ""
        if refusal:
            self.log.warning("! refused", remote=address, reason="limit", limit=refusal)
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        io = min(self._handshake_threads, key=lambda one: len(one.peers))  # the same again as long as it keeps up
        peer = Peer(self, io, home, sock, address)
        peer.address_slot = slot
        oldest = None
        with self._lock:
            self._peers[peer] = io
            self._per_address[slot] += 1
            if len(self._handshaking) >= self.limits.handshakes:
                oldest, _ = self._handshaking.popitem(last=False)
                oldest_io = self._peers[oldest]
            self._handshaking[peer] = None
        io.post(peer.adopt)
        if oldest is not None:
            oldest_io.post(oldest.end, "too_slow", "gave way: too many handshakes at once")

    def _report(self, peer: Peer, error: Exception) -> None:
        """A bug in handling one connection: it ends, the others do not notice."""
        self.application.incident(error, f"handling the connection of {peer.address}")
        peer.collapse()


def _slot(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 customer usually gets."""
    if ":" not in address:
        return address
    ip = IPv6Address(address.partition("%")[0])
    return str(ip.ipv4_mapped or (int(ip) >> 64))
