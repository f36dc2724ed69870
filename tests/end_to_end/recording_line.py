"""A line that keeps a copy of what it carries, as somebody on the network could."""

import socket
import threading
from typing import Self

from wire_client import Address

_STUCK_SECONDS = 20.0


class RecordingLine:
    """Carries one connection to the server. A context manager; behind it, sent and received hold all bytes."""

    def __init__(self, server: Address) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_STUCK_SECONDS)
        self.address: Address = self._listener.getsockname()
        self._thread = threading.Thread(target=self._carry)
        self.sent = b""
        self.received = b""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(_STUCK_SECONDS)
        self._listener.close()
        assert not self._thread.is_alive()

    def _carry(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._server, _STUCK_SECONDS) as server:
            client.settimeout(_STUCK_SECONDS)
            answers = threading.Thread(target=self._answers, args=(client, server))
            answers.start()
            while data := client.recv(65_536):
                self.sent += data
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
            answers.join()

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        while data := server.recv(65_536):
            self.received += data
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
