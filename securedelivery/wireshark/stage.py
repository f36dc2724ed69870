"""What the demonstration stands on: a throw-away authority, a real shop in this process, and whatever records."""

import tempfile
import threading
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn, Self

import structlog

from securedelivery.application import Running, Shop, key_source
from securedelivery.client.connection import Connection
from securedelivery.client.deadline import Deadline
from securedelivery.client.handshake import open_line
from securedelivery.client.profile import Profile
from securedelivery.config import DatabaseSettings, ServerSettings, Settings
from securedelivery.model import Role
from securedelivery.protocol.authentication import Credentials
from securedelivery.service import catalog_file
from securedelivery.store.engine import Database
from securedelivery.transport.keylog import KeyLogs
from securedelivery.transport.tls import ServerFiles, ServerSecurity, client_context, load_trust
from securedelivery.wireshark.authority import Authority, Pair
from securedelivery.wireshark.capture import Capture, Recorded
from securedelivery.wireshark.gateway import Gateway, Hook
from securedelivery.wireshark.raw_client import RawClient, RawCore
from securedelivery.wireshark.relay import Relay
from securedelivery.wireshark.tcp import Endpoint

__all__ = ["ADDRESSES", "PATIENCE_SECONDS", "PORT", "Log", "Recording", "Stage"]

PATIENCE_SECONDS = 10.0
TRUST_DOMAIN = "shop.example"
PORT = 5555
ADDRESSES = {
    "shop": "192.0.2.1",
    "alice": "192.0.2.10",
    "bob": "192.0.2.11",
    "sam": "192.0.2.20",
    "gateway": "192.0.2.66",
    "mallory": "192.0.2.99",
}
"""In the recording; RFC 5737 has set these aside for documentation."""

KEY_LOG_WARNING = "! the keys of"  # ... this connection are logged: that is what this is for
_FIN, _RST = 1, 4
_FLAGS = 14 + 20 + 13  # Ethernet, IPv4; where TCP's flags are


class Log:
    """A structlog processor that keeps every line for those who wait for it, and prints none."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> NoReturn:
        with self._changed:
            self._lines.append({"level": level, **event})
            self._changed.notify_all()
        raise structlog.DropEvent

    def take(self, count: int = 0) -> list[str]:
        """The lines about what was refused, broken or cut since the last time, as they would be printed.

        Waits for so many. Raises TimeoutError.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._refusals()) >= count, PATIENCE_SECONDS):
                raise TimeoutError("the shop has not refused what it should")
            taken = [_printed(line) for line in self._refusals()]
            self._lines.clear()
        return taken

    def _refusals(self) -> list[dict[str, Any]]:
        return [line for line in self._lines if line["event"] == "= truncated" or _is_trouble(line)]


def _is_trouble(line: dict[str, Any]) -> bool:
    return line["level"] != "info" and not line["event"].startswith(KEY_LOG_WARNING)


def _printed(line: dict[str, Any]) -> str:
    members = (f"{name}={_quoted(value)}" for name, value in sorted(line.items()) if name not in ("event", "level"))
    return " ".join((line["event"], *members))


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or not text else text


class Recording:
    """What a Capture has recorded, for those who wait until a connection is over."""

    def __init__(self) -> None:
        self.packets: list[Recorded] = []
        self.capture = Capture(self._take)
        self._changed = threading.Condition()
        self._ended: dict[int, set[bool]] = {}

    def _take(self, packet: Recorded) -> None:
        with self._changed:
            self.packets.append(packet)
            flags = packet.data[_FLAGS]
            if flags & (_FIN | _RST):
                ended = self._ended.setdefault(packet.flow, set())
                ended |= {True, False} if flags & _RST else {packet.from_client}
                self._changed.notify_all()

    def wait_ended(self, flow: int) -> None:
        """Until both sides have hung up, or one has reset it. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended.get(flow) == {True, False}, PATIENCE_SECONDS):
                raise TimeoutError(f"connection {flow} does not end")

    def stream(self, flow: int, *, from_client: bool) -> bytes:
        """All bytes of one direction of a connection."""
        return b"".join(
            packet.payload for packet in self.packets if packet.flow == flow and packet.from_client == from_client
        )

    def packets_with(self, flow: int, data: bytes, *, from_client: bool) -> tuple[int, ...]:
        """The numbers of the packets that carry data, which is somewhere in this direction of the connection."""
        carried = [
            (number, packet.payload)
            for number, packet in enumerate(self.packets, 1)
            if packet.flow == flow and packet.from_client == from_client and packet.payload
        ]
        begins = self.stream(flow, from_client=from_client).index(data)
        ends, position, numbers = begins + len(data), 0, []
        for number, payload in carried:
            if position < ends and position + len(payload) > begins:
                numbers.append(number)
            position += len(payload)
        return tuple(numbers)


class Stage:
    """A context manager: everything is in a temporary folder and in this process, and goes with it.

    shop, running: the service, which wants client certificates and trusts the gateway's. people: the certificates, of
    mallory one that has been revoked, too. port: the shop's. key_logs: of every connection but those of clients with a
    gateway that ends the inner handshake, which logs there itself. complaints: what they could not write.
    """

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._keep_log(stack)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="securedelivery-demo-"))
            self.folder = Path(folder).resolve()  # key logs are not written behind a symbolic link
            self._authority()
            self.recording = Recording()
            self._ports: set[tuple[str, str, int]] = set()
            self.complaints: list[str] = []
            self._key_files = (self.folder / "tls-keys.log", self.folder / "frame-keys.log")
            self.key_logs = KeyLogs(*self._key_files, warn=self.complaints.append)
            stack.callback(self.key_logs.close)
            self._serve(stack)
            self._outward = self._gateway_security()
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    # Setting up

    def _keep_log(self, stack: ExitStack) -> None:
        if structlog.is_configured():
            stack.callback(structlog.configure, **structlog.get_config())
        else:
            stack.callback(structlog.reset_defaults)
        self.log = Log()
        structlog.configure(
            processors=[self.log],
            wrapper_class=structlog.make_filtering_bound_logger(20),  # info
            cache_logger_on_first_use=False,
        )

    def _authority(self) -> None:
        authority = Authority(self.folder, TRUST_DOMAIN)
        authority.server("localhost")
        self.people = {name: authority.client(name) for name in ("alice", "bob", "sam", "mallory")}
        self.people["gateway"] = authority.proxy("gateway")
        self.people["mallory, revoked"] = authority.client("mallory", "revoked")
        authority.revoke(self.people["mallory, revoked"])
        self._ca = authority.ca_file
        # Whoever set up Alice's computer has it trust the gateway's authority, too, in TLS. Inside, the shop's alone
        # counts: with a server's certificate of that one the gateway could sign AUTH itself.
        (self.folder / "gateway-ca").mkdir(mode=0o700)
        others = Authority(self.folder / "gateway-ca", TRUST_DOMAIN, "gateway CA")
        self._gateway = others.server("localhost", name="gateway")
        self._tls_ca = self.folder / "trusted-in-tls.crt"
        self._tls_ca.write_bytes(authority.ca_file.read_bytes() + others.ca_file.read_bytes())
        self.trust = load_trust(self._ca, None)

    def _serve(self, stack: ExitStack) -> None:
        settings = Settings(
            server=ServerSettings(
                listen="127.0.0.1:0",
                certs=str(self.folder),
                trust_domain=TRUST_DOMAIN,
                trusted_proxies=(f"spiffe://{TRUST_DOMAIN}/proxy/gateway",),
            ),
            database=DatabaseSettings(url=f"sqlite:///{self.folder}/shop.db"),
        )
        # Here, for a server would have it done in a child, and this process may have threads.
        Database.open(settings.database.url, keys=key_source(settings)).close()
        self.shop = stack.enter_context(Shop(settings, serving=True))
        with resources.as_file(resources.files("securedelivery") / "data" / "catalog.csv") as catalog:
            self.shop.catalog.fill(catalog_file.read(catalog, settings.shop.currency))
        self.shop.accounts.create_by_operator("sam", Role.AGENT, identity=f"spiffe://{TRUST_DOMAIN}/account/sam")
        self.running = Running(self.shop, self.key_logs)
        stack.callback(self.running.stop)
        self.port = self.running.address[1]

    def _gateway_security(self) -> ServerSecurity:
        """It wants the same client certificates as the shop, and shows one of its own."""
        security = ServerSecurity.load(
            ServerFiles.in_directory(self.folder),
            trust_domain=TRUST_DOMAIN,
            certificates_required=True,
            trusted_proxies=frozenset(),
            key_logs=self.key_logs,
        )
        security.context.load_cert_chain(self._gateway.certificate_file, self._gateway.key_file)
        return security

    # The way to the shop

    def relay(self, who: str, tamper: Callable[[int, bool, bytes], bytes] | None = None) -> Relay:
        """One that records who comes as a client of the shop. A context manager."""
        return Relay(
            ("127.0.0.1", 0),
            ("127.0.0.1", self.port),
            self.recording.capture,
            endpoints=lambda client, _: self._ends(who, "shop", client.port),
            tamper=tamper,
        )

    def gateway(self, who: str, hook: Hook | None = None) -> Gateway:
        """One between who and the shop. A context manager."""
        pair = self.people["gateway"]
        return Gateway(
            self._outward.context,
            client_context(self._ca, pair.certificate_file, pair.key_file, None),
            self.port,
            self.recording.capture,
            outward_ends=lambda port: self._ends(who, "gateway", port),
            inward_ends=lambda port: self._ends("gateway", "shop", port),
            hook=hook,
        )

    def _ends(self, client: str, server: str, port: int) -> tuple[Endpoint, Endpoint]:
        """The port as it is; the next free one where it was used before, for all relays share the shop's address."""
        while (client, server, port) in self._ports:
            port = port % 65_535 + 1
        self._ports.add((client, server, port))
        return Endpoint(ADDRESSES[client], port), Endpoint(ADDRESSES[server], PORT)

    # Clients

    def profile(self, who: str, port: int) -> Profile:
        pair = self.people[who]
        return Profile(f"localhost:{port}", self._ca, pair.certificate_file, pair.key_file, tls_ca=self._tls_ca)

    def connect(self, who: str, port: int, on_end: Callable[[], None] = lambda: None) -> Connection:
        """A real client's connection, which is not made anew. Raises ConnectionFailure. Close it."""
        line = open_line(self.profile(who, port), Deadline(PATIENCE_SECONDS))
        return Connection(line, on_notification=lambda _method, _params: None, on_end=on_end)

    def raw_client(
        self,
        who: str,
        port: int,
        *,
        credentials: Credentials | None = None,
        credulous: bool = False,
        classical: bool = False,
    ) -> tuple[RawClient, RawCore]:
        """A client with the certificate of who outside, and inside with that one or with credentials.

        classical: offer TLS the key agreement X25519 alone, and no hybrid one, which newer versions of OpenSSL prefer.
        """
        pair: Pair = self.people[who]
        core = RawCore(credentials or pair.credentials, self.trust, credulous=credulous)
        context = client_context(self._tls_ca, pair.certificate_file, pair.key_file, None)
        if classical:
            context.set_ecdh_curve("X25519")
        return RawClient(port, context, core), core

    # What remains

    def tls_keys(self) -> str:
        return self._key_files[0].read_text("ascii")

    def frame_keys(self) -> str:
        return self._key_files[1].read_text("ascii")
