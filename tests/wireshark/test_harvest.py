"""What a computer that finds X25519 keys opens, and what it does not; and what it reads of a ServerHello."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from securedelivery.errors import LocalProtocolError
from securedelivery.protocol.connection import PROLOGUE
from securedelivery.protocol.frames import HEADER, FrameKind, pad
from securedelivery.protocol.noise import NN_HFS, TAG_LENGTH, CipherState, HandshakeState
from securedelivery.wireshark import harvest as module
from securedelivery.wireshark.authority import Authority
from securedelivery.wireshark.harvest import harvest, key_agreement
from securedelivery.wireshark.play import Harvest

MESSAGE = b'{"jsonrpc":"2.0","id":1,"method":"order.place","params":{}}'


class Recorded:
    """A handshake and a frame behind it, as the client's AUTH would be: with the counter 0."""

    def __init__(self) -> None:
        self.private_key = X25519PrivateKey.generate()
        client = HandshakeState(NN_HFS, initiator=True, prologue=PROLOGUE, generate_e=lambda: self.private_key)
        shop = HandshakeState(NN_HFS, initiator=False, prologue=PROLOGUE)
        first = client.write_message()
        shop.read_message(first)
        second = shop.write_message()
        client.read_message(second)
        self.messages = (first, second)
        self.sending = client.finish().sending
        self.frame = _frame(self.sending)

    def harvest(self, private_key: X25519PrivateKey | None = None) -> Harvest:
        return harvest(
            7,
            tls_group="x25519",
            private_key=private_key or self.private_key,
            messages=self.messages,
            frame=self.frame,
            counter=0,
            message=MESSAGE,
        )


def _frame(sending: CipherState) -> bytes:
    header = HEADER.pack(FrameKind.MESSAGE, 0, len(pad(MESSAGE)) + TAG_LENGTH)
    return header + sending.encrypt_with_ad(header, pad(MESSAGE))


def test_the_envelope_opens_and_what_is_behind_it_does_not() -> None:
    recorded = Recorded()
    found = recorded.harvest()
    assert found.private_key == recorded.private_key.private_bytes_raw()
    assert found.classical_plaintext == MESSAGE
    assert MESSAGE not in found.classical_frame
    assert recorded.messages[1][32 : 32 + 1_088] != found.kem_ciphertext, "it is encrypted on the wire"
    assert len(found.kem_ciphertext) == 1_088
    assert (found.leg, found.tls_group, found.envelope_opened) == (7, "x25519", True)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(LocalProtocolError, match="envelope"):
        Recorded().harvest(X25519PrivateKey.generate())


def test_a_frame_that_opens_without_the_kem_is_told() -> None:
    """As it would be, if the KEM's secret were left out of the keys."""
    recorded = Recorded()
    symmetric, rest = module._after_ee(NN_HFS, recorded.private_key, *recorded.messages)
    symmetric.decrypt_and_hash(rest[:-TAG_LENGTH])
    recorded.frame = _frame(symmetric.split()[0])
    with pytest.raises(LocalProtocolError, match="without its ML-KEM key"):
        recorded.harvest()


def test_a_last_tag_that_fits_without_the_kem_is_told() -> None:
    """The handshake's own, and that alone: the frame behind it stays closed."""
    recorded = Recorded()
    first, second = recorded.messages
    symmetric, rest = module._after_ee(NN_HFS, recorded.private_key, first, second)
    symmetric.decrypt_and_hash(rest[:-TAG_LENGTH])
    recorded.messages = (first, second[:-TAG_LENGTH] + symmetric.encrypt_and_hash(b""))
    with pytest.raises(LocalProtocolError, match="without its ML-KEM key"):
        recorded.harvest()


def _hello(*extensions: tuple[int, bytes], session_id: bytes = bytes(32)) -> bytes:
    parts = b"".join(kind.to_bytes(2) + len(body).to_bytes(2) + body for kind, body in extensions)
    body = (
        b"\x03\x03"
        + bytes(32)
        + bytes([len(session_id)])
        + session_id
        + b"\x13\x02\x00"
        + len(parts).to_bytes(2)
        + parts
    )
    handshake = b"\x02" + len(body).to_bytes(3) + body
    return b"\x16\x03\x03" + len(handshake).to_bytes(2) + handshake + b"\x14\x03\x03\x00\x01\x01"


VERSIONS = (43, b"\x03\x04")


@pytest.mark.parametrize(
    ("group", "name"),
    [(0x001D, "x25519"), (0x0017, "secp256r1"), (0x11EC, "X25519MLKEM768"), (0x6399, "group 0x6399")],
)
@pytest.mark.parametrize("session_id", [b"", bytes(32)])
def test_the_group_is_read_from_the_server_hello(group: int, name: str, session_id: bytes) -> None:
    share = (51, group.to_bytes(2) + b"\x00\x20" + bytes(32))
    assert key_agreement(_hello(VERSIONS, share, session_id=session_id)) == name
    assert key_agreement(_hello(share, VERSIONS, session_id=session_id)) == name


def test_a_server_hello_without_a_share() -> None:
    with pytest.raises(LocalProtocolError, match="no key share"):
        key_agreement(_hello(VERSIONS))


@pytest.mark.parametrize(("curve", "name"), [("prime256v1", "secp256r1"), ("X25519", "x25519")])
def test_the_group_of_a_real_one(tmp_path: Path, curve: str, name: str) -> None:
    """OpenSSL's, of a server that insists on one."""
    pair = Authority(tmp_path, "shop.example").server("localhost")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate_file, pair.key_file)
    server.set_ecdh_curve(curve)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    hellos = []
    for end, outgoing in ((ends[0], to_server), (ends[1], to_client), (ends[0], to_server), (ends[1], to_client)):
        with pytest.raises(ssl.SSLError):
            end.do_handshake()
        raw = outgoing.read()
        outgoing.write(raw)
        if raw[:1] + raw[5:6] == b"\x16\x02":  # of a ServerHello, also one that asks for another ClientHello
            hellos.append(raw)
    assert {key_agreement(hello) for hello in hellos} == {name}
