"""Harvest now, decrypt later: what a computer that finds X25519 private keys gets out of a recording, and what not.

There is no such computer. The client of that act tells its private key, and that is all that this computer is given
beside the recorded bytes.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from securedelivery.errors import LocalProtocolError, RemoteProtocolError
from securedelivery.protocol.connection import PROLOGUE
from securedelivery.protocol.frames import HEADER, HEADER_LENGTH, FrameKind, pad
from securedelivery.protocol.noise import (
    DHLEN,
    KEM_CIPHERTEXT_LENGTH,
    NN,
    NN_HFS,
    TAG_LENGTH,
    CipherState,
    HandshakeState,
    Pattern,
    SymmetricState,
)
from securedelivery.wireshark.play import Harvest

__all__ = ["harvest"]


def harvest(
    leg: int,
    *,
    private_key: X25519PrivateKey,
    messages: tuple[bytes, bytes],
    frame: bytes,
    counter: int,
    message: bytes,
) -> Harvest:
    """messages: the recorded handshake; frame, counter: a recorded MESSAGE of the client, and its place; message: what
    is in it, for the comparison.

    Raises LocalProtocolError where that computer gets further than it should, or not as far.
    """
    symmetric, rest = _after_ee(NN_HFS, private_key, *messages)
    kem_ciphertext = _opened(symmetric, rest[: KEM_CIPHERTEXT_LENGTH + TAG_LENGTH])
    # What follows is MixKey of the KEM's shared secret. Without it, these two are all that is left to try.
    guess, _ = symmetric.split()
    if kem_ciphertext is None:
        raise LocalProtocolError("the envelope of the KEM ciphertext was not opened with its X25519 key")
    if _opened(symmetric, rest[-TAG_LENGTH:]) is not None or _decrypted(guess, counter, frame) is not None:
        raise LocalProtocolError("the hybrid handshake was opened without its ML-KEM key")
    classical_frame, classical_plaintext = _classical(private_key, message)
    return Harvest(
        leg,
        private_key.private_bytes_raw(),
        kem_ciphertext,
        "The next key needs the secret in this ML-KEM-768 ciphertext, and no X25519 key opens that. With the key of e"
        " and ee the handshake's last tag is wrong, and the frame stays closed.",
        classical_frame,
        classical_plaintext,
    )


def _after_ee(
    pattern: Pattern, private_key: X25519PrivateKey, first: bytes, second: bytes
) -> tuple[SymmetricState, bytes]:
    """The state of the handshake behind the token ee, and what is left of the second message."""
    symmetric = SymmetricState(pattern.protocol_name)
    symmetric.mix_hash(PROLOGUE)
    symmetric.mix_hash(first[:DHLEN])
    if len(first) > DHLEN:
        symmetric.mix_hash(first[DHLEN:])  # e1, in clear
    symmetric.mix_hash(b"")  # the empty payload
    symmetric.mix_hash(second[:DHLEN])
    symmetric.mix_key(private_key.exchange(X25519PublicKey.from_public_bytes(second[:DHLEN])))
    return symmetric, second[DHLEN:]


def _opened(symmetric: SymmetricState, ciphertext: bytes) -> bytes | None:
    try:
        return symmetric.decrypt_and_hash(ciphertext)
    except RemoteProtocolError:
        return None


def _decrypted(key: CipherState, counter: int, frame: bytes) -> bytes | None:
    key.n = counter
    try:
        return key.decrypt_with_ad(frame[:HEADER_LENGTH], frame[HEADER_LENGTH:])
    except RemoteProtocolError:
        return None


def _classical(private_key: X25519PrivateKey, message: bytes) -> tuple[bytes, bytes]:
    """The message in a frame under Noise_NN_25519 with the same ephemeral key, and what that computer reads in it."""
    client = HandshakeState(NN, initiator=True, prologue=PROLOGUE, generate_e=lambda: private_key)
    shop = HandshakeState(NN, initiator=False, prologue=PROLOGUE)
    first = client.write_message()
    shop.read_message(first)
    second = shop.write_message()
    client.read_message(second)
    plaintext = pad(message)
    header = HEADER.pack(FrameKind.MESSAGE, 0, len(plaintext) + TAG_LENGTH)
    frame = header + client.finish().sending.encrypt_with_ad(header, plaintext)

    symmetric, rest = _after_ee(NN, private_key, first, second)
    symmetric.decrypt_and_hash(rest)
    found, _ = symmetric.split()
    return frame, found.decrypt_with_ad(header, frame[HEADER_LENGTH:]).rstrip(b" ")
