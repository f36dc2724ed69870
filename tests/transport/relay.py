"""A proxy that terminates TLS and encrypts anew, as a load balancer does; it keeps what it sees."""

import contextlib
import socket
import ssl
import threading
from typing import Self


class Relay:
    """A context manager. outward: how it meets clients; inward: how it meets the server, with its own certificate."""

    def __init__(self, port: int, outward: ssl.SSLContext, inward: ssl.SSLContext) -> None:
        self._server = ("127.0.0.1", port)
        self._outward, self._inward = outward, inward
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.seen = bytearray()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="relay")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                client = self._outward.wrap_socket(accepted, server_side=True)
                dialled = socket.create_connection(self._server)
                server = self._inward.wrap_socket(dialled, server_hostname="localhost")
                self._sockets += [client, server]
                # One thread for both ways: an SSLSocket bears no two.
                thread = threading.Thread(target=self._carry, args=(client, server), name="relay")
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        client.settimeout(0.005)
        server.settimeout(0.005)
        with contextlib.suppress(OSError):
            self._copy(client, server)
        with contextlib.suppress(OSError, ValueError):
            client.unwrap()
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _copy(self, client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        while True:
            for source, target in ((client, server), (server, client)):
                with contextlib.suppress(TimeoutError):
                    data = source.recv(65_536)
                    if not data:
                        return
                    self.seen += data
                    target.sendall(data)
