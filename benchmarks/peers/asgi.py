"""uvicorn as FastAPI and Litestar run on it here: uvloop, httptools, TLS 1.3, and a certificate asked of every client.

One process: SQLite lets one transaction write at a time, and the service that is compared is one process too.

The two styles of the peers, with 64 connections that place orders (server CPU microseconds an order / orders a second;
medians of 5 to 7 alternating rounds of 640 orders, on 2 cores with a load average of 5 to 7 from other things, which
used the disk too; so compare within a row only):

                                                     as documented        --tuned
    FastAPI 0.165, database on the disk                 2545 / 246       1283 / 540
    FastAPI 0.165, database in memory (/dev/shm)        2425 / 288       1040 / 853
    Litestar 2.25, disk                                 2239 / 212       1287 / 361
    gRPC 1.85, disk                                     2148 / 246       1275 / 468

Where that comes from (FastAPI, disk, another run: 5 rounds of 512 orders):

                                                     statements where     statements
                                                      they are used      built once
    `def` endpoint (40 threads), a pool of 5 + 10       2697 / 216       1717 / 322
    run_in_executor, two threads, a pool of one         2100 / 292       1310 / 574

What was tried for --tuned, with statements built once (medians of 4 to 7 alternating rounds on the same machine an hour
earlier; not measured again since):

    FastAPI 0.165                                                disk          memory
    `def` endpoint (40 threads), SQLAlchemy's pool of 5 + 10     1526 / 366    1140 /   610
    `def` endpoint (40 threads), a pool of one connection        1516 / 456     994 /   626
    `async def`, run_in_executor, one thread                     1226 / 405     806 / 1,072
    `async def`, run_in_executor, two threads (taken)            1278 / 468     926 /   937
    `async def`, AnyIO's limiter, one thread                     1285 / 330    1065 /   691
    the same in two processes (workers=2)                        1366 / 411    1074 /   787
    in the event loop itself, which everybody else waits for     1086 / 343     858 /   863

    Litestar 2.25, sync_to_thread=True
    the default executor (6 threads on 2 cores)                  1301 / 512
    one thread                                                   1209 / 368
    two threads (taken)                                          1261 / 514

Two threads: one has the database while the other hands over its answer. A second process waits for the first one's
lock.

Who a customer is stands in the certificate. uvicorn does not hand it to the application, so a protocol of our own (a
documented setting, `http=`) takes the name once for each connection into the state that every request carries.
"""

import socket
import ssl
from asyncio import Transport
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

QUIET_SECONDS = 300
"""How long uvicorn keeps a quiet connection; its default of 5 is shorter than a benchmark's preparations."""


class CertificateProtocol(HttpToolsProtocol):
    """request.state.account is the name in the client's certificate."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = self.app_state | {"account": account(transport.get_extra_info("peercert"))}


def account(certificate: dict[str, Any]) -> str:
    """The last part of the URI that it was issued for."""
    uris = [value for kind, value in certificate["subjectAltName"] if kind == "URI"]
    return str(uris[0].rpartition("/")[2])


def tls_context(certs: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certs / "ca.crt")
    context.load_cert_chain(certs / "server.crt", certs / "server.key")
    return context


def serve(app: Any, certs: Path) -> None:
    """Print the port, and serve until a signal comes."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=CertificateProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=QUIET_SECONDS,
        ssl_context_factory=lambda _config, _default: tls_context(certs),
    )
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])
