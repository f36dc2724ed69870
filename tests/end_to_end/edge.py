"""HAProxy in front of the server: it terminates TLS and encrypts anew, and between the two stands a witness.

    client ==TLS==> haproxy "edge" --what TLS carried, in clear--> Recorder --> haproxy "inside" ==TLS==> server

All addresses are sockets that the test has opened, so nothing races for a port.
"""

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from certificate_authority import CertificateAuthority, Issued
from cryptography.hazmat.primitives.serialization import Encoding
from end_to_end.requirements import require
from end_to_end.server_process import ServerProcess
from wire_client import Address

_CONFIGURATION = """
global
    log stdout format raw daemon
    maxconn 200
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend edge
    bind fd@{edge} ssl crt {folder}/edge.pem alpn securedelivery/1 ssl-min-ver TLSv1.3
    default_backend recorder
backend recorder
    server recorder {recorder}
frontend inside
    bind fd@{inside}
    default_backend shop
backend shop
    server shop {shop} ssl crt {folder}/proxy.pem ca-file {folder}/ca.pem verify required verifyhost localhost \
sni str(localhost) alpn securedelivery/1 ssl-min-ver TLSv1.3
"""


class Recorder:
    """A plain TCP relay that keeps what passes, by direction."""

    def __init__(self, onward: Address) -> None:
        self._onward = onward
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: Address = self._listener.getsockname()
        self.to_server = bytearray()
        self.to_client = bytearray()
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def settle(self) -> None:
        """Wait until every connection so far has ended at both ends: then the record is whole."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self._stack.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near = self._stack.enter_context(self._listener.accept()[0])
            except OSError:
                return
            far = self._stack.enter_context(socket.create_connection(self._onward))
            self._stack.callback(_hang_up, near)
            self._stack.callback(_hang_up, far)
            for source, target, record in ((near, far, self.to_server), (far, near, self.to_client)):
                thread = threading.Thread(target=_copy, args=(source, target, record))
                self._threads.append(thread)
                thread.start()


def _copy(source: socket.socket, target: socket.socket, record: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            record += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _hang_up(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


class Edge:
    """A running HAProxy in front of the server. address: for clients. outward: whose certificate it shows to them."""

    def __init__(
        self,
        folder: Path,
        authority: CertificateAuthority,
        server: ServerProcess,
        *,
        outward: CertificateAuthority | None = None,
    ) -> None:
        _bundle(folder / "edge.pem", (outward or authority).server())
        _bundle(folder / "proxy.pem", authority.proxy("edge"))
        (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        self._edge = socket.create_server(("127.0.0.1", 0))
        self._inside = socket.create_server(("127.0.0.1", 0))
        self.address: Address = self._edge.getsockname()
        self.recorder = Recorder(self._inside.getsockname())
        self.log = folder / "haproxy.log"
        configuration = folder / "haproxy.cfg"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                edge=self._edge.fileno(),
                inside=self._inside.fileno(),
                recorder="{}:{}".format(*self.recorder.address),
                shop="{}:{}".format(*server.address),
            )
        )
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [require("haproxy", "-v"), "-db", "-f", str(configuration)],
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._edge.fileno(), self._inside.fileno()),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.recorder.close()
        self._process.terminate()
        self._process.wait(20)
        self._edge.close()
        self._inside.close()

    @property
    def pid(self) -> int:
        return self._process.pid


def _bundle(path: Path, issued: Issued) -> None:
    """Certificate and key in one file, as HAProxy wants it."""
    issued.write(path.with_suffix(".crt"), path.with_suffix(".key"))
    path.write_bytes(path.with_suffix(".crt").read_bytes() + path.with_suffix(".key").read_bytes())


def memory_holds(pid: int, text: bytes) -> bool:
    """Whether a process has the text anywhere in memory that it can write: heap, stacks, buffers."""
    return any(text in region for region in _regions(pid))


def _regions(pid: int) -> Iterator[bytes]:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if bounds is None or "[v" in line:
                continue
            start, end = (int(bound, 16) for bound in bounds.groups())
            memory.seek(start)
            content = bytearray()
            with contextlib.suppress(OSError):  # a guard page, or gone since
                while len(content) < end - start and (part := memory.read(min(1 << 24, end - start - len(content)))):
                    content += part
            yield bytes(content)
