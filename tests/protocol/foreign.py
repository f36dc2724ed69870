"""A second implementation of the protocol, written from PROTOCOL.md alone. It imports nothing of securedelivery.

It is written to be compared with the page, not to be used: no state machine, and whatever is not as it should be is an
AssertionError. Section numbers are those of the page; "Noise" is revision 34 of its specification.
"""

import hashlib
import hmac
import json
import struct

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

HANDSHAKE, AUTH, MESSAGE, CLOSE = 1, 2, 3, 4
PSS = padding.PSS(padding.MGF1(SHA256()), 32)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(ck: bytes, ikm: bytes) -> tuple[bytes, bytes]:
    """Noise 4.3, two outputs."""
    temporary = mac(ck, ikm)
    first = mac(temporary, b"\x01")
    return first, mac(temporary, first + b"\x02")


def nonce(counter: int) -> bytes:
    return struct.pack(">IQ", 0, counter)


def header(kind: int, length: int) -> bytes:
    return struct.pack(">BBH", kind, 0, length)


def split_frames(stream: bytes) -> list[tuple[bytes, bytes]]:
    """(header, body) of each frame; the stream must end with a frame."""
    frames = []
    while stream:
        (length,) = struct.unpack(">H", stream[2:4])
        assert len(stream) >= 4 + length
        frames.append((stream[:4], stream[4 : 4 + length]))
        stream = stream[4 + length :]
    return frames


class Direction:
    """One direction's key and counter (2)."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.counter = 0

    def _before_frame(self) -> bytes:
        if self.counter != 0 and self.counter % 1024 == 0:  # Noise 4.2: Rekey()
            self.key = AESGCM(self.key).encrypt(nonce(0xFFFFFFFFFFFFFFFF), b"\0" * 32, None)[:32]
        self.counter += 1
        return nonce(self.counter - 1)

    def seal(self, kind: int, plaintext: bytes) -> bytes:
        at = self._before_frame()
        head = header(kind, len(plaintext) + 16)
        return head + AESGCM(self.key).encrypt(at, plaintext, head)

    def open(self, head: bytes, body: bytes) -> bytes:
        at = self._before_frame()
        return AESGCM(self.key).decrypt(at, body, head)


def padded(message: object, extra: int = 0) -> bytes:
    text = json.dumps(message).encode()
    while len(text) % 64:
        text += b" "
    return text + b" " * (64 * extra)


class Noise:
    """The running ck and h of Noise_NNhfs_25519+MLKEM768_AESGCM_SHA256, and k from the first MixKey on."""

    def __init__(self) -> None:
        self.h = self.ck = sha256(b"Noise_NNhfs_25519+MLKEM768_AESGCM_SHA256")
        self.mix_hash(b"securedelivery/1")

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h, data)

    def mix_key(self, ikm: bytes) -> None:
        self.ck, self.k = hkdf(self.ck, ikm)
        self.n = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = AESGCM(self.k).encrypt(nonce(self.n), plaintext, self.h)
        self.n += 1
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        plaintext = AESGCM(self.k).decrypt(nonce(self.n), ciphertext, self.h)
        self.n += 1
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[Direction, Direction]:
        client_to_server, server_to_client = hkdf(self.ck, b"")
        return Direction(client_to_server), Direction(server_to_client)


def encode_chain(certificates: list[x509.Certificate]) -> bytes:
    chain = b""
    for certificate in certificates:
        der = certificate.public_bytes(Encoding.DER)
        chain += struct.pack(">I", len(der))[1:] + der
    return chain


def encode_auth(chain: bytes, scheme: int, signature: bytes) -> bytes:
    plaintext = struct.pack(">I", len(chain))[1:] + chain + struct.pack(">HH", scheme, len(signature)) + signature
    while len(plaintext) % 1024:
        plaintext += b"\0"
    return plaintext


def parse_auth(plaintext: bytes) -> tuple[bytes, int, bytes]:
    assert len(plaintext) % 1024 == 0
    n = int.from_bytes(plaintext[:3], "big")
    chain, rest = plaintext[3 : 3 + n], plaintext[3 + n :]
    scheme, m = struct.unpack(">HH", rest[:4])
    signature, zeros = rest[4 : 4 + m], rest[4 + m :]
    assert len(chain) == n
    assert len(signature) == m
    assert zeros == b"\0" * len(zeros)
    assert len(zeros) < 1024
    return chain, scheme, signature


def leaf_of(chain: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(chain[3 : 3 + int.from_bytes(chain[:3], "big")])


def to_sign(role: bytes, t: bytes) -> bytes:
    return b"\x20" * 64 + b"securedelivery/1, " + role + b" CertificateVerify" + b"\x00" + t


def sign(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, content: bytes) -> tuple[int, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        return 0x0804, key.sign(content, PSS, SHA256())
    return 0x0403, key.sign(content, ec.ECDSA(SHA256()))


def verify(leaf: x509.Certificate, scheme: int, signature: bytes, content: bytes) -> None:
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        assert scheme == 0x0804
        assert key.key_size >= 3072
        key.verify(signature, content, PSS, SHA256())
    else:
        assert scheme == 0x0403
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        key.verify(signature, content, ec.ECDSA(SHA256()))


class Peer:
    """What client and server share once there are keys."""

    sending: Direction
    receiving: Direction
    t: bytes
    session: bytes

    def message(self, message: object, extra_padding: int = 0) -> bytes:
        return self.sending.seal(MESSAGE, padded(message, extra_padding))

    def close(self, reason: str = "bye", message: str = "") -> bytes:
        return self.sending.seal(CLOSE, padded({"reason": reason, "message": message}))

    def read(self, stream: bytes) -> list[tuple[int, object]]:
        """(kind, decoded JSON) of each MESSAGE and CLOSE."""
        read: list[tuple[int, object]] = []
        for head, body in split_frames(stream):
            kind, flags, _length = struct.unpack(">BBH", head)
            assert kind in (MESSAGE, CLOSE)
            assert flags == 0
            plaintext = self.receiving.open(head, body)
            assert len(plaintext) % 64 == 0
            assert 0 < len(plaintext) <= 65_472
            read.append((kind, json.loads(plaintext)))
        return read

    def _mix(self, label: int, *parts: bytes) -> bytes:
        self.t = sha256(self.t, bytes([label]), *parts)
        return self.t

    def _chain(self, label: int, chain: bytes) -> bytes:
        return self._mix(label, len(chain).to_bytes(3, "big"), chain)

    def _signature(self, label: int, scheme: int, signature: bytes) -> bytes:
        return self._mix(label, struct.pack(">HH", scheme, len(signature)), signature)


class Client(Peer):
    """authority: whom the server's certificate must come from; certificates: leaf first, [] for none."""

    def __init__(self, authority: x509.Certificate, certificates: list[x509.Certificate], key: object) -> None:
        self.authority, self.certificates, self.key = authority, certificates, key

    def hello(self) -> bytes:
        self.noise, self.e, self.e1 = Noise(), X25519PrivateKey.generate(), MLKEM768PrivateKey.generate()
        e, e1 = self.e.public_key().public_bytes_raw(), self.e1.public_key().public_bytes_raw()
        self.noise.mix_hash(e)
        self.noise.mix_hash(e1)  # EncryptAndHash without a key
        self.noise.mix_hash(b"")  # the payload, likewise
        return header(HANDSHAKE, 32 + 1184) + e + e1

    def read_flight(self, stream: bytes) -> None:
        """The server's HANDSHAKE and AUTH."""
        (head, body), (auth_head, auth_body) = split_frames(stream)
        assert head == header(HANDSHAKE, 32 + 1104 + 16)
        noise, re = self.noise, body[:32]
        noise.mix_hash(re)
        noise.mix_key(self.e.exchange(X25519PublicKey.from_public_bytes(re)))
        ciphertext = noise.decrypt(body[32 : 32 + 1104])
        noise.mix_key(self.e1.decapsulate(ciphertext))
        assert noise.decrypt(body[32 + 1104 :]) == b""
        self.sending, self.receiving = noise.split()
        self.t = noise.h

        assert auth_head[:2] == bytes([AUTH, 0])
        chain, scheme, signature = parse_auth(self.receiving.open(auth_head, auth_body))
        t1 = self._chain(1, chain)
        leaf = leaf_of(chain)
        verify(leaf, scheme, signature, to_sign(b"server", t1))
        leaf.verify_directly_issued_by(self.authority)
        self._signature(2, scheme, signature)

    def auth(self) -> bytes:
        chain = encode_chain(self.certificates)
        t3 = self._chain(3, chain)
        scheme, signature = sign(self.key, to_sign(b"client", t3)) if self.certificates else (0, b"")
        self.session = self._signature(4, scheme, signature)
        return self.sending.seal(AUTH, encode_auth(chain, scheme, signature))


class Server(Peer):
    """authority: whom clients' certificates must come from; those without one are let in as well."""

    def __init__(self, authority: x509.Certificate, certificates: list[x509.Certificate], key: object) -> None:
        self.authority, self.certificates, self.key = authority, certificates, key

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()

    def answer(self, body: bytes) -> bytes:
        """The Noise message that answers the client's."""
        noise, re, re1 = Noise(), body[:32], body[32:]
        for part in (re, re1, b""):
            noise.mix_hash(part)
        e = X25519PrivateKey.generate()
        public = e.public_key().public_bytes_raw()
        noise.mix_hash(public)
        noise.mix_key(e.exchange(X25519PublicKey.from_public_bytes(re)))
        shared_secret, ciphertext = self.encapsulate(re1)
        message = public + noise.encrypt(ciphertext)
        noise.mix_key(shared_secret)
        message += noise.encrypt(b"")
        self.receiving, self.sending = noise.split()
        self.t = noise.h
        return message

    def flight(self, stream: bytes) -> bytes:
        """The answer to the client's HANDSHAKE: HANDSHAKE and AUTH."""
        ((head, body),) = split_frames(stream)
        assert head == header(HANDSHAKE, 32 + 1184)
        message = self.answer(body)
        chain = encode_chain(self.certificates)
        t1 = self._chain(1, chain)
        scheme, signature = sign(self.key, to_sign(b"server", t1))
        self._signature(2, scheme, signature)
        auth = self.sending.seal(AUTH, encode_auth(chain, scheme, signature))
        return header(HANDSHAKE, len(message)) + message + auth

    def read_auth(self, stream: bytes) -> x509.Certificate | None:
        """The client's AUTH; returns its leaf."""
        ((head, body),) = split_frames(stream)
        assert head[:2] == bytes([AUTH, 0])
        chain, scheme, signature = parse_auth(self.receiving.open(head, body))
        t3 = self._chain(3, chain)
        leaf = leaf_of(chain) if chain else None
        if leaf is None:
            assert (scheme, signature) == (0, b"")
        else:
            verify(leaf, scheme, signature, to_sign(b"client", t3))
            leaf.verify_directly_issued_by(self.authority)
        self.session = self._signature(4, scheme, signature)
        return leaf
