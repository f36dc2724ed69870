"""What the tests put around a server: an application that does what it is told, a log to wait on, a watched epoll."""

import queue
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from certificate_authority import TRUST_DOMAIN, CertificateAuthority, Issued
from transport.driver import PATIENCE, Client, context_of, dial

from securedelivery.errors import Reason, Refusal
from securedelivery.protocol.jsonrpc import Request
from securedelivery.transport.dispatch import Caller, Ending, Lane, Outcome, SessionChange
from securedelivery.transport.io import IOThread
from securedelivery.transport.peer import Peer
from securedelivery.transport.server import Limits, Server
from securedelivery.transport.tls import ServerFiles, ServerSecurity


class Log:
    """A structlog processor that keeps every line, to be waited for."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, _logger: object, level: str, event: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            self.lines.append({"level": level, **event})
            self._changed.notify_all()
        raise structlog.DropEvent

    def find(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Lines whose event contains event and that have the fields."""
        return [
            line
            for line in list(self.lines)
            if event in line["event"] and all(line.get(key) == value for key, value in fields.items())
        ]

    def wait_for(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.find(event, **fields)) >= count, PATIENCE)
        assert arrived, f"no {count} x {event} {fields} in {self.lines}"
        return self.find(event, **fields)[-1]


class Puppet:
    """An application. The first word of a method is its lane, the second what it does.

    ping: {}. big(size): a result of that size. odd: a result that is no text. fail: raises. refuse: a Refusal.
    login(account), logout: a SessionChange. who: the caller. wait: blocks until go(); as a write: until commit().
    """

    server_name = "puppet/1"

    def __init__(self) -> None:
        self.began: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.effects: list[str] = []
        self.incidents: list[str] = []
        self.gate = threading.Event()
        self.standing: dict[int, SessionChange | Ending | Exception] = {}
        """What a review of an account finds, where that is not what it was."""
        self._writes: queue.SimpleQueue[Callable[[Outcome], None]] = queue.SimpleQueue()
        self.begun = threading.Event()

    def lane(self, method: str) -> Lane:
        lane = method.partition(".")[0]
        return Lane(lane) if lane in {one.value for one in Lane} else Lane.INLINE

    def answer(self, caller: Caller, request: Request) -> Outcome:
        params = msgspec.json.decode(request.params)
        self._note(request)
        answer: Outcome = {}
        match request.method.partition(".")[2]:
            case "ping":
                pass
            case "big":
                answer = "x" * params["size"]
            case "odd":
                answer = "\ud800"
            case "fail":
                raise RuntimeError("a bug")
            case "refuse":
                answer = Refusal(Reason.FORBIDDEN, "no")
            case "login":
                answer = SessionChange({}, params["account"], params["account"])
            case "logout":
                answer = SessionChange({}, None, None)
            case "who":
                answer = {"session": caller.session, "identity": caller.identity and caller.identity.name}
            case "wait":
                self.gate.wait()
            case _:
                answer = Refusal(Reason.METHOD_NOT_FOUND, "no such method")
        return answer

    def submit(self, caller: Caller, request: Request, done: Callable[[Outcome], None]) -> None:
        if request.method == "write.fail":
            raise RuntimeError("a bug")
        if request.method == "write.wait":
            self._writes.put(done)
            self._note(request)
        else:
            done(self.answer(caller, request))

    def begin_writes(self) -> None:
        self.begun.set()

    def review(self, caller: Caller) -> SessionChange | Ending:
        self.effects.append("review")
        assert caller.session is not None, "there is nobody to look at"
        found = self.standing.get(caller.session, SessionChange(None, caller.session, caller.session))
        if isinstance(found, Exception):
            raise found
        return found

    def incident(self, error: BaseException, doing: str) -> Refusal:
        self.incidents.append(f"{doing}: {error!r}")
        return Refusal(Reason.INTERNAL, "an internal error", incident="4711")

    def go(self) -> None:
        """Let everything that waits go on, and what comes after it."""
        self.gate.set()

    def commit(self, outcome: Outcome | None = None) -> None:
        """Finish the oldest write that waits."""
        self._writes.get(timeout=PATIENCE)({} if outcome is None else outcome)

    def wait_begun(self, *methods: str) -> None:
        """Until these have begun, in this order, next."""
        assert [self.began.get(timeout=PATIENCE) for _ in methods] == list(methods)

    def _note(self, request: Request) -> None:
        self.effects.append(request.method)
        if request.method.endswith(".wait"):
            self.began.put(request.method)


class WatchedEpoll:
    """Stands in for an I/O thread's epoll and counts the polls that found nothing: a busy loop has none."""

    def __init__(self, io: IOThread) -> None:
        self._epoll = io._epoll
        self._idle = 0
        self._changed = threading.Condition()
        io._epoll = self

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        events = self._epoll.poll(timeout)
        if not events and timeout:
            with self._changed:
                self._idle += 1
                self._changed.notify_all()
        return events

    def wait_idle(self) -> None:
        with self._changed:
            enough = self._idle + 3
            assert self._changed.wait_for(lambda: self._idle >= enough, PATIENCE), "the I/O thread never rests"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


class Stage:
    """A running server and its clients."""

    def __init__(self, ca: CertificateAuthority, alice: Issued, certs: Path, work: Path) -> None:
        self.ca, self.alice, self.certs, self.work = ca, alice, certs, work
        self.application = Puppet()
        self.expected_incidents = 0
        self._closing: list[Callable[[], object]] = []
        self._stopped = True

    def load(
        self, *, required: bool = True, proxies: tuple[str, ...] = (), domain: str = TRUST_DOMAIN
    ) -> ServerSecurity:
        return ServerSecurity.load(
            ServerFiles.in_directory(self.certs),
            trust_domain=domain,
            certificates_required=required,
            trusted_proxies=frozenset(proxies),
        )

    def serve(self, host: str = "127.0.0.1", security: ServerSecurity | None = None, **limits: Any) -> Server:
        self.server = Server(self.application, security or self.load(), Limits(**limits))
        self.epolls = [WatchedEpoll(one) for one in (*self.server._handshake_threads, *self.server._io_threads)]
        self.port = self.server.start(host, 0)[1]
        self._stopped = False
        return self.server

    def client(
        self, issued: Issued | str | None = "alice", *, ca: CertificateAuthority | None = None, **dialling: Any
    ) -> Client:
        """A client that has dialled and said nothing. issued: None for one without a certificate."""
        own = self.alice if issued == "alice" else issued
        assert not isinstance(own, str)
        context = context_of(self.ca, own, self.work)
        sock = dial(self.port, **dialling)
        self._closing.append(sock.close)
        return Client(sock, context, ca or self.ca, own)

    def connect(self, issued: Issued | str | None = "alice", **dialling: Any) -> Client:
        """A client that has been welcomed."""
        return self.client(issued, **dialling).open()

    def dial(self, **dialling: Any) -> socket.socket:
        """A connection and no more."""
        sock = dial(self.port, **dialling)
        self._closing.append(sock.close)
        return sock

    def at_end(self, call: Callable[[], object]) -> None:
        self._closing.append(call)

    def peers(self) -> list[Peer]:
        """The server's connections, oldest first."""
        return [peer for peer, _ in self.server._snapshot()]

    def narrow(self) -> None:
        """Make the kernel take little from the server, so that what is not read stays with the connection."""
        for peer in self.peers():
            peer._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)

    def post(self, call: Callable[..., None], *args: object) -> None:
        """Have a peer's method called on its I/O thread."""
        self.server._peers[call.__self__].post(call, *args)

    def wait_gone(self) -> None:
        """Until the server has no connection any more."""
        with self.server._departure:
            assert self.server._departure.wait_for(lambda: not self.server._peers, PATIENCE)

    def wait_idle(self) -> None:
        """The I/O threads have nothing to do: no busy loop, and all that was sent has been handled."""
        for epoll in self.epolls:
            epoll.wait_idle()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.server.stop()
            assert not self.server._peers
            assert not self.server._per_address
            assert not self.server._handshaking
            assert not self.server._accounts

    def close(self) -> None:
        self.application.go()
        for call in self._closing:
            call()
        self.stop()
