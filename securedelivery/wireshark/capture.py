"""What was recorded, in the order of recording."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from securedelivery.wireshark.tcp import Endpoint, TcpFlow, is_from_client, payload_of

__all__ = ["Capture", "Recorded", "RecordedFlow"]

_STEP = 1_000  # nanoseconds at the least between two packets


class Recorded(NamedTuple):
    """A packet. at: nanoseconds since the epoch. data: the Ethernet frame; payload: the TCP payload in it, often none.

    flow: the number of its connection.
    """

    at: int
    data: bytes
    flow: int
    from_client: bool
    payload: bytes


class Capture:
    """For any thread. Times grow strictly, so that the order by time is the order of recording.

    sink: gets each packet, under the lock; without one they are kept in `packets`, packet n at index n - 1. settle: is
    called behind the packets of one call, under the lock as well. count: packets so far.
    """

    def __init__(
        self,
        sink: Callable[[Recorded], None] | None = None,
        clock: Callable[[], int] = time.time_ns,
        *,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self.packets: list[Recorded] = []
        self.count = 0
        self._sink = sink if sink is not None else self.packets.append
        self._clock = clock
        self._settle = settle
        self._latest = 0
        self._flows = 0
        self._lock = threading.Lock()

    def flow(self, client: Endpoint, server: Endpoint) -> "RecordedFlow":
        """A new connection; its opening is recorded. Raises ValueError for addresses of two kinds."""
        tcp = TcpFlow(client, server)
        with self._lock:  # number and opening at once: Wireshark numbers connections by their first packet
            number = self._flows
            self._flows += 1
            self._keep_all(number, tcp.open())
        return RecordedFlow(self, tcp, number)

    def record(self, flow: int, make: Callable[[], list[bytes]]) -> range:
        """Take what make() returns, packets of a flow, all at once; the numbers of those with data (and between)."""
        with self._lock:
            carrying = self._keep_all(flow, make())
        return range(carrying[0], carrying[-1] + 1) if carrying else range(0)

    def _keep_all(self, flow: int, packets: list[bytes]) -> list[int]:
        """The numbers of those that carry data."""
        carrying = [number for number, data in enumerate(packets, self.count + 1) if self._keep(flow, data)]
        if packets:
            self._settle()
        return carrying

    def _keep(self, flow: int, data: bytes) -> bool:
        """Whether it carries data."""
        self._latest = max(self._latest + _STEP, self._clock())
        payload = payload_of(data)
        self._sink(Recorded(self._latest, data, flow, is_from_client(data), payload))
        self.count += 1
        return bool(payload)


class RecordedFlow:
    """One connection of a capture. number: `tcp.stream` in the file."""

    def __init__(self, capture: Capture, tcp: TcpFlow, number: int) -> None:
        self._capture = capture
        self._tcp = tcp
        self.number = number

    def sent(self, from_client: bool, data: bytes) -> range:
        """Returns the numbers of the packets that carry it (pure acknowledgements may lie between)."""
        return self._capture.record(self.number, lambda: self._tcp.send(from_client, data))

    def finished(self, from_client: bool) -> None:
        """One side sends no more."""
        self._capture.record(self.number, lambda: self._tcp.finish(from_client))

    def reset(self, from_client: bool) -> None:
        self._capture.record(self.number, lambda: self._tcp.reset(from_client))
