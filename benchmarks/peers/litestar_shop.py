"""The shop on Litestar and uvicorn, with SQLAlchemy 2 Core.

    python -m benchmarks.peers.litestar_shop --certs DIR --database FILE [--tuned]    prints its port

POST /ping, POST /orders, GET /durability. Structs of msgspec, Litestar's own choice, say what comes and goes.

What blocks runs with `sync_to_thread=True`, as its documentation has it: in asyncio's own executor, which has four
threads more than the machine has processors.

--tuned: the statements and the one connection of benchmarks/peers/tuned.py, and an executor of two threads
(`set_asyncio_executor`): more of them would wait for SQLite's one writer (benchmarks/peers/asgi.py has the figures).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from litestar import Litestar, Request, Response, get, post
from litestar.concurrency import set_asyncio_executor
from litestar.datastructures import State
from msgspec import Meta, Struct, convert
from sqlalchemy import Engine

from benchmarks.peers import asgi, documented, shop, tuned


class Ping(Struct):
    number: int


class WantedLine(Struct):
    sku: Annotated[str, Meta(min_length=1, max_length=64)]
    quantity: Annotated[int, Meta(ge=1, le=10_000)]


class PlaceOrder(Struct):
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=128)]
    lines: Annotated[list[WantedLine], Meta(min_length=1, max_length=100)]
    address: Annotated[str, Meta(min_length=1, max_length=500)]


class Line(Struct):
    sku: str
    name: str
    quantity: int
    unit_price: int
    total: int


class Entry(Struct):
    status: str
    at: str
    by: str
    note: str | None


class Order(Struct):
    order: int
    version: int
    account: str
    status: str
    lines: list[Line]
    subtotal: int
    discount: int
    total: int
    currency: str
    address: str
    points_earned: int
    points_redeemed: int
    courier: str | None
    history: list[Entry]
    placed_at: str
    changed_at: str
    delivery_code: str


@post("/ping", status_code=200)
async def ping(data: Ping) -> Ping:
    return data


@post("/orders", status_code=200, sync_to_thread=True)
def place(data: PlaceOrder, request: Request[Any, Any, Any], state: State) -> Order:
    lines = [(line.sku, line.quantity) for line in data.lines]
    wanted = shop.Wanted(data.idempotency_key, lines, data.address)
    return convert(state.place(state.engine, request.scope["state"]["account"], wanted), Order)


@get("/durability", sync_to_thread=True)
def durability(state: State) -> dict[str, str | int]:
    return shop.pragmas(state.engine)


def refuse(_request: Request[Any, Any, Any], refused: shop.Refused) -> Response[dict[str, str]]:
    return Response({"reason": refused.reason, "message": str(refused)}, status_code=refused.status)


def application(engine: Engine, placing: Callable[[Engine, str, shop.Wanted], dict[str, Any]]) -> Litestar:
    return Litestar(
        [ping, place, durability],
        exception_handlers={shop.Refused: refuse},
        openapi_config=None,
        state=State({"engine": engine, "place": placing}),
    )


def main() -> None:
    options = shop.options(__doc__).parse_args()
    if options.tuned:
        engine = shop.open_shop(options.database, stock=options.stock, pool=tuned.POOL)
        with ThreadPoolExecutor(tuned.THREADS) as database:
            set_asyncio_executor(database)
            asgi.serve(application(engine, tuned.place), options.certs)
    else:
        engine = shop.open_shop(options.database, stock=options.stock)
        asgi.serve(application(engine, documented.place), options.certs)


if __name__ == "__main__":
    main()
