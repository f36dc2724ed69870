"""A gateway that ends TLS towards the client and begins it anew towards the shop, and records both its connections.

It holds a TLS key that clients trust, as a load balancer does, or whoever broke into one. What passes are frames: a
hook sees each and decides what becomes of it. NoiseGateway is a hook that ends the inner handshake as well.
"""

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Self

from securedelivery.protocol.connection import PROLOGUE
from securedelivery.protocol.frames import HEADER, HEADER_LENGTH, FrameKind
from securedelivery.protocol.noise import NN_HFS, TAG_LENGTH, CipherState, HandshakeState
from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.wireshark.capture import Capture, RecordedFlow
from securedelivery.wireshark.tcp import Endpoint

__all__ = ["Ends", "Gateway", "Hook", "NoiseGateway"]

PATIENCE_SECONDS = 10.0
RECEIVE_BYTES = 65_536
HOST = "localhost"

Hook = Callable[["Gateway", bool, bytes], object]
"""(gateway, from the client?, frame with its header): called for each frame, on the gateway's thread. It passes on what
it likes, with gateway.pass_on()."""

Ends = Callable[[int], tuple[Endpoint, Endpoint]]
"""(the TCP port that a connection comes from) -> its two ends, as they are to be recorded."""


class Gateway:
    """Takes one connection and carries it to its end. A context manager: leaving it waits for that end.

    outward: how it meets the client; inward: how it meets the shop, with its own certificate; onward: the shop's TCP
    port on this machine. outward_ends, inward_ends: what to record as the ends of the two connections.
    port: where it listens, on this machine.
    """

    def __init__(
        self,
        outward: ssl.SSLContext,
        inward: ssl.SSLContext,
        onward: int,
        capture: Capture,
        *,
        outward_ends: Ends,
        inward_ends: Ends,
        hook: Hook | None = None,
    ) -> None:
        self._outward, self._inward, self._onward = outward, inward, onward
        self._capture = capture
        self._outward_ends, self._inward_ends = outward_ends, inward_ends
        self._hook: Hook = hook or Gateway.pass_on
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self._client: _Side
        self._shop: _Side
        self._hung_up = False
        self._failure: BaseException | None = None
        self._sockets = [self._listener]
        self._thread = threading.Thread(target=self._run, name="gateway")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # nobody is going to end the connection
            for sock in list(self._sockets):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        if kind is None and self._failure is not None:
            raise self._failure

    # For hooks, on the gateway's thread

    @property
    def outward_leg(self) -> int:
        """The number of the recorded connection between client and gateway."""
        return self._client.flow.number

    @property
    def inward_leg(self) -> int:
        """That of the one between gateway and shop."""
        return self._shop.flow.number

    def pass_on(self, from_client: bool, *frames: bytes) -> tuple[int, ...]:
        """Send to the shop what comes from the client, and the other way round. Returns the numbers of the packets."""
        return (self._shop if from_client else self._client).send(b"".join(frames))

    def hang_up(self) -> tuple[int, ...]:
        """End TLS on both sides, properly, and throw away what still comes.

        Returns the numbers of the packets that tell the client.
        """
        self._hung_up = True
        packets = self._client.end()
        self._shop.end()
        return packets

    # Inside

    def _run(self) -> None:
        try:
            self._carry()
        except BaseException as error:  # noqa: BLE001 -- raised again by whoever leaves the context
            self._failure = error
        finally:
            for sock in self._sockets:
                sock.close()

    def _carry(self) -> None:
        accepted, address = self._listener.accept()
        ends = self._outward_ends(address[1])
        self._client = self._side(accepted, Channel(self._outward), ends, from_client=True)
        self._client.handshake()
        dialled = socket.create_connection(("127.0.0.1", self._onward), PATIENCE_SECONDS)
        ends = self._inward_ends(dialled.getsockname()[1])
        self._shop = self._side(dialled, Channel(self._inward, server_hostname=HOST), ends, from_client=False)
        self._shop.handshake()
        with selectors.DefaultSelector() as selector:
            for side in (self._client, self._shop):
                selector.register(side.sock, selectors.EVENT_READ, side)
                self._deliver(side)  # what came with the handshake
            while selector.get_map():
                ready = selector.select(PATIENCE_SECONDS)
                if not ready:
                    raise TimeoutError("nothing happens at the gateway any more")
                for key, _ in ready:
                    key.data.receive()
                    self._deliver(key.data)
                    if key.data.gone:
                        selector.unregister(key.fileobj)

    def _side(
        self, sock: socket.socket, channel: Channel, ends: tuple[Endpoint, Endpoint], *, from_client: bool
    ) -> "_Side":
        self._sockets.append(sock)
        sock.settimeout(PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Side(sock, channel, self._capture.flow(*ends), from_client=from_client)

    def _deliver(self, side: "_Side") -> None:
        """Give the hook what has arrived in full, then tell the other side if that was all."""
        from_client = side is self._client
        for frame in side.frames():
            if not self._hung_up:
                self._hook(self, from_client, frame)
        if side.ended:
            (self._shop if from_client else self._client).end()


class _Side:
    """One of the two connections. from_client: whether what arrives here is sent by the one who has dialled."""

    def __init__(self, sock: socket.socket, channel: Channel, flow: RecordedFlow, *, from_client: bool) -> None:
        self.sock = sock
        self.flow = flow
        self.ended = False  # TLS: nothing more comes
        self.gone = False  # TCP: likewise
        self._channel = channel
        self._from_client = from_client
        self._buffer = b""
        self._closed = False

    def handshake(self) -> None:
        while not self._channel.handshake():
            self._flush()
            self.receive()
        self._flush()

    def receive(self) -> None:
        try:
            raw = self.sock.recv(RECEIVE_BYTES)
        except ConnectionError:
            self._reset()
            return
        if raw:
            self.flow.sent(self._from_client, raw)
        else:
            self.gone = True
            self.flow.finished(self._from_client)
        self._channel.feed(raw)

    def frames(self) -> Iterator[bytes]:
        """What has arrived in full."""
        while not self.ended:
            try:
                plaintext = self._channel.read()
            except TlsFailure:
                plaintext = b""
            if plaintext is None:
                return
            self.ended = not plaintext
            self._buffer += plaintext
            while len(self._buffer) >= HEADER_LENGTH:
                end = HEADER_LENGTH + HEADER.unpack_from(self._buffer)[2]
                if len(self._buffer) < end:
                    break
                frame, self._buffer = self._buffer[:end], self._buffer[end:]
                yield frame

    def send(self, data: bytes) -> tuple[int, ...]:
        """Returns the numbers of the packets; none where there is nobody any more to send to."""
        if self._closed:
            return ()
        with contextlib.suppress(TlsFailure):  # it was cut
            self._channel.write(data)
        return self._flush()

    def end(self) -> tuple[int, ...]:
        """close_notify, for who has not said it already, and FIN; once. Returns the numbers of the former's packets.

        Who has said it may be gone, and its kernel would answer with RST.
        """
        packets: tuple[int, ...] = ()
        if not self._closed:
            self._closed = True
            if not self.ended:
                self._channel.close()
            packets = self._flush()
            self.flow.finished(not self._from_client)
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
        return packets

    def _flush(self) -> tuple[int, ...]:
        raw = self._channel.take_raw()
        if not raw:
            return ()
        packets = self.flow.sent(not self._from_client, raw)
        try:
            self.sock.sendall(raw)
        except ConnectionError:
            self._reset()
        return tuple(packets)

    def _reset(self) -> None:
        self.ended = self.gone = self._closed = True
        self.flow.reset(self._from_client)


class NoiseGateway:
    """A hook that is the responder towards the client and the initiator towards the shop, and so reads every frame.

    log: takes the frame keys of the connection with the client: the client's e, the key from it and the key to it.
    read: the plaintexts of the client's MESSAGE frames, without their padding.
    """

    def __init__(self, log: Callable[[bytes, bytes, bytes], None]) -> None:
        self._log = log
        self._responder = HandshakeState(NN_HFS, initiator=False, prologue=PROLOGUE)
        self._initiator = HandshakeState(NN_HFS, initiator=True, prologue=PROLOGUE)
        self._ciphers: dict[bool, tuple[CipherState, CipherState]] = {}
        self._client_left = False
        self.read: list[bytes] = []

    def __call__(self, gateway: Gateway, from_client: bool, frame: bytes) -> None:
        kind, _, _ = HEADER.unpack_from(frame)
        if self._client_left and not from_client:
            return  # there is nobody to pass it on to
        if kind != FrameKind.HANDSHAKE:
            gateway.pass_on(from_client, self._again(kind, from_client, frame))
        elif from_client:
            self._responder.read_message(frame[HEADER_LENGTH:])
            gateway.pass_on(from_client, _handshake(self._initiator.write_message()))
        else:
            self._initiator.read_message(frame[HEADER_LENGTH:])
            gateway.pass_on(from_client, _handshake(self._responder.write_message()))
            self._finish()

    def _finish(self) -> None:
        client, shop = self._responder.finish(), self._initiator.finish()
        self._ciphers = {True: (client.receiving, shop.sending), False: (shop.receiving, client.sending)}
        self._log(client.initiator_e, client.receiving.key, client.sending.key)

    def _again(self, kind: int, from_client: bool, frame: bytes) -> bytes:
        """Decrypted with the key that its sender shares with this gateway, encrypted with that of its receiver."""
        receiving, sending = self._ciphers[from_client]
        plaintext = receiving.decrypt_with_ad(frame[:HEADER_LENGTH], frame[HEADER_LENGTH:])
        if from_client and kind == FrameKind.MESSAGE:
            self.read.append(plaintext.rstrip(b" "))
        self._client_left = self._client_left or (from_client and kind == FrameKind.CLOSE)
        header = HEADER.pack(kind, 0, len(plaintext) + TAG_LENGTH)
        return header + sending.encrypt_with_ad(header, plaintext)


def _handshake(message: bytes) -> bytes:
    return HEADER.pack(FrameKind.HANDSHAKE, 0, len(message)) + message
