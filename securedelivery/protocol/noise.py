"""The Noise Protocol Framework, revision 34, with the hybrid forward secrecy extension (tokens e1 and ekem1).

Objects, methods and variables carry the specification's names (section 5). Patterns are data: NN, which foreign
implementations speak, runs through the same code as NNhfs, which the service speaks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import digest as hmac_digest
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securedelivery.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["DHLEN", "NN", "NN_HFS", "TAG_LENGTH", "CipherState", "HandshakeResult", "HandshakeState", "Pattern"]

DHLEN = 32
HASHLEN = 32
TAG_LENGTH = 16
KEM_PUBLIC_KEY_LENGTH = 1184  # ML-KEM-768, FIPS 203, table 3
KEM_CIPHERTEXT_LENGTH = 1088
MAX_NONCE = 2**64 - 1  # reserved for Rekey(), section 5.1
_NONCE = Struct(">4xQ")  # AESGCM: 32 zero bits, then the counter big-endian, section 12.4


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern without static keys. messages: the tokens of each message, the initiator's first."""

    protocol_name: bytes
    messages: tuple[tuple[str, ...], ...]


NN = Pattern(b"Noise_NN_25519_AESGCM_SHA256", (("e",), ("e", "ee")))
NN_HFS = Pattern(b"Noise_NNhfs_25519+MLKEM768_AESGCM_SHA256", (("e", "e1"), ("e", "ee", "ekem1")))


class CipherState:
    """A 32-byte key k and a counter n (section 5.1). One direction; not to be shared between threads."""

    __slots__ = ("_aead", "_k", "n")

    def __init__(self, k: bytes) -> None:
        self._k = k
        self._aead = AESGCM(k)
        self.n = 0

    @property
    def key(self) -> bytes:
        """The key in force: for the frame key log and nothing else."""
        return self._k

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """Encrypt and count on. Raises LocalProtocolError where the counter is exhausted."""
        n = self.n
        if n == MAX_NONCE:
            raise LocalProtocolError("the sending counter is exhausted")
        ciphertext = self._aead.encrypt(_NONCE.pack(n), plaintext, ad)
        self.n = n + 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt and count on. A wrong tag or an exhausted counter is RemoteProtocolError, and is not counted."""
        n = self.n
        if n == MAX_NONCE:
            raise RemoteProtocolError("the receiving counter is exhausted")
        try:
            plaintext = self._aead.decrypt(_NONCE.pack(n), ciphertext, ad)
        except InvalidTag:
            raise RemoteProtocolError(
                f"frame {n} does not decrypt: it was altered, lost, repeated or reordered"
            ) from None
        self.n = n + 1
        return plaintext

    def rekey(self) -> None:
        """REKEY(k), section 4.2: the first 32 bytes of ENCRYPT(k, 2^64-1, zerolen, 32 zero bytes). n goes on."""
        self._k = self._aead.encrypt(_NONCE.pack(MAX_NONCE), bytes(32), b"")[:32]
        self._aead = AESGCM(self._k)


class SymmetricState:
    """ck, h and, from the first MixKey on, a CipherState (section 5.2)."""

    __slots__ = ("_cipher", "_ck", "h")

    def __init__(self, protocol_name: bytes) -> None:
        # Section 5.2: a name that fits is padded with zeros, a longer one is hashed.
        padded = protocol_name.ljust(HASHLEN, b"\0")
        self.h = padded if len(padded) == HASHLEN else sha256(protocol_name).digest()
        self._ck = self.h
        self._cipher: CipherState | None = None

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h + data).digest()

    def mix_key(self, input_key_material: bytes) -> None:
        self._ck, k = _hkdf(self._ck, input_key_material)
        self._cipher = CipherState(k)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt_with_ad(self.h, plaintext) if self._cipher else plaintext
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self._cipher.decrypt_with_ad(self.h, ciphertext) if self._cipher else ciphertext
        self.mix_hash(ciphertext)
        return plaintext

    def length_of(self, plaintext_length: int) -> int:
        """What encrypt_and_hash makes of that many bytes now: with a key, 16 more."""
        return plaintext_length + (TAG_LENGTH if self._cipher else 0)

    def split(self) -> tuple[CipherState, CipherState]:
        k1, k2 = _hkdf(self._ck, b"")
        return CipherState(k1), CipherState(k2)


def _hkdf(chaining_key: bytes, input_key_material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs, section 4.3 (RFC 5869 with an empty info, the chaining key as salt)."""
    temp_key = hmac_digest(chaining_key, input_key_material, "sha256")
    output1 = hmac_digest(temp_key, b"\x01", "sha256")
    return output1, hmac_digest(temp_key, output1 + b"\x02", "sha256")


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """What a finished handshake leaves.

    h: the handshake hash (32 bytes), initiator_e: the initiator's X25519 public key (32 bytes),
    sending and receiving: this side's CipherStates.
    """

    h: bytes
    initiator_e: bytes
    sending: CipherState
    receiving: CipherState


class HandshakeState:
    """One handshake of one side (section 5.3). Before `finish()` there is nothing that could encrypt a payload.

    generate_e, generate_e1: make the ephemeral keys; given only by tests with foreign vectors.
    """

    def __init__(
        self,
        pattern: Pattern,
        *,
        initiator: bool,
        prologue: bytes,
        generate_e: Callable[[], X25519PrivateKey] = X25519PrivateKey.generate,
        generate_e1: Callable[[], MLKEM768PrivateKey] = MLKEM768PrivateKey.generate,
    ) -> None:
        self._symmetric = SymmetricState(pattern.protocol_name)
        self._symmetric.mix_hash(prologue)
        self._messages = pattern.messages
        self._initiator = initiator
        self._done = 0
        self._generate_e = generate_e
        self._generate_e1 = generate_e1
        self._e: X25519PrivateKey | None = None
        self._e1: MLKEM768PrivateKey | None = None
        self._re: X25519PublicKey | None = None
        self._re1: MLKEM768PublicKey | None = None
        self._initiator_e = b""

    def write_message(self, payload: bytes = b"") -> bytes:
        """Write the next message. Raises LocalProtocolError out of turn."""
        if self._done == len(self._messages) or self._sender_is_initiator() != self._initiator:
            raise LocalProtocolError("it is not this side's turn in the handshake")
        symmetric, message = self._symmetric, bytearray()
        for token in self._messages[self._done]:
            match token:
                case "e":
                    self._e = self._generate_e()
                    public = self._e.public_key().public_bytes_raw()
                    self._note_e(public)
                    symmetric.mix_hash(public)
                    message += public
                case "e1":
                    self._e1 = self._generate_e1()
                    message += symmetric.encrypt_and_hash(self._e1.public_key().public_bytes_raw())
                case "ee":
                    self._mix_dh()
                case _:  # ekem1
                    assert self._re1 is not None
                    shared_secret, ciphertext = self._re1.encapsulate()
                    message += symmetric.encrypt_and_hash(ciphertext)
                    symmetric.mix_key(shared_secret)
        message += symmetric.encrypt_and_hash(payload)
        self._done += 1
        return bytes(message)

    def read_message(self, message: bytes) -> bytes:
        """Read the peer's next message; returns its payload. Raises RemoteProtocolError for anything but a valid one.

        Like every Noise object it is useless after an error.
        """
        if self._done == len(self._messages) or self._sender_is_initiator() == self._initiator:
            raise LocalProtocolError("it is not the peer's turn in the handshake")
        symmetric, rest = self._symmetric, memoryview(message)

        def take(length: int) -> bytes:
            nonlocal rest
            if len(rest) < length:
                raise RemoteProtocolError(f"a handshake message of {len(message)} bytes is too short")
            part, rest = bytes(rest[:length]), rest[length:]
            return part

        for token in self._messages[self._done]:
            match token:
                case "e":
                    public = take(DHLEN)
                    self._note_e(public)
                    self._re = X25519PublicKey.from_public_bytes(public)
                    symmetric.mix_hash(public)
                case "e1":
                    public = symmetric.decrypt_and_hash(take(symmetric.length_of(KEM_PUBLIC_KEY_LENGTH)))
                    try:
                        self._re1 = MLKEM768PublicKey.from_public_bytes(public)
                    except ValueError:  # the modulus check of FIPS 203, section 7.2
                        raise RemoteProtocolError("the KEM public key is not a valid ML-KEM-768 key") from None
                case "ee":
                    self._mix_dh()
                case _:  # ekem1
                    assert self._e1 is not None
                    ciphertext = symmetric.decrypt_and_hash(take(symmetric.length_of(KEM_CIPHERTEXT_LENGTH)))
                    symmetric.mix_key(self._e1.decapsulate(ciphertext))
        payload = symmetric.decrypt_and_hash(bytes(rest))
        self._done += 1
        return payload

    def finish(self) -> HandshakeResult:
        """Split() after the last message (section 5.3): the first key is the initiator's to send with."""
        if self._done != len(self._messages):
            raise LocalProtocolError("the handshake is not finished")
        first, second = self._symmetric.split()
        sending, receiving = (first, second) if self._initiator else (second, first)
        return HandshakeResult(self._symmetric.h, self._initiator_e, sending, receiving)

    def _sender_is_initiator(self) -> bool:
        return self._done % 2 == 0

    def _note_e(self, public: bytes) -> None:
        if self._done == 0:
            self._initiator_e = public

    def _mix_dh(self) -> None:
        assert self._e is not None
        assert self._re is not None
        try:
            shared = self._e.exchange(self._re)
        except ValueError:  # an all-zero result: the peer sent a point of low order (RFC 7748, section 6.1)
            raise RemoteProtocolError("the X25519 public key is a point of low order") from None
        self._symmetric.mix_key(shared)
