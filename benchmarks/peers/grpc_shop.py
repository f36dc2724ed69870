"""The shop on gRPC for Python, with SQLAlchemy 2 Core.

    python -m benchmarks.peers.grpc_shop --certs DIR --database FILE [--tuned]    prints its port

shop.Shop/Ping, Place, Durability. A `grpc.server` with `futures.ThreadPoolExecutor(max_workers=10)`, as its
documentation has it.

--tuned: the statements and the one connection of benchmarks/peers/tuned.py, and two threads: SQLite lets one
transaction write at a time, so one writes while the other parses or answers. What was tried, with those statements
(server CPU microseconds a request / requests a second; medians of 5 alternating rounds, grpcio 1.85, on a machine that
was busy with other things):

    ThreadPoolExecutor of               ping, 8 connections    order, 64 connections
    2 threads (taken)                           146 / 6,650              1187 / 708
    10 threads, the number of its examples      136 / 5,814              1336 / 738
    1 thread                                    131 / 6,690              1279 / 739
    grpc.aio                                    184 / 4,863              1535 / 654
    grpc.aio with uvloop                        159 / 4,141              1327 / 650

One to ten threads are the same within the noise, but ten fall into a convoy for Python's lock now and then (368 and 406
microseconds a ping in 2 of 14 rounds), two never did. Ping again, as documented beside --tuned, 7 rounds: 173 (111 to
233) beside 106 (96 to 124); orders: benchmarks/peers/asgi.py. One process, as the service that is compared is one.

gRPC for Python cannot be told a least version of TLS (its issue 37305). TLS 1.2 is ruled out by its cipher suites: the
server's certificate is of ECDSA, and of those that ask for RSA alone none can be agreed on. TLS 1.3 has its own.
"""

import os
import signal
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"  # before grpc is imported

import grpc
from sqlalchemy import Engine

from benchmarks.peers import documented, shop, tuned
from benchmarks.peers.messages import messages, services

GRACE_SECONDS = 1.0
WORKERS = 10  # of gRPC's own examples

CODES = {
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
}


class Shop(services.ShopServicer):  # type: ignore[misc]
    def __init__(self, engine: Engine, placing: Callable[[Engine, str, shop.Wanted], dict[str, Any]]) -> None:
        self._engine = engine
        self._placing = placing

    def Ping(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802 -- gRPC's names
        return request

    def Place(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        account = context.auth_context()["x509_common_name"][0].decode()
        lines = [(line.sku, line.quantity) for line in request.lines]
        if not (request.idempotency_key and lines and request.address and all(count > 0 for _, count in lines)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid_params: a key, lines and an address are needed")
        wanted = shop.Wanted(request.idempotency_key, lines, request.address)
        try:
            return messages.Order(**self._placing(self._engine, account, wanted))
        except shop.Refused as refused:
            context.abort(CODES[refused.status], f"{refused.reason}: {refused}")

    def Durability(self, _request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802
        return messages.DurabilityAnswer(**shop.pragmas(self._engine))


def credentials(certs: Path) -> grpc.ServerCredentials:
    pair = ((certs / "server.key").read_bytes(), (certs / "server.crt").read_bytes())
    return grpc.ssl_server_credentials([pair], (certs / "ca.crt").read_bytes(), require_client_auth=True)


def main() -> None:
    options = shop.options(__doc__).parse_args()
    pool, placing, workers = (
        (tuned.POOL, tuned.place, tuned.THREADS) if options.tuned else (None, documented.place, WORKERS)
    )
    engine = shop.open_shop(options.database, stock=options.stock, pool=pool)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _stack: ended.set())
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=workers))
    services.add_ShopServicer_to_server(Shop(engine, placing), server)
    port = server.add_secure_port("127.0.0.1:0", credentials(options.certs))
    server.start()
    print(port, flush=True)
    ended.wait()
    server.stop(GRACE_SECONDS).wait()


if __name__ == "__main__":
    main()
