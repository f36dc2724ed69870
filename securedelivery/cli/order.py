"""`securedelivery order`."""

import re
import uuid
from typing import Annotated

import typer

from securedelivery.cli import options, output, paging
from securedelivery.cli.service import Service
from securedelivery.errors import ConfigurationError, ConnectionFailure, RemoteProtocolError
from securedelivery.model import OrderStatus

app = typer.Typer(no_args_is_help=True)

MAX_QUANTITY = 10_000
_LINE = re.compile(r"(?P<sku>.+):(?P<quantity>[0-9]+)", re.DOTALL)


@app.command(
    "place",
    epilog=options.examples(
        "order place GPU-NV-5070",
        'order place GPU-NV-5070:2 CPU-AMD-9800X3D --address "1 Main Street, Springfield"',
        "order place GPU-NV-5070 --redeem 500 --key birthday-2026",
    ),
)
@options.connecting
def place(
    service: Service,
    *,
    lines: Annotated[list[str], typer.Argument(help="What, and how many (1).", metavar="SKU[:QUANTITY]")],
    address: Annotated[str | None, typer.Option(help="Where to; by default the account's.", metavar="TEXT")] = None,
    redeem: Annotated[int | None, typer.Option(help="Pay with points.", min=0, metavar="POINTS")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--key", help="Of your own: the same again gives the same order.", metavar="TEXT")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Place an order. Nothing is ordered twice by repeating a command with the --key that it was given."""
    wanted = [_line(text) for text in lines]
    key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
    client = service.customer()
    try:
        placed = client.place_order(wanted, address=address, redeem_points=redeem, idempotency_key=key)
    except (ConnectionFailure, RemoteProtocolError) as error:
        raise ConnectionFailure(
            f"{error}; it is not known whether the order was placed", f"repeat the command with: --key {key}"
        ) from error
    except KeyboardInterrupt:
        output.error("interrupted; it is not known whether the order was placed", f"repeat it with: --key {key}")
        raise
    output.order(placed, as_json=as_json)


@app.command(
    "list",
    epilog=options.examples("order list", "order list --status out_for_delivery", "order list --limit 1000 --json"),
)
@options.connecting
def show_all(
    service: Service,
    *,
    status: Annotated[OrderStatus | None, typer.Option(help="Only those.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="How many at the most, newest first.", min=1, metavar="NUMBER")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Your orders, newest first."""
    client = service.customer()
    found = paging.collect(
        lambda cursor, most: client.orders(after=cursor, limit=most, status=status), after=after, limit=limit
    )
    if not found.items and not as_json:
        output.note(
            "No orders yet. Order something: securedelivery order place SKU"
            if status is None
            else f"No orders that are {status.value.replace('_', ' ')}."
        )
        return
    output.orders(found.items, found.next, as_json=as_json)


@app.command("show", epilog=options.examples("order show 17", "order show 17 --json"))
@options.connecting
def show(
    service: Service,
    *,
    number: Annotated[int, typer.Argument(help="The order's number.", metavar="NUMBER", min=1)],
    as_json: options.AsJson = False,
) -> None:
    """One order, with its delivery code and history."""
    output.order(service.customer().order(number), as_json=as_json)


def _line(text: str) -> tuple[str, int]:
    """SKU[:QUANTITY]. A SKU can have colons in it: only digits behind the last one are a quantity."""
    match = _LINE.fullmatch(text)
    if match is None:
        if not text:
            raise ConfigurationError("SKU", "there is nothing in it", "see what there is: securedelivery catalog")
        return text, 1
    number = int(match["quantity"]) if len(match["quantity"]) <= len(str(MAX_QUANTITY)) else MAX_QUANTITY + 1
    if not 1 <= number <= MAX_QUANTITY:
        raise ConfigurationError(text, f"a quantity is 1 to {MAX_QUANTITY:,}", f"for example: {match['sku']}:2")
    return match["sku"], number
