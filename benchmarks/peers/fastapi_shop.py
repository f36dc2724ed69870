"""The shop on FastAPI and uvicorn, with SQLAlchemy 2 Core.

    python -m benchmarks.peers.fastapi_shop --certs DIR --database FILE [--tuned]    prints its port

POST /ping, POST /orders, GET /durability. Pydantic models say what comes and goes.

As its tutorial on SQL databases has it: a plain `def` endpoint, which runs in Starlette's pool of 40 threads, and the
transaction within it, so that it is on the disk before the answer goes out. The tutorial goes on to hand out its
session by a dependency with `yield`; that would be two more ways through the pool for each request, and is left out.

--tuned: the statements and the one connection of benchmarks/peers/tuned.py, and asyncio's `run_in_executor` with two
threads instead of 40, which wait for SQLite's one writer and for Python's lock; nor does an `async def` endpoint go
through the pool a second time to have its answer validated (benchmarks/peers/asgi.py has the figures).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Engine

from benchmarks.peers import asgi, documented, shop, tuned


class Ping(BaseModel):
    number: int


class WantedLine(BaseModel):
    sku: Annotated[str, Field(min_length=1, max_length=64)]
    quantity: Annotated[int, Field(ge=1, le=10_000)]


class PlaceOrder(BaseModel):
    idempotency_key: Annotated[str, Field(min_length=1, max_length=128)]
    lines: Annotated[list[WantedLine], Field(min_length=1, max_length=100)]
    address: Annotated[str, Field(min_length=1, max_length=500)]

    def wanted(self) -> shop.Wanted:
        return shop.Wanted(self.idempotency_key, [(line.sku, line.quantity) for line in self.lines], self.address)


class Line(BaseModel):
    sku: str
    name: str
    quantity: int
    unit_price: int
    total: int


class Entry(BaseModel):
    status: str
    at: str
    by: str
    note: str | None


class Order(BaseModel):
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


def application(engine: Engine) -> FastAPI:
    """As its documentation shows it."""
    app = _without_orders(engine)

    @app.post("/orders", response_model=Order)
    def place(asked: PlaceOrder, request: Request) -> dict[str, Any]:
        return documented.place(engine, request.state.account, asked.wanted())

    return app


def tuned_application(engine: Engine, database: ThreadPoolExecutor) -> FastAPI:
    app = _without_orders(engine)

    @app.post("/orders", response_model=Order)
    async def place(asked: PlaceOrder, request: Request) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(database, tuned.place, engine, request.state.account, asked.wanted())

    return app


def _without_orders(engine: Engine) -> FastAPI:
    app = FastAPI()

    @app.post("/ping")
    async def ping(asked: Ping) -> Ping:
        return asked

    @app.get("/durability")
    def durability() -> dict[str, str | int]:
        return shop.pragmas(engine)

    @app.exception_handler(shop.Refused)
    async def refuse(_request: Request, refused: shop.Refused) -> JSONResponse:
        return JSONResponse({"reason": refused.reason, "message": str(refused)}, refused.status)

    return app


def main() -> None:
    options = shop.options(__doc__).parse_args()
    if options.tuned:
        engine = shop.open_shop(options.database, stock=options.stock, pool=tuned.POOL)
        with ThreadPoolExecutor(tuned.THREADS) as database:
            asgi.serve(tuned_application(engine, database), options.certs)
    else:
        asgi.serve(application(shop.open_shop(options.database, stock=options.stock)), options.certs)


if __name__ == "__main__":
    main()
