"""`securedelivery info` and `securedelivery ping`."""

import time
from typing import Annotated

import typer

from securedelivery.cli import options, output
from securedelivery.cli.service import Service

app = typer.Typer()


@app.command("info", epilog=options.examples("info", "info --server localhost:5555 --ca certs/ca.crt --json"))
@options.connecting
def info(service: Service, *, as_json: options.AsJson = False) -> None:
    """The service: its name, version, currency and limits. Needs no login."""
    output.info(service.client().info(), as_json=as_json)


@app.command("ping", epilog=options.examples("ping", "ping --count 5"))
@options.connecting
def ping(
    service: Service,
    *,
    count: Annotated[int, typer.Option(help="How often.", min=1, max=1000, metavar="NUMBER")] = 1,
    as_json: options.AsJson = False,
) -> None:
    """Connect, and say how long that and each round trip take. Needs no login."""
    began = time.perf_counter()
    client = service.client()
    connected = time.perf_counter() - began
    trips = []
    for _ in range(count):
        began = time.perf_counter()
        client.ping()
        trips.append(time.perf_counter() - began)
    output.ping(client.welcome, connected, trips, as_json=as_json)
