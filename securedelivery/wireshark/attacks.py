"""What attackers do at a gateway that ends TLS: they cannot read, but they can count, alter, repeat, swap and cut."""

import threading

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from securedelivery.protocol.frames import HEADER_LENGTH, FrameKind
from securedelivery.protocol.noise import DHLEN, TAG_LENGTH
from securedelivery.wireshark.gateway import Gateway

__all__ = ["Attack", "Cut", "Flip", "Replay", "Swap", "counter_mode", "flipped", "frame_key"]

THE_ORDER = 2  # of the client's MESSAGE frames; the first is its login


class Attack:
    """A hook that lets pass what comes before the second MESSAGE of the client, which is its order.

    before, after: frames, as in Tampering. initiator_e: the client's X25519 key.
    """

    def __init__(self) -> None:
        self.before = self.after = self.initiator_e = b""
        self.packets: tuple[int, ...] = ()
        self._requests = 0

    def __call__(self, gateway: Gateway, from_client: bool, frame: bytes) -> None:
        if from_client and frame[0] == FrameKind.HANDSHAKE:
            self.initiator_e = frame[HEADER_LENGTH : HEADER_LENGTH + DHLEN]
        self._requests += from_client and frame[0] == FrameKind.MESSAGE
        if self._requests < THE_ORDER or self.after:
            gateway.pass_on(from_client, frame)
        elif from_client:
            self.order(gateway, frame)
        else:
            self.answer(gateway, frame)

    def order(self, gateway: Gateway, frame: bytes) -> None:
        """The client's order, or what it sends behind that, as long as nothing has been done."""
        self.before = frame
        gateway.pass_on(True, frame)

    def answer(self, gateway: Gateway, frame: bytes) -> None:
        """The shop's answer, or what comes before it."""
        gateway.pass_on(False, frame)


class Flip(Attack):
    """Flips one bit of the order. bit: its index in the frame."""

    def __init__(self, bit: int) -> None:
        super().__init__()
        self.bit = bit

    def order(self, gateway: Gateway, frame: bytes) -> None:
        self.before, self.after = frame, flipped(frame, self.bit)
        self.packets = gateway.pass_on(True, self.after)


class Replay(Attack):
    """Sends the order once more behind the answer."""

    def answer(self, gateway: Gateway, frame: bytes) -> None:
        gateway.pass_on(False, frame)
        self.after = self.before
        self.packets = gateway.pass_on(True, self.after)


class Swap(Attack):
    """Sends what follows the order first. held: set when the order has come."""

    def __init__(self) -> None:
        super().__init__()
        self.held = threading.Event()

    def order(self, gateway: Gateway, frame: bytes) -> None:
        if not self.before:
            self.before = frame
            self.held.set()
        else:
            self.before, self.after = self.before + frame, frame + self.before
            self.packets = gateway.pass_on(True, self.after)


class Cut(Attack):
    """Hangs up instead of passing the answer on, which is `before`."""

    def answer(self, gateway: Gateway, frame: bytes) -> None:
        self.before = frame
        self.packets = gateway.hang_up()


def flipped(data: bytes, bit: int) -> bytes:
    altered = bytearray(data)
    altered[bit // 8] ^= 0x80 >> bit % 8
    return bytes(altered)


def frame_key(log: str, initiator_e: bytes) -> bytes:
    """The first key from the client to the shop."""
    begin = f"SD_FRAME_KEY_C2S {initiator_e.hex()} "
    return next(bytes.fromhex(line.removeprefix(begin)) for line in log.splitlines() if line.startswith(begin))


def counter_mode(key: bytes, counter: int, frame: bytes) -> bytes:
    """What AES-256-GCM makes of a frame when nobody looks at the tag (NIST SP 800-38D, section 7.1).

    counter: the frame's.
    """
    block = bytes(4) + counter.to_bytes(8) + (2).to_bytes(4)  # 1 is for the tag
    return Cipher(algorithms.AES(key), modes.CTR(block)).decryptor().update(frame[HEADER_LENGTH:-TAG_LENGTH])
