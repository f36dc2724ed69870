"""What a story is made of."""

from enum import StrEnum

import msgspec

__all__ = [
    "LAYERS",
    "Act",
    "Exhibit",
    "Layer",
    "Part",
    "Question",
    "Said",
    "Scene",
    "Story",
    "Strip",
    "Table",
]


class Layer(StrEnum):
    """What a byte belongs to: the envelopes from the outside in, then keys and proofs of identity."""

    NETWORK = "network"
    TLS = "tls"
    FRAME = "frame"
    MESSAGE = "message"
    PADDING = "padding"
    X25519 = "x25519"
    KEM = "ml-kem"
    IDENTITY = "identity"


LAYERS: dict[Layer, tuple[str, str]] = {
    Layer.NETWORK: ("Network", "Ethernet, IP and TCP: the address on the parcel. Everybody on the way reads it."),
    Layer.TLS: ("TLS 1.3", "The outer envelope, the same that a browser uses."),
    Layer.FRAME: ("Frame", "The inner envelope: AES-256-GCM under keys that only the two ends have."),
    Layer.MESSAGE: ("Message", "What is said, as JSON text."),
    Layer.PADDING: ("Padding", "Spaces or zeros that blur how long the message is."),
    Layer.X25519: (
        "X25519",
        "Keys of 32 bytes. From a public one a large quantum computer would find the private one.",
    ),
    Layer.KEM: ("ML-KEM-768", "A public key (1,184 bytes) or a ciphertext (1,088), to withstand such a computer."),
    Layer.IDENTITY: ("Identity", "Certificates and signatures: who is speaking."),
}
"""Each layer's name, and what it is."""


class Part(msgspec.Struct, frozen=True):
    """Bytes that lie together and belong to one layer.

    sealed: whether who looks on cannot read them. bit: the index in `data` of a bit that an attacker flipped (0 is the
    highest bit of the first byte), None where none was. reads: what they say, where that is text or has a meaning.
    """

    layer: Layer
    what: str
    data: bytes
    sealed: bool = False
    bit: int | None = None
    reads: str = ""


class Strip(msgspec.Struct, frozen=True):
    """Bytes that follow each other. wire: whether they are as in the packets, else something was opened to see them."""

    title: str
    parts: tuple[Part, ...]
    wire: bool


class Said(msgspec.Struct, frozen=True):
    """A receiver's own words."""

    who: str
    words: str


class Exhibit(msgspec.Struct, frozen=True):
    """Bytes to look at.

    leg: the `tcp.stream`. packets: the numbers of those that carry them, the same in all three capture files. at: when
    the last of them passed, nanoseconds since the epoch. verdicts: what the receiver made of it; accepted: whether it
    took it. computed: the bytes are in no packet; those named are the ones that they belong to.
    """

    title: str
    leg: int
    packets: tuple[int, ...]
    at: int
    sender: str
    receiver: str
    strips: tuple[Strip, ...]
    note: str = ""
    verdicts: tuple[Said, ...] = ()
    accepted: bool = False
    computed: bool = False


class Table(msgspec.Struct, frozen=True):
    """numbers: the columns that hold numbers, counted from 0."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    note: str = ""


class Scene(msgspec.Struct, frozen=True):
    """Words, then what there is to see. heading: empty for the first scene of an act."""

    heading: str
    paragraphs: tuple[str, ...]
    shown: tuple[Table | Exhibit, ...] = ()


class Question(msgspec.Struct, frozen=True):
    """For a class; easy ones first."""

    asked: str
    answer: str


class Act(msgspec.Struct, frozen=True):
    """onlooker: who looks on, and with which keys. opened: how many layers are open to them: 0, 1 (TLS) or 2.

    gist: what to remember. filter: what to type into Wireshark's filter line to see the act's packets.
    """

    number: int
    title: str
    onlooker: str
    opened: int
    scenes: tuple[Scene, ...]
    gist: str
    questions: tuple[Question, ...]
    filter: str


class Story(msgspec.Struct, frozen=True):
    """at: of the first packet, nanoseconds since the epoch. cast: name, address in the captures, who that is.

    seconds: how long the play took.
    """

    acts: tuple[Act, ...]
    cast: tuple[tuple[str, str, str], ...]
    packets: int
    connections: int
    at: int
    seconds: float
