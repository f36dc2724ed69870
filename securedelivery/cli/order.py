"""`securedelivery order`."""

import re
import uuid
from typing import Annotated

import typer

from securedelivery.cli import lazy, options, output, paging
from securedelivery.cli.lazy import Entry
from securedelivery.cli.service import Advised, Service, advising
from securedelivery.errors import ConfigurationError, ConnectionFailure, Reason, Refusal, RemoteProtocolError
from securedelivery.model import OrderStatus

_LIVE = {"track": Entry("tracking:track", "Follow an order live.", group=False)}
app = typer.Typer(no_args_is_help=True, cls=lazy.group(_LIVE))

Number = Annotated[int, typer.Argument(help="The order's number.", metavar="NUMBER", min=1)]
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
    account: Annotated[str | None, typer.Option(help="For staff: those of one customer.", metavar="NAME")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most, newest first.", min=1, metavar="NUMBER")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Your orders, newest first. For staff: everybody's."""
    client = service.customer()
    found = paging.collect(
        lambda cursor, most: client.orders(after=cursor, limit=most, status=status, account=account),
        after=after,
        limit=limit,
    )
    if not found.items and not as_json:
        output.note(_nothing(status, account))
        return
    output.orders(found.items, found.next, as_json=as_json)


@app.command("show", epilog=options.examples("order show 17", "order show 17 --json"))
@options.connecting
def show(
    service: Service,
    *,
    number: Number,
    as_json: options.AsJson = False,
) -> None:
    """One order, with its delivery code and history."""
    output.order(service.customer().order(number), as_json=as_json)


@app.command(
    "update",
    epilog=options.examples(
        'order update 17 --address "2 Side Street, Springfield"',
        "order update 17 GPU-NV-5070:1 CPU-AMD-9800X3D:2",
        "order update 17 GPU-NV-5070:1 --version 3",
    ),
)
@options.connecting
def update(
    service: Service,
    *,
    number: Number,
    lines: Annotated[
        list[str] | None,
        typer.Argument(help="All that it shall be, and how many.", metavar="SKU[:QUANTITY]", show_default=False),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Where to.", metavar="TEXT")] = None,
    version: Annotated[
        int | None,
        typer.Option(help="Only if it is still this one, of order show --json.", min=1, metavar="NUMBER"),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Change an order that is not confirmed yet.

    The products named replace those of the order, at the prices of today.
    """
    wanted = [_line(text) for text in lines or ()]
    if not wanted and address is None:
        raise ConfigurationError("order update", "nothing to change was given", "securedelivery order update --help")
    client = service.customer()
    if version is None:
        version = client.order(number).version
    with advising({Reason.VERSION_CONFLICT: f"see what it is now, then repeat: securedelivery order show {number}"}):
        updated = client.update_order(number, version, lines=wanted or None, address=address)
    output.order(updated, as_json=as_json)


@app.command("cancel", epilog=options.examples("order cancel 17", 'order cancel 17 --reason "ordered twice"'))
@options.connecting
def cancel(
    service: Service,
    *,
    number: Number,
    reason: Annotated[str | None, typer.Option(help="Why, for the shop.", metavar="TEXT")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Cancel an order that is not packed yet. Points that it earned go, points that paid for it come back."""
    output.order(service.customer().cancel_order(number, reason), as_json=as_json)


@app.command(
    "advance",
    epilog=options.examples(
        "order advance 17 confirmed",
        "order advance 17 packed --courier kim",
        'order advance 17 returned --note "the box was damaged"',
    ),
)
@options.connecting
def advance(
    service: Service,
    *,
    number: Number,
    status: Annotated[OrderStatus, typer.Argument(help="What it is to be.", metavar="STATUS")],
    courier: Annotated[str | None, typer.Option(help="Who delivers it.", metavar="NAME")] = None,
    note: Annotated[str | None, typer.Option(help="For the history, which the customer sees.", metavar="TEXT")] = None,
    as_json: options.AsJson = False,
) -> None:
    """For agents: move an order on. Couriers have commands of their own: securedelivery deliveries"""
    client = service.customer()
    try:
        advanced = client.advance_order(number, status, courier=courier, note=note)
    except Refusal as refusal:
        if refusal.data.get("path") == "/courier":
            raise Advised(refusal, refusal.message, "--courier takes the name of a courier's account") from refusal
        raise
    output.order(advanced, as_json=as_json)


def _nothing(status: OrderStatus | None, account: str | None) -> str:
    if status is not None:
        return f"No orders that are {status.value.replace('_', ' ')}."
    if account is not None:
        return f"No orders of {account}."
    return "No orders yet. Order something: securedelivery order place SKU"


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
