"""`securedelivery deliveries`: the couriers' commands."""

from typing import Annotated

import typer

from securedelivery.cli import options, output, paging
from securedelivery.cli.service import Service, advising
from securedelivery.errors import Reason
from securedelivery.model import OrderStatus

app = typer.Typer(no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="The order's number.", metavar="NUMBER", min=1)]
_HINTS = {Reason.NOT_FOUND: "see which are yours: securedelivery deliveries list"}


@app.command("list", epilog=options.examples("deliveries list", "deliveries list --limit 10 --json"))
@options.connecting
def show_all(
    service: Service,
    *,
    limit: Annotated[int, typer.Option(help="How many at the most, newest first.", min=1, metavar="NUMBER")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    as_json: options.AsJson = False,
) -> None:
    """The orders that you are to deliver: packed, or on their way."""
    client = service.customer()
    found = paging.collect(lambda cursor, most: client.deliveries(after=cursor, limit=most), after=after, limit=limit)
    if not found.items and not as_json:
        output.note("Nothing to deliver.")
        return
    output.deliveries(found.items, found.next, as_json=as_json)


@app.command("out", epilog=options.examples("deliveries out 17"))
@options.connecting
def out(service: Service, *, number: Number, as_json: options.AsJson = False) -> None:
    """A packed order is on its way now."""
    client = service.customer()
    with advising(_HINTS):
        output.order(client.advance_order(number, OrderStatus.OUT_FOR_DELIVERY), as_json=as_json)


@app.command("failed", epilog=options.examples("deliveries failed 17", 'deliveries failed 17 --note "nobody at home"'))
@options.connecting
def failed(
    service: Service,
    *,
    number: Number,
    note: Annotated[str | None, typer.Option(help="Why, for the order's history.", metavar="TEXT")] = None,
    as_json: options.AsJson = False,
) -> None:
    """An order could not be delivered: it is packed again."""
    client = service.customer()
    with advising(_HINTS):
        output.order(client.advance_order(number, OrderStatus.PACKED, note=note), as_json=as_json)


@app.command("confirm", epilog=options.examples("deliveries confirm 17 048213"))
@options.connecting
def confirm(
    service: Service,
    *,
    number: Number,
    code: Annotated[str, typer.Argument(help="The 6 digits that the customer has.", metavar="CODE")],
    as_json: options.AsJson = False,
) -> None:
    """An order is delivered, as the customer's code proves."""
    client = service.customer()
    with advising(_HINTS):
        output.order(client.confirm_delivery(number, code), as_json=as_json)
