"""What a computer that finds X25519 keys opens, and what it does not."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from securedelivery.errors import LocalProtocolError
from securedelivery.protocol.connection import PROLOGUE
from securedelivery.protocol.frames import HEADER, FrameKind, pad
from securedelivery.protocol.noise import NN_HFS, TAG_LENGTH, CipherState, HandshakeState
from securedelivery.wireshark import harvest as module
from securedelivery.wireshark.harvest import harvest
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
    assert found.leg == 7


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
