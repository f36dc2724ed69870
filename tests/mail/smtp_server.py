r"""Mail servers on loopback, for tests: real SMTP (aiosmtpd), real TLS of a CA of their own, and ones that misbehave.

    with MailHost(tmp_path / "mail") as host:         # STARTTLS, the user "shop" has to log in, SMTPUTF8, 8BITMIME
        settings = host.server()                      # a ReceiptsServer for it; host.server(port=1): another
        (mail,) = host.wait(1)                        # bounded; list[Received]: sender, raw, .message, login ..
        host.heard("MAIL")                            # ["MAIL FROM:<orders@shop.example> SIZE=9"]: what came
        host.wait_for("DATA", 2)                      # until a command has come so often
        host.connections, host.logins, host.open      # how many there were, and how many are open now
        host.drop()                                   # ends all open connections, without a word
        host.stop(); host.start()                     # down and up again, on the same port

    MailHost(folder, security="tls")                  # "starttls" | "tls" | "none"
    MailHost(folder, users={})                        # nobody logs in: AUTH is neither needed nor possible
    MailHost(folder, utf8=False, eight_bit=False)     # without SMTPUTF8, without 8BITMIME
    MailHost(folder, issued=authority(folder).server("elsewhere.example"))  # wrong name
    MailHost(folder, issued=authority(folder).server(start=-60 * DAY, end=-DAY))  # expired
    MailHost(folder, issued=CertificateAuthority("another").server())  # unknown CA
    MailHost(folder, mechanisms=("LOGIN",))           # of AUTH
    MailHost(folder, offers_starttls=False)           # stripped from EHLO's answer
    MailHost(folder, injected=b"250-INJECTED\r\n")    # plaintext in the packet of STARTTLS's answer
    MailHost(folder, relays={"shop.example"})         # login is not needed; without one, others get 554 5.7.1

    host.fail("RCPT", "452 4.2.2 mailbox full", times=2)  # that answer, so often (None: for ever), then as usual
    host.fail("MAIL", "421 4.3.2 going down", then="close")  # ... and the connection is closed
    host.fail("STARTTLS", "454 4.7.0 not now")        # offered and refused
    host.fail("DATA", "550 5.7.1 no")                 # in place of 354
    host.fail("MESSAGE", "451 4.3.0 later")           # after the last dot; not accepted
    host.fail("MESSAGE", None, then="close")          # closed without an answer, message not accepted
    host.fail("MESSAGE", None, then="close", keep=True)  # the same, but accepted: in host.messages
    host.fail("MESSAGE", "250 2.0.0 Ok", then="close", keep=True)  # accepted, answered, closed
    host.fail("EHLO", None, then="hang")              # no answer until host.release() or mend()
    host.fail("RCPT", "550 5.1.1 no such user", only="nobody@")  # only where the command (or message) contains that
    host.fail("RCPT", "451 4.7.1 slow", pace_seconds=0.05)  # a byte at a time
    host.mend()                                       # forgets all faults, releases what hangs

Commands of fail(): CONNECT (in place of the greeting), EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, MESSAGE, RSET, NOOP,
QUIT. A fault's answer takes the place of what the command would do: a "250 Ok" of a fault at RCPT adds no recipient.

    with RawHost(script, ...) as host:                # each connection runs its script: the first scripts[0],
        host.server()                                 # the second scripts[1], the last one again and again; no TLS
    def script(line: RawLine) -> None:                # line.say(b"220 hello\r\n"); line.hear(); line.begin_tls(context)
    never_answers, endless_line, endless_answer, no_smtp  # scripts that are there

    with MailProcess(folder, security="starttls") as host:  # `python -m mail.smtp_server`, a process of its own
        host.server(); host.wait(3)
        host.kill(); host.start()                     # SIGKILL; the same port
        host.stored()                                 # all that was ever accepted: on disk before it was answered
    MailProcess(folder, faults=[("MESSAGE", "451 4.3.0 later", 3)])  # at each start anew

`authority(folder)` is the CA of these servers: the same for all in one folder. Every wait has a bound.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from aiosmtpd.smtp import SMTP
from certificate_authority import CertificateAuthority, Issued

from securedelivery.mail.settings import ReceiptsServer, Security

logging.getLogger("mail.log").addHandler(logging.NullHandler())
logging.getLogger("mail.log").propagate = False  # aiosmtpd's: it tells addresses, which tests look for in our own log

PATIENCE_SECONDS = 20.0
USERS = {"shop": "a password of the tests"}
NAME = "mail.test"

Then = Literal["go on", "close", "hang"]


class Received(msgspec.Struct, frozen=True):
    """A message as it was accepted. options: of MAIL, upper case. tls: TLSv1.3 or the like, None in clear.

    connection: which one it came by, from 1.
    """

    sender: str
    recipients: list[str]
    options: list[str]
    raw: bytes
    login: str | None
    tls: str | None
    connection: int

    @property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.raw, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message


@dataclass
class Fault:
    command: str
    answer: str | bytes | None
    times: int | None
    then: Then
    keep: bool
    only: str
    pace_seconds: float


_authorities: dict[Path, CertificateAuthority] = {}


def authority(folder: Path) -> CertificateAuthority:
    """Of this folder, made at the first call; its certificate is in ca.crt there."""
    ca = _authorities.get(folder.resolve())
    if ca is None:
        ca = _authorities[folder.resolve()] = CertificateAuthority("mail CA")
        ca.write(folder)
    return ca


def server_context(folder: Path, issued: Issued | None = None) -> ssl.SSLContext:
    """What a server of this folder shows: localhost and 127.0.0.1, or the given certificate."""
    name = f"mail-{id(issued)}" if issued else "mail"
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    ca = authority(folder)
    if issued is not None or not certificate.exists():
        (issued or ca.server()).write(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def settings(
    folder: Path, port: int, security: Security, users: Mapping[str, str], changes: Mapping[str, Any]
) -> ReceiptsServer:
    """How one uses such a server."""
    values: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "security": security,
        "sender": "Parts & Co <orders@shop.example>",
        "ca_file": str(folder / "ca.crt"),
    }
    if users:
        values["username"], values["password"] = next(iter(users.items()))
    return ReceiptsServer(**{**values, **changes})


class _Protocol(SMTP):
    """One connection."""

    def __init__(self, host: "MailHost", number: int) -> None:
        super().__init__(
            host,
            hostname=NAME,
            ident="ESMTP",
            loop=host.loop,
            enable_SMTPUTF8=host.utf8,
            tls_context=host.context if host.security == "starttls" and host.offers_starttls else None,
            require_starttls=host.security == "starttls" and host.offers_starttls,
            auth_require_tls=host.security == "starttls",
            auth_exclude_mechanism={"PLAIN", "LOGIN"} - set(host.mechanisms),
            auth_callback=self._is_user,
        )
        self._auth_required = bool(host.users) and host.relays is None  # not at construction, where it warns
        self.host = host
        self.number = number
        self.raw_socket: socket.socket | None = None
        self.user: str | None = None
        for command, method in list(self._smtp_methods.items()):
            self._smtp_methods[command] = self._watched(command, method)

    def _is_user(self, _mechanism: str, login: bytes, password: bytes) -> bool:
        name = login.decode()
        if self.host.users.get(name, "") != password.decode() or not password:
            return False
        self.user = name
        self.host.note(logins=1)
        return True

    def _watched(self, command: str, method: Callable[[str | None], Any]) -> Callable[[str | None], Any]:
        async def run(argument: str | None) -> None:
            words = command if argument is None else f"{command} {argument}"
            self.host.note(words)
            fault = self.host.fault(command, words)
            if fault is None or not await self.suffer(fault):
                await method(argument)

        return run

    async def suffer(self, fault: Fault) -> bool:
        """Whether the command is dealt with."""
        if fault.then == "hang":
            await self.host.released.wait()
        if fault.answer is not None:
            text = fault.answer.encode() if isinstance(fault.answer, str) else fault.answer
            if fault.pace_seconds:
                for byte in text + b"\r\n":
                    self._writer.write(bytes((byte,)))
                    await self._writer.drain()
                    await asyncio.sleep(fault.pace_seconds)  # that it is slow is the fault
            else:
                await self.push(text)
        if fault.then == "close":
            assert self.transport is not None
            assert self.raw_socket is not None
            self.transport.close()
            with contextlib.suppress(OSError):  # TLS would wait for the client's goodbye
                self.raw_socket.shutdown(socket.SHUT_RDWR)
            await asyncio.Event().wait()  # until the end of the connection ends this task
        return fault.answer is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.raw_socket is None:
            self.raw_socket = transport.get_extra_info("socket")
            self.host.protocols.add(self)
            self.host.note()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.host.protocols.discard(self)
        self.host.note()
        super().connection_lost(error)

    async def _handle_client(self) -> None:
        self.host.note("CONNECT")
        fault = self.host.fault("CONNECT", "")
        if fault is not None:
            await self.suffer(fault)
        await super()._handle_client()

    async def push(self, status: str | bytes) -> None:
        if self.host.injected and isinstance(status, str) and status.startswith("220 Ready to start TLS"):
            status = f"{status}\r\n".encode() + self.host.injected.removesuffix(b"\r\n")
        if status:
            with contextlib.suppress(ConnectionError):
                await super().push(status)

    def version(self) -> str | None:  # no property: aiosmtpd looks at every member at construction
        assert self.transport is not None
        tls = self.transport.get_extra_info("ssl_object")
        return None if tls is None else str(tls.version())


class MailHost:
    """A server in a thread of this process; see above."""

    def __init__(
        self,
        folder: Path,
        *,
        security: Security = "starttls",
        issued: Issued | None = None,
        users: Mapping[str, str] = USERS,
        utf8: bool = True,
        eight_bit: bool = True,
        offers_starttls: bool = True,
        injected: bytes = b"",
        relays: Collection[str] | None = None,
        mechanisms: Collection[str] = ("LOGIN", "PLAIN"),
        port: int = 0,
        on_message: Callable[[Received], None] = lambda _: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = authority(folder)
        self.context = server_context(folder, issued)
        self.security = security
        self.users = users
        self.utf8 = utf8
        self.eight_bit = eight_bit
        self.offers_starttls = offers_starttls
        self.injected = injected
        self.relays = relays
        self.mechanisms = mechanisms
        self.port = port
        self.messages: list[Received] = []
        self.commands: list[str] = []
        self.connections = 0
        self.logins = 0
        self.protocols: set[_Protocol] = set()
        self._faults: list[Fault] = []
        self._changed = threading.Condition()
        self._on_message = on_message
        self._thread: threading.Thread | None = None

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def open(self) -> int:
        """Connections."""
        return len(self.protocols)

    def server(self, **changes: Any) -> ReceiptsServer:
        return settings(self.folder, self.port, self.security, self.users, changes)

    # What came

    def wait(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Received]:
        """All messages, as soon as there are so many."""
        self.wait_until(lambda: len(self.messages) >= count, f"{count} messages", seconds)
        return list(self.messages)

    def wait_for(self, command: str, count: int = 1, seconds: float = PATIENCE_SECONDS) -> None:
        self.wait_until(lambda: len(self.heard(command)) >= count, f"{command} {count} times", seconds)

    def wait_until(self, so: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        with self._changed:
            assert self._changed.wait_for(so, seconds), (
                f"{what}: not within {seconds} s; {len(self.messages)} messages, {self.open} open, {self.commands}"
            )

    def heard(self, command: str) -> list[str]:
        return [words for words in list(self.commands) if words.split(" ", 1)[0] == command]

    # Faults

    def fail(
        self,
        command: str,
        answer: str | bytes | None,
        *,
        times: int | None = 1,
        then: Then = "go on",
        keep: bool = False,
        only: str = "",
        pace_seconds: float = 0.0,
    ) -> None:
        with self._changed:
            self._faults.append(Fault(command, answer, times, then, keep, only, pace_seconds))

    def release(self) -> None:
        """What hangs goes on, or is refused if its fault has an answer."""
        self.loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self.released.set()
        self.released = asyncio.Event()

    def mend(self) -> None:
        with self._changed:
            self._faults.clear()
        self.release()

    def drop(self) -> None:
        """Ends all open connections at once, without TLS's or SMTP's goodbye."""

        def abort() -> None:
            for protocol in list(self.protocols):
                assert protocol.raw_socket is not None
                with contextlib.suppress(OSError):
                    protocol.raw_socket.shutdown(socket.SHUT_RDWR)

        self.loop.call_soon_threadsafe(abort)
        self.wait_until(lambda: not self.protocols, "connections end")

    # The server's own side

    def note(self, words: str | None = None, *, logins: int = 0) -> None:
        with self._changed:
            if words is not None:
                self.commands.append(words)
            self.logins += logins
            self._changed.notify_all()

    def fault(self, command: str, text: str) -> Fault | None:
        with self._changed:
            for fault in self._faults:
                if fault.command == command and fault.only in text and fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    async def handle_EHLO(  # noqa: N802 -- aiosmtpd's name
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        offered = [one for one in responses if self.eight_bit or "8BITMIME" not in one]
        return [one for one in offered if self.users or "AUTH" not in one]

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, server: _Protocol, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self.relays is not None and server.user is None and address.rpartition("@")[2] not in self.relays:
            return "554 5.7.1 Relay access denied"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: _Protocol, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.note("MESSAGE")
        fault = self.fault("MESSAGE", envelope.original_content.decode(errors="replace"))
        if fault is None or fault.keep:
            received = Received(
                envelope.mail_from,
                list(envelope.rcpt_tos),
                list(envelope.mail_options),
                bytes(envelope.original_content),
                server.user,
                server.version(),
                server.number,
            )
            self._on_message(received)
            with self._changed:
                self.messages.append(received)
                self._changed.notify_all()
        if fault is not None and await server.suffer(fault):
            return ""  # it has been answered
        return f"250 2.0.0 Ok: queued as {len(self.messages)}"

    def start(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="mail host")
        self._thread.start()
        assert started.wait(PATIENCE_SECONDS)
        assert self.port, "the port is taken"

    def stop(self) -> None:
        """Open connections are cut."""
        if self._thread is None:
            return
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, started: threading.Event) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(started))
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _loop, _context: None)  # broken connections are what it is for
        self._ended = asyncio.Event()
        self.released = asyncio.Event()
        server = await self.loop.create_server(
            self._protocol, "127.0.0.1", self.port, ssl=self.context if self.security == "tls" else None
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._ended.wait()
        for listener in server.sockets:  # a server that is closed drops what it has just accepted without closing it
            self.loop.remove_reader(listener.fileno())
        # Also those in the midst of accept() or of a handshake, which are nobody's yet; their tasks end with them.
        for _ in range(1_000):
            await asyncio.sleep(0)
            transports = list(self.loop._transports.values())  # type: ignore[attr-defined]
            for transport in transports:
                transport.abort()
            if not transports and asyncio.all_tasks() == {asyncio.current_task()}:
                break
        server.close()
        await asyncio.sleep(0)
        self.protocols.clear()

    def _protocol(self) -> _Protocol:
        self.connections += 1
        return _Protocol(self, self.connections)


# Servers that are no mail servers


@dataclass
class RawLine:
    """The server's side of one connection of a RawHost."""

    sock: socket.socket
    stream: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stream = self.sock.makefile("rb")

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hear(self) -> bytes:
        """The next line without its end; empty at the end."""
        return bytes(self.stream.readline().rstrip(b"\r\n"))

    def greet(self, *offered: bytes) -> None:
        """Everything up to EHLO's answer."""
        self.say(b"220 raw.test\r\n")
        assert self.hear().upper().startswith(b"EHLO")
        self.offer(*offered)

    def offer(self, *offered: bytes) -> None:
        lines = [b"raw.test", *offered]
        self.say(b"".join(b"250-%s\r\n" % one for one in lines[:-1]) + b"250 %s\r\n" % lines[-1])

    def begin_tls(self, context: ssl.SSLContext) -> None:
        self.stream.close()
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.stream = self.sock.makefile("rb")

    def wait_for_end(self) -> bytes:
        """All that comes until the client ends the connection."""
        with contextlib.suppress(OSError):
            return bytes(self.stream.read())
        return b""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


Script = Callable[[RawLine], None]


def never_answers(line: RawLine) -> None:
    line.wait_for_end()


def endless_line(line: RawLine) -> None:
    """A greeting without an end."""
    with contextlib.suppress(OSError):
        line.say(b"220 ")
        while True:
            line.say(b"x" * 65_536)


def endless_answer(line: RawLine) -> None:
    """A greeting of more and more lines."""
    with contextlib.suppress(OSError):
        while True:
            line.say(b"220-and another\r\n" * 1_000)


def no_smtp(line: RawLine) -> None:
    """Something that is no mail server at all."""
    with contextlib.suppress(OSError):
        line.say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


class RawHost:
    """Runs scripts[0] with the first connection, scripts[1] with the second; the last again and again."""

    def __init__(self, *scripts: Script, folder: Path | None = None) -> None:
        self.folder = folder
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.errors: list[BaseException] = []
        self._lines: list[RawLine] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="raw host")

    def server(self, **changes: Any) -> ReceiptsServer:
        return settings(self.folder or Path(), self.port, "none", {}, {"ca_file": None, **changes})

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE_SECONDS)
        self._listener.close()
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        if kind is None and self.errors:
            raise self.errors[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE_SECONDS)
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            line = RawLine(sock)
            thread = threading.Thread(target=self._serve, args=(script, line), name="raw connection")
            self._lines.append(line)
            self._threads.append(thread)
            thread.start()

    def _serve(self, script: Script, line: RawLine) -> None:
        try:
            script(line)
        except OSError:
            pass  # the client has had enough
        except BaseException as error:  # noqa: BLE001 -- raised again in the test's thread
            self.errors.append(error)
        finally:
            line.close()


# As a process


class MailProcess:
    """A MailHost as a process of its own, that can be killed; see above."""

    def __init__(
        self,
        folder: Path,
        *,
        security: Security = "starttls",
        users: Mapping[str, str] = USERS,
        faults: Sequence[tuple[str, str, int]] = (),
    ) -> None:
        (folder / "messages").mkdir(parents=True, exist_ok=True)
        server_context(folder)  # makes the CA's and the server's files
        self.folder = folder
        self.security = security
        self.users = users
        self.port = 0
        self._faults = faults
        self._process: subprocess.Popen[str] | None = None

    def server(self, **changes: Any) -> ReceiptsServer:
        return settings(self.folder, self.port, self.security, self.users, changes)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"

    def start(self) -> None:
        """On the port it had before."""
        command = [sys.executable, "-m", "mail.smtp_server", str(self.folder), self.security, str(self.port)]
        tests = Path(__file__).parents[1]
        paths = os.pathsep.join((str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            [*command, json.dumps(dict(self.users)), json.dumps(list(self._faults))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._end()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.wait(PATIENCE_SECONDS)
        process.stdin.close()
        process.stdout.close()

    def wait(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Received]:
        """All messages that were ever accepted, as soon as there are so many."""
        until = time.monotonic() + seconds
        while len(found := self.stored()) < count:
            assert time.monotonic() < until, f"{count} messages: not within {seconds} s, {len(found)}"
            assert self._process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        return found

    def stored(self) -> list[Received]:
        """What was accepted, by all processes on this folder, oldest first; also what was never answered."""
        return stored(self.folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def stored(folder: Path) -> list[Received]:
    return [
        msgspec.json.decode(path.read_bytes(), type=Received) for path in sorted((folder / "messages").glob("*.json"))
    ]


def store(folder: Path, received: Received) -> None:
    """On disk before it is answered, as a mail server promises."""
    name = f"{time.time_ns():020}"
    beside = folder / "messages" / f"{name}.new"
    with beside.open("wb") as stream:
        stream.write(msgspec.json.encode(received))
        stream.flush()
        os.fsync(stream.fileno())
    beside.rename(beside.with_suffix(".json"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mail.smtp_server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("security", choices=("starttls", "tls", "none"))
    parser.add_argument("port", type=int)
    parser.add_argument("users", type=json.loads)
    parser.add_argument("faults", type=json.loads)
    asked = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    certificate = (asked.folder / "ca.crt").read_bytes()
    _authorities[asked.folder.resolve()] = CertificateAuthority("unused")  # the parent's are there
    host = MailHost(
        asked.folder,
        security=asked.security,
        users=asked.users,
        port=asked.port,
        on_message=lambda received: store(asked.folder, received),
    )
    assert host.ca_file.read_bytes() == certificate
    for command, answer, times in asked.faults:
        host.fail(command, answer, times=times)
    with host:
        print(host.port, flush=True)  # noqa: T201 -- what the parent waits for
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
