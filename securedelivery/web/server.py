"""uvicorn in a thread of its own: the listener, what it lets in, and its end."""

import asyncio
import asyncio.sslproto
import contextlib
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable

import structlog
import uvicorn
from starlette.types import ASGIApp

from securedelivery.errors import ConfigurationError
from securedelivery.service.attempts import network
from securedelivery.transport.server import Limits
from securedelivery.transport.tls import WebTls
from securedelivery.web.connections import CONNECTION, PLACE, READER, Connected, Connection, Place, Reader, WebSocket

__all__ = ["WebServer"]

BACKLOG = 512
HANDSHAKE_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 30
ENDING_SECONDS = 5  # for requests under way at the end; the whole stop has 10
STARTING_SECONDS = 10.0
RECORD_BYTES = 16_384
WEBSOCKET_BYTES = 65_536  # of one message: as much as a frame of the socket door


class WebServer:
    """Call start(), then stop() from another thread. on_start: called on the loop, before anything else is."""

    def __init__(self, app: ASGIApp, on_start: Callable[[], None], tls: WebTls, limits: Limits, reader: Reader) -> None:
        self._app = app
        self._on_start = on_start
        self._tls = tls
        self._limits = limits
        self._reader = reader
        self._log = structlog.get_logger("securedelivery.web")
        self._thread = threading.Thread(target=self._run, name="web")
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._server: _Uvicorn | None = None

    def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address in use (port 0 picks a free one). Raises ConfigurationError."""
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(
                f"web {host}:{port}",
                getattr(error, "strerror", None) or str(error),
                "choose an address of this machine and a port that nobody else uses (--web HOST:PORT)",
            ) from error
        self._listener.setblocking(False)
        self._thread.start()
        if not self._ready.wait(STARTING_SECONDS) or self._server is None:
            raise ConfigurationError("web", "it does not start", "see the log")
        address, bound = self._listener.getsockname()[:2]
        return address, bound

    def finish(self, within_seconds: float) -> None:
        """Accept no more, and answer what is under way as far as that takes no longer."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(within_seconds)

    def stop(self) -> None:
        """The end, ENDING_SECONDS after finish() at the latest."""
        self.finish(0.0)
        self._thread.join()

    def renew(self) -> None:
        """The files have changed: load them for new handshakes, and end connections that they no longer let in."""
        try:
            self._tls.renew()
        except ConfigurationError as error:
            self._log.error("! the web's files not reloaded, the old ones stay", error=str(error), hint=error.hint)
        if self._server is not None:
            self._loop.call_soon_threadsafe(self._server.recheck)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # noqa: BLE001 -- a bug here must not go by unseen
            self._log.exception("! the web has ended")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        # A connection's buffer: asyncio's own is 256 KiB, for a TLS record of 16.
        asyncio.sslproto.SSLProtocol.max_size = RECORD_BYTES
        self._loop = asyncio.get_running_loop()
        self._on_start()
        config = uvicorn.Config(
            self._app,
            http=Connection,
            ws=WebSocket,
            ws_max_size=WEBSOCKET_BYTES,
            ws_per_message_deflate=False,  # what is said in a chat is short, and compression tells lengths
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # anybody could send them
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=ENDING_SECONDS,
        )
        # What strangers send would be warnings and errors with tracebacks; of bugs app.py and live.py tell.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server = _Uvicorn(
            config,
            limits=self._limits,
            listener=self._listener,
            tls=self._tls,
            reader=self._reader,
            ready=self._ready.set,
        )
        self._server = server
        await server.serve()


class _Uvicorn(uvicorn.Server):
    """Accepts by itself: uvicorn's way has no bound on handshakes, nor on what one address can take."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        limits: Limits,
        listener: socket.socket,
        tls: WebTls,
        reader: Reader,
        ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._limits = limits
        self._listener = listener
        self._tls = tls
        self._reader = reader
        self._ready = ready
        self._taken: Counter[str] = Counter()
        self._log = structlog.get_logger("securedelivery.web")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 -- uvicorn's signature
        await self.lifespan.startup()
        self._accepting = asyncio.create_task(self._accept_all())
        self.servers = []
        self.started = True
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._accepting
        self._listener.close()
        await super().shutdown(sockets)

    def recheck(self) -> None:
        """End the connections whose certificate is no longer good."""
        for connection in list(self.server_state.connections):
            connected: Connected | None = connection.app_state.get(CONNECTION)
            if connected is None or connected.certificate is None:
                continue
            if self._reader.standing(connected.certificate) is not None:
                connection.transport.abort()

    async def _accept_all(self) -> None:
        loop = asyncio.get_running_loop()
        admitting: set[asyncio.Task[None]] = set()
        while True:
            try:
                sock, address = await loop.sock_accept(self._listener)
            except OSError as error:  # out of file descriptors: the kernel keeps the rest until some are free
                self._log.error("! cannot accept", error=str(error), hint="raise the limit of open files")
                await asyncio.sleep(0.5)
                continue
            slot = network(address[0])
            if self._taken[slot] >= self._limits.connections_per_address or (
                self._taken.total() >= self._limits.connections
            ):
                sock.close()
                continue
            task = asyncio.create_task(self._admit(sock, Place(self._taken, slot)))
            admitting.add(task)
            task.add_done_callback(admitting.discard)

    async def _admit(self, sock: socket.socket, place: Place) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        state = {PLACE: place, READER: self._reader}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(config=self.config, server_state=self.server_state, app_state=state),
                sock,
                ssl=self._tls.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=ENDING_SECONDS,
            )
        except OSError:  # ssl.SSLError is an OSError: whoever speaks no TLS 1.3, or leaves
            place.release()
