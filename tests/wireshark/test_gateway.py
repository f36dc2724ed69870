"""The gateway between a real client and a real shop: what it lets pass, what it records, how it ends."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from wireshark.told import opened, performed

from securedelivery.api import messages as m
from securedelivery.client.calls import Client
from securedelivery.client.deadline import Deadline
from securedelivery.errors import ConnectionFailure, PeerClosed, RemoteProtocolError
from securedelivery.protocol.authentication import Auth, Credentials, Transcript, encode_auth
from securedelivery.protocol.certificates import der
from securedelivery.protocol.frames import HEADER, HEADER_LENGTH, FrameKind
from securedelivery.protocol.noise import TAG_LENGTH
from securedelivery.transport.tls import client_context, load_credentials
from securedelivery.wireshark import gateway as module
from securedelivery.wireshark.gateway import Gateway, Hook, NoiseGateway
from securedelivery.wireshark.opened import OpenedLeg
from securedelivery.wireshark.raw_client import RawClient
from securedelivery.wireshark.stage import Stage
from securedelivery.wireshark.tls13 import HandshakeMessages

CONTENT_TYPE_HANDSHAKE, CONTENT_TYPE_DATA = 22, 23
CERTIFICATE = 11  # RFC 8446, section 4.4.2
RST = 0x04


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not [one for one in set(threading.enumerate()) - before if one.is_alive()]


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Stage:
    shared.log.take()
    return shared


class Watch:
    """A hook that lets everything pass and keeps what it saw."""

    def __init__(self) -> None:
        self.kinds: dict[bool, list[int]] = {True: [], False: []}
        self.lengths: list[int] = []
        self.packets: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}

    def __call__(self, gateway: Gateway, from_client: bool, frame: bytes) -> None:
        kind, _, length = HEADER.unpack_from(frame)
        assert len(frame) == HEADER_LENGTH + length
        self.kinds[from_client].append(kind)
        self.lengths.append(length)
        self.packets[from_client].append(gateway.pass_on(from_client, frame))
        self.legs = (gateway.outward_leg, gateway.inward_leg)


def _records(stream: bytes) -> list[int]:
    """The content types of the TLS records in a stream, which must be whole."""
    kinds = []
    while stream:
        length = int.from_bytes(stream[3:5])
        assert len(stream) >= 5 + length
        kinds.append(stream[0])
        stream = stream[5 + length :]
    return kinds


def test_frames_pass_and_both_connections_are_recorded(stage: Stage) -> None:
    watch = Watch()
    with stage.gateway("sam", watch) as gateway, Client(stage.profile("sam", gateway.port)) as sam:
        assert sam.welcome.identity == "spiffe://shop.example/account/sam"  # and not the gateway's
        assert sam.login_certificate().username == "sam"
    assert watch.kinds[True] == [FrameKind.HANDSHAKE, FrameKind.AUTH, FrameKind.MESSAGE, FrameKind.CLOSE]
    assert watch.kinds[False] == [FrameKind.HANDSHAKE, FrameKind.AUTH, *[FrameKind.MESSAGE] * 2, FrameKind.CLOSE]
    recording = stage.recording
    for leg, client, server in ((0, "192.0.2.20", "192.0.2.66"), (1, "192.0.2.66", "192.0.2.1")):
        flow = watch.legs[leg]
        recording.wait_ended(flow)
        first = next(packet for packet in recording.packets if packet.flow == flow)
        assert first.data[26:34] == socket.inet_aton(client) + socket.inet_aton(server)
        for from_client in (True, False):
            assert CONTENT_TYPE_DATA in _records(recording.stream(flow, from_client=from_client))
    for from_client, leg in ((True, watch.legs[1]), (False, watch.legs[0])):
        for numbers in watch.packets[from_client]:
            assert numbers
            for number in numbers:
                packet = recording.packets[number - 1]
                assert (packet.flow, packet.from_client) == (leg, from_client)
                assert packet.payload
    assert stage.log.take() == []


def test_large_frames_pass_in_one_piece(stage: Stage) -> None:
    """They take several TLS records and many packets."""
    watch = Watch()
    with stage.gateway("alice", watch) as gateway, Client(stage.profile("alice", gateway.port)) as alice:
        alice.create_account("alice")
        said = [alice.send_message(str(number) * 4_000) for number in range(5)]
        assert alice.chat_history().items == said
    assert max(watch.lengths) > 16_384


def test_without_a_hook_everything_passes(stage: Stage) -> None:
    with stage.gateway("sam") as gateway, Client(stage.profile("sam", gateway.port)) as sam:
        assert sam.login_certificate().username == "sam"


def test_hanging_up_ends_both_sides_properly(stage: Stage) -> None:
    told: list[tuple[int, ...]] = []

    def hook(gateway: Gateway, from_client: bool, frame: bytes) -> None:
        if frame[0] == FrameKind.MESSAGE and from_client:
            told.append(gateway.hang_up())
            assert gateway.hang_up() == gateway.pass_on(from_client, frame) == ()  # it is over
            legs.extend((gateway.outward_leg, gateway.inward_leg))
        else:
            gateway.pass_on(from_client, frame)

    legs: list[int] = []
    with (
        stage.gateway("sam", hook) as gateway,
        contextlib.closing(stage.connect("sam", gateway.port)) as sam,
        pytest.raises(PeerClosed) as caught,
    ):
        sam.call("system.ping", m.Nothing(), Deadline(10.0))
    assert caught.value.reason is None
    for leg in legs:
        stage.recording.wait_ended(leg)
    assert len(told) == 1
    assert [stage.recording.packets[number - 1].from_client for number in told[0]] == [False]
    assert "why='the connection ended without CLOSE'" in stage.log.take(1)[0]


def test_a_client_that_hangs_up_amid_everything(stage: Stage) -> None:
    """It ends the shop's side too, and what the shop still says is not lost on the way."""
    watch = Watch()
    with stage.gateway("sam", watch) as gateway:
        client, core = stage.raw_client("sam", gateway.port)
        with client:
            client.greet()
            client.authenticate()
            client.request("account.login_certificate", m.Nothing())
            core.send_close("bye")  # made, and never sent: what follows is a truncation
    assert "why='the connection ended without CLOSE'" in stage.log.take(1)[0]
    for leg in watch.legs:
        stage.recording.wait_ended(leg)


@pytest.mark.parametrize("talkative", [False, True])
def test_a_client_that_resets(stage: Stage, *, talkative: bool) -> None:
    legs: list[int] = []
    asked, arrived, left = threading.Event(), threading.Event(), threading.Event()

    def hook(gateway: Gateway, from_client: bool, frame: bytes) -> None:
        if asked.is_set() and from_client:
            legs.extend((gateway.outward_leg, gateway.inward_leg))
            arrived.set()
            assert left.wait(10)
            if not talkative:
                return
            gateway.pass_on(False, frame)  # to nobody
        gateway.pass_on(from_client, frame)

    with stage.gateway("sam", hook) as gateway:
        client, _ = stage.raw_client("sam", gateway.port)
        client.greet()
        client.authenticate()
        client.ask("system.ping", m.Nothing())
        asked.set()
        client.request("system.ping", m.Nothing())
        assert arrived.wait(10)
        _reset(client)
        left.set()
    stage.recording.wait_ended(legs[1])
    last = next(packet for packet in reversed(stage.recording.packets) if packet.flow == legs[0] and packet.from_client)
    assert last.data[47] & RST
    assert "why='the connection ended without CLOSE'" in stage.log.take(1)[0]


def _reset(client: RawClient) -> None:
    client._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client._sock.close()


def test_what_goes_wrong_at_the_gateway_is_told_to_whoever_runs_it(stage: Stage) -> None:
    def hook(gateway: Gateway, from_client: bool, frame: bytes) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError), stage.gateway("sam", hook) as gateway, pytest.raises(ConnectionFailure):
        stage.connect("sam", gateway.port)
    stage.log.take(1)


def test_an_error_of_the_client_is_not_covered_up(stage: Stage) -> None:
    with pytest.raises(ZeroDivisionError), stage.gateway("sam"):
        raise ZeroDivisionError("nobody has come")
    with pytest.raises(ZeroDivisionError):
        _fail_amid_a_connection(stage)
    stage.log.take(1)


def _fail_amid_a_connection(stage: Stage) -> None:
    with stage.gateway("sam") as gateway:
        client, _ = stage.raw_client("sam", gateway.port)
        with contextlib.closing(client._sock):
            client.greet()
            raise ZeroDivisionError


def test_nobody_comes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(TimeoutError), stage.gateway("sam"):
        pass


def test_nobody_says_anything(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, ended = threading.Event(), threading.Event()

    def hook(gateway: Gateway, from_client: bool, frame: bytes) -> None:
        gateway.pass_on(from_client, frame)
        if from_client and frame[0] == FrameKind.MESSAGE:
            monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
            silent.set()

    with pytest.raises(TimeoutError):
        _say_nothing(stage, hook, ended)
    assert silent.is_set()
    stage.log.take(1)


def _say_nothing(stage: Stage, hook: Hook, ended: threading.Event) -> None:
    with stage.gateway("sam", hook) as gateway:
        connection = stage.connect("sam", gateway.port, ended.set)
        connection.call("system.ping", m.Nothing(), Deadline(10.0))
        assert ended.wait(10)
        connection.close()


def test_a_gateway_that_the_shop_does_not_know(stage: Stage) -> None:
    """Without a certificate of its own it does not get in, and the client hears nothing but the end."""
    gateway = stage.gateway("sam")
    gateway._inward = client_context(stage.folder / "ca.crt", None, None, None)
    with gateway, pytest.raises(PeerClosed) as caught:
        stage.connect("sam", gateway.port)
    assert caught.value.reason is None
    assert "why='peer did not return a certificate'" in stage.log.take(1)[0]


def test_a_gateway_in_the_middle_of_noise_reads_what_a_credulous_client_says(stage: Stage) -> None:
    keys: list[tuple[bytes, bytes, bytes]] = []
    middle = NoiseGateway(lambda *found: keys.append(found))
    with stage.gateway("sam", middle) as gateway:
        client, core = stage.raw_client("sam", gateway.port, credulous=True)
        with client:
            client.greet()
            client.authenticate()
            client.request("system.ping", m.Nothing())
            assert client.wait_closed().reason == "protocol_error"
    assert middle.read == [b'{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{}}']
    ((initiator_e, to_gateway, to_client),) = keys
    assert initiator_e == core.private_key.public_key().public_bytes_raw()
    assert to_gateway == core._sending.key
    assert to_client == core._receiving.key
    assert "the signature over the handshake does not verify" in stage.log.take(1)[0]


# Its TLS certificate is of another authority than the shop's


class Signing(NoiseGateway):
    """It signs AUTH itself, over its own handshake with the client: all that a NoiseGateway needs to be the shop."""

    def __init__(self, log: Callable[[bytes, bytes, bytes], None], credentials: Credentials) -> None:
        super().__init__(log)
        self._credentials = credentials

    def _again(self, kind: int, from_client: bool, frame: bytes) -> bytes:
        again = super()._again(kind, from_client, frame)
        if from_client or kind != FrameKind.AUTH:
            return again
        sending = self._ciphers[False][1]
        sending.n -= 1  # as if that one had never been
        own = self._credentials
        signature = own.sign(Transcript(self._hash).add_server_chain(own.chain))
        plaintext = encode_auth(Auth(own.chain, own.certificates, own.scheme, signature))
        header = HEADER.pack(kind, 0, len(plaintext) + TAG_LENGTH)
        return header + sending.encrypt_with_ad(header, plaintext)

    def _finish(self) -> None:
        self._hash = self._responder.finish().h
        super()._finish()


def _signing(stage: Stage, credentials: Credentials) -> Signing:
    return Signing(stage.key_logs.frame_keys, credentials)


def test_auth_signed_with_the_key_of_its_tls_is_refused(stage: Stage) -> None:
    with stage.gateway("sam", middle := _signing(stage, stage._gateway.credentials)) as gateway:
        client, _ = stage.raw_client("sam", gateway.port)
        with client, pytest.raises(RemoteProtocolError, match="the certificate is not trusted") as caught:
            client.greet()
    assert caught.value.reason == "certificate_untrusted"
    assert middle.read == []
    stage.log.take(1)


def test_a_real_client_refuses_it_too(stage: Stage) -> None:
    with (
        stage.gateway("sam", middle := _signing(stage, stage._gateway.credentials)) as gateway,
        pytest.raises(ConnectionFailure, match=r"cannot be trusted \(the certificate is not trusted") as caught,
    ):
        stage.connect("sam", gateway.port)
    assert not isinstance(caught.value, PeerClosed)
    assert middle.read == []
    assert "the client sent CLOSE certificate_untrusted" in stage.log.take(1)[0]


def test_auth_signed_with_the_shops_key_would_be_accepted(stage: Stage) -> None:
    """So it is the authority that stops the gateway, and not a mistake of its own."""
    pair = load_credentials(stage.folder / "server.crt", stage.folder / "server.key")
    with stage.gateway("sam", middle := _signing(stage, pair)) as gateway:
        client, _ = stage.raw_client("sam", gateway.port)
        with client:
            client.greet()
            client.authenticate()
            client.request("system.ping", m.Nothing())
            assert client.wait_closed().reason == "protocol_error"  # the shop's, which sees its own handshake
    assert middle.read == [b'{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{}}']
    assert "the signature over the handshake does not verify" in stage.log.take(1)[0]


def test_in_tls_it_shows_a_certificate_that_no_auth_has() -> None:
    """In every recorded connection with it; the shop itself shows the same one outside and inside."""
    legs = opened()
    outer = {number: _shown_in_tls(leg) for number, leg in enumerate(legs)}
    servers = {leg.number: leg.server for leg in performed().legs}
    gateways = {outer[number] for number, server in servers.items() if server == "gateway"}
    shops = {outer[number] for number, server in servers.items() if server == "shop"}
    (of_gateway,), (of_shop,) = gateways, shops
    assert len([server for server in servers.values() if server == "gateway"]) >= 6
    inner = {
        der(frame.auth.certificates[0])
        for leg in legs
        for frame in leg.frames
        if frame.auth is not None and not frame.from_client
    }
    assert inner == {of_shop}
    certificate, shop = (x509.load_der_x509_certificate(one) for one in (of_gateway, of_shop))
    assert certificate.issuer == x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway CA")])
    assert certificate.issuer != shop.issuer
    assert certificate.public_key() != shop.public_key()
    identifiers = {
        one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        for one in (certificate, shop)
    }
    assert len(identifiers) == 2


def _shown_in_tls(leg: OpenedLeg) -> bytes:
    """The server's leaf (DER) in its Certificate message."""
    messages = HandshakeMessages()
    for record in leg.records:
        if not record.from_client and record.inner_type == CONTENT_TYPE_HANDSHAKE and record.content:
            for kind, body in messages.add(record.content):
                if kind == CERTIFICATE:
                    context, start = body[0], 4 + body[0]
                    assert context == 0
                    length = int.from_bytes(body[start : start + 3])
                    return body[start + 3 : start + 3 + length]
    raise AssertionError(f"no certificate on leg {leg.number}")
