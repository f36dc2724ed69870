"""The line between a browser and the shop, to be cut and mended: no setting of the browser does that to WebSockets."""

import contextlib
import socket
import struct
import threading
from typing import Self

from wire_client import Address

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends RST and drops what is queued


class Line:
    """A context manager. cut() ends every connection, mid-word, and lets none through before mend().

    address: where to connect to. cuts: connections that were ended so.
    """

    def __init__(self, to: Address) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address: Address = self._listener.getsockname()
        self.cuts = 0
        self._lock = threading.Lock()
        self._down = False
        self._open: set[tuple[socket.socket, socket.socket]] = set()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def site(self) -> str:
        return f"https://127.0.0.1:{self.address[1]}"

    def cut(self) -> None:
        with self._lock:
            self._down = True
            for ends in self._open:
                for end in ends:
                    with contextlib.suppress(OSError):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        end.shutdown(socket.SHUT_RDWR)  # wakes who reads it
                self.cuts += 1

    def mend(self) -> None:
        self._down = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                server = None if self._down else self._connect()
                if server is None:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    client.close()
                    continue
                self._open.add((client, server))
            carrier = threading.Thread(target=self._carry_both, args=(client, server))
            self._threads.append(carrier)
            carrier.start()

    def _connect(self) -> socket.socket | None:
        try:
            return socket.create_connection(self._to, 10)
        except OSError:  # the shop is down
            return None

    def _carry_both(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=_carry, args=(server, client))
        back.start()
        _carry(client, server)
        back.join()
        with self._lock:
            self._open.discard((client, server))
            client.close()
            server.close()


def _carry(source: socket.socket, target: socket.socket) -> None:
    source.settimeout(None)
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
