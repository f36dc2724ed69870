"""`securedelivery admin order`."""

from typing import Annotated

import typer

from securedelivery.api.messages import Page
from securedelivery.cli import options, output, paging
from securedelivery.cli.admin_shop import Config, DatabaseUrl, opened
from securedelivery.cli.service import Advised, advising
from securedelivery.errors import Reason, Refusal
from securedelivery.model import OrderStatus

app = typer.Typer(no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="The order's number.", metavar="NUMBER", min=1)]

_NO_ORDER = {Reason.NOT_FOUND: "see which there are: securedelivery admin order list"}
_NO_ACCOUNT = {Reason.NOT_FOUND: "see which there are: securedelivery admin account list"}
_PARAMETERS = {
    "/courier": "--courier takes the name of a courier's account that is not disabled",
    "/note": "say with --note how it is known; couriers need the customer's code instead",
}


@app.command(
    "list",
    epilog=options.examples(
        "admin order list", "admin order list --status packed", "admin order list --account alice --limit 1000 --json"
    ),
)
def show_all(
    *,
    status: Annotated[OrderStatus | None, typer.Option(help="Only those.", show_default=False)] = None,
    account: Annotated[str | None, typer.Option(help="Only those of this customer.", metavar="NAME")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most, newest first.", min=1, metavar="NUMBER")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Everybody's orders, newest first. Looking is written down in the audit."""
    with opened(config, database) as shop, advising(_NO_ACCOUNT):
        found = paging.collect(
            lambda cursor, most: Page(
                *shop.orders.list(None, after=cursor, limit=most, status=status, account=account)
            ),
            after=after,
            limit=limit,
        )
    if not found.items and not as_json:
        output.note("No orders." if status is None else f"No orders that are {_words(status)}.")
        return
    output.orders(found.items, found.next, as_json=as_json)


@app.command("show", epilog=options.examples("admin order show 17", "admin order show 17 --json"))
def show(
    *, number: Number, config: Config = None, database: DatabaseUrl = None, as_json: options.AsJson = False
) -> None:
    """One order with address and history. Looking is written down in the audit."""
    with opened(config, database) as shop, advising(_NO_ORDER):
        found = shop.orders.get(None, number)
    output.order(found, as_json=as_json)


@app.command(
    "advance",
    epilog=options.examples(
        "admin order advance 17 confirmed",
        "admin order advance 17 out_for_delivery --courier kim",
        'admin order advance 17 delivered --note "signed for at the door"',
        'admin order advance 17 cancelled --note "the customer called"',
    ),
)
def advance(
    *,
    number: Number,
    status: Annotated[OrderStatus, typer.Argument(help="What it is to be.", metavar="STATUS")],
    courier: Annotated[str | None, typer.Option(help="Who delivers it.", metavar="NAME")] = None,
    note: Annotated[str | None, typer.Option(help="For the history, which the customer sees.", metavar="TEXT")] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Move an order on: confirmed, packed, out_for_delivery, delivered, returned, cancelled.

    Its customer and its courier are told at once.
    """
    from securedelivery.service.orders import AdvanceCommand

    with opened(config, database) as shop:
        command = AdvanceCommand(None, number, status, courier, note)
        try:
            changed = shop.database.writer.call(shop.orders.advance, command)
        except Refusal as refusal:
            raise _advised(refusal) from refusal
    output.order(changed, as_json=as_json)


def _advised(refusal: Refusal) -> Refusal:
    hint = _NO_ORDER.get(refusal.reason, "")
    if refusal.reason is Reason.INVALID_PARAMS:
        hint = _PARAMETERS.get(str(refusal.data.get("path")), "")
    elif refusal.reason is Reason.ILLEGAL_TRANSITION:
        allowed = ", ".join(refusal.data["allowed"])
        hint = f"what it can become now: {allowed}" if allowed else "nothing can be made of it any more"
    return Advised(refusal, refusal.message, hint) if hint else refusal


def _words(status: OrderStatus) -> str:
    return status.value.replace("_", " ")
