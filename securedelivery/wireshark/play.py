"""What a performance of the demonstration leaves: packets, keys, and what those on stage said, in their own words."""

import msgspec

from securedelivery.wireshark.capture import Recorded

__all__ = ["Harvest", "Leg", "Play", "Reading", "Tampering", "Verdict"]


class Leg(msgspec.Struct, frozen=True):
    """One recorded TCP connection.

    number: its `tcp.stream` in the files, from 0. client, server: who is at its ends, such as "alice" and "gateway".
    says: one sentence, what it is for.
    """

    number: int
    act: int
    client: str
    server: str
    says: str


class Tampering(msgspec.Struct, frozen=True):
    """What an attacker did to bytes on their way.

    leg: where the result was recorded. packets: the numbers of the packets that carry it. before, after: the bytes
    that came to the attacker and those that went on (TLS records in the act of a relay, frames in those of a gateway);
    `after` is empty where they were held back. bit: the index of the flipped bit in `after` (0 is the highest bit of
    the first byte), None where none was flipped. unchecked: where a frame was altered, what its receiver would have
    read, had it decrypted without a look at the tag (counter mode alone, without the padding).
    """

    leg: int
    packets: tuple[int, ...]
    what: str
    before: bytes
    after: bytes
    bit: int | None = None
    unchecked: bytes = b""


class Verdict(msgspec.Struct, frozen=True):
    """What a receiver made of it. said: its own words: an error, a line of its log, the slug of its CLOSE."""

    act: int
    leg: int
    who: str
    said: str


class Reading(msgspec.Struct, frozen=True):
    """What an attacker read in clear, on a leg."""

    act: int
    leg: int
    who: str
    plaintext: bytes


class Harvest(msgspec.Struct, frozen=True):
    """Act 8: a recording, and a computer that finds X25519 private keys.

    leg: the recorded connection. private_key: the client's X25519 private key (32 bytes), as that computer would find
    it. kem_ciphertext: what it found in the ekem1 envelope, which the key of `e, ee` opens (1,088 bytes). hybrid: what
    stopped it there, in words. classical_frame, classical_plaintext: a frame under Noise_NN_25519, made in memory for
    comparison, and what the same computer read in it.
    """

    leg: int
    private_key: bytes
    kem_ciphertext: bytes
    hybrid: str
    classical_frame: bytes
    classical_plaintext: bytes


class Play(msgspec.Struct, frozen=True):
    """The whole of it. packets[n - 1] is packet n of the files; times in nanoseconds since the epoch.

    tls_keys: an NSS key log. frame_keys: lines SD_FRAME_KEY_C2S and SD_FRAME_KEY_S2C (docs/protocol.md).
    """

    packets: tuple[Recorded, ...]
    legs: tuple[Leg, ...]
    tamperings: tuple[Tampering, ...]
    verdicts: tuple[Verdict, ...]
    readings: tuple[Reading, ...]
    harvest: Harvest
    tls_keys: str
    frame_keys: str
    seconds: float
    """How long it took."""
