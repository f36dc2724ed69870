"""`securedelivery admin report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from securedelivery.cli import options, output
from securedelivery.cli.admin_shop import Config, DatabaseUrl, opened
from securedelivery.cli.new_file import new_file
from securedelivery.cli.service import Advised, advising
from securedelivery.cli.terminal import Column, fields, table
from securedelivery.cli.text import moment, money, quantity
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Cents, MailState, OrderStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securedelivery.application import Shop
    from securedelivery.service import summaries as service

app = typer.Typer(no_args_is_help=True)

BAR_COLUMNS = 24


@app.command(
    "monthly",
    epilog=options.examples(
        "admin report monthly",
        "admin report monthly --month 2026-10 --account alice",
        "admin report monthly --account alice --preview alice.html",
        "admin report monthly --month 2026-10 --send",
    ),
)
def monthly(
    *,
    month: Annotated[
        str | None, typer.Option(help="Like 2026-10; by default the last whole one.", metavar="MONTH")
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="This customer's; by default the shop's, for the operator.", metavar="NAME")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(help="Write the mail into this new file, to look at in a browser.", metavar="FILE")
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Have the server mail it, if it has not yet.")] = False,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Sum up a month, for the operator or for a customer.

    It is shown here, or written to a file or mailed as the server would. Looking is written down in the audit.
    """
    with opened(config, database) as shop, advising(_NO_ACCOUNT):
        try:
            wanted = month or shop.summaries.last_whole()
            if not send and preview is None:
                summary = shop.summaries.view(wanted, account)
                _show(shop, summary, as_json=as_json)
                return
            if preview is not None:
                page = shop.composer().page(shop.summaries.view(wanted, account))
                with new_file(preview, "--preview") as file:
                    file.write(page.encode())
            queued = shop.summaries.queue(wanted, account) if send else None
        except Refusal as refusal:
            raise _advised(refusal, shop, account) from refusal
    if as_json:
        output.json({"file": None if preview is None else str(preview), "mail": queued})
        return
    if preview is not None:
        output.line(f"{preview} is the mail")
    if queued is not None:
        output.line(_told(queued))


def _advised(refusal: Refusal, shop: "Shop", account: str | None) -> Refusal:
    match refusal.data.get("path"):
        case "/month":
            hint = f"--month takes a month like {shop.summaries.last_whole()}, which is the last whole one"
        case "/account":
            hint = _ACCOUNT[str(refusal.data["field"])].format(account=account)
        case _:
            return refusal
    return Advised(refusal, refusal.message, hint)


_NO_ACCOUNT = {Reason.NOT_FOUND: "see which there are: securedelivery admin account list"}
_ACCOUNT = {
    "disabled": "let it in again: securedelivery admin account disable {account} --enable",
    "email": "its customer can give one: securedelivery account update --email ADDRESS",
    "mail": "its customer can want them, or you: securedelivery admin account mail {account} --summaries",
}


def _told(queued: "service.Queued") -> str:
    at = moment(queued.at)
    retry = f"securedelivery admin mail retry {queued.number}"
    tries = f"after {quantity(queued.attempts, 'try', 'tries')}"
    match queued.state:
        case MailState.WAITING if queued.new:
            return f"queued as mail {queued.number}: the server sends it as soon as it runs"
        case MailState.WAITING if not queued.attempts:
            return f"mail {queued.number} waits already since {at}: the server sends it as soon as it runs"
        case MailState.WAITING:
            return f"mail {queued.number} waits {tries} for the next, at {at}; at once: {retry}"
        case MailState.SENDING:
            return f"mail {queued.number} is being sent just now"
        case MailState.SENT:
            return f"mail {queued.number} was sent already, at {at}"
        case _:
            return f"mail {queued.number} was given up at {at}, {tries}; once more: {retry}"


def _show(shop: "Shop", summary: "service.CustomerSummary | service.OperatorSummary", *, as_json: bool) -> None:
    from securedelivery.service.summaries import CustomerSummary

    if as_json:
        output.json(summary)
        return
    currency = shop.settings.shop.currency
    if isinstance(summary, CustomerSummary):
        _customer(summary, currency)
    else:
        _operator(summary, currency)
    if not shop.summaries.is_over(summary.month):
        output.note(f"{summary.month} is not over: this is how it stands now.")


def _customer(shown: "service.CustomerSummary", currency: str) -> None:
    fields(
        [
            ("Month", _month(shown)),
            ("Customer", shown.account),
            ("Orders", _counted(shown.orders, shown.spend, currency)),
            ("Refunds", _counted(shown.refunds, shown.refunded, currency)),
            *_points(shown.points),
            ("Tier", shown.tier),
        ]
    )
    _orders("Placed", shown.placed, shown.orders, currency)
    _orders("Undone", shown.undone, shown.refunds, currency)
    _bars("Spent", shown.bars, currency)


def _operator(shown: "service.OperatorSummary", currency: str) -> None:
    statuses = [f"{count:,} {_status(status)}" for status, count in shown.by_status.items() if count]
    refunds = _counted(shown.refunds, shown.refunded, currency)
    if shown.earlier_refunds:
        earlier = _counted(shown.earlier_refunds, shown.earlier_refunded, currency)
        refunds += f" (of earlier months: {earlier})"
    fields(
        [
            ("Month", _month(shown)),
            ("Sold", _counted(shown.orders, shown.turnover, currency)),
            ("Orders", ", ".join(statuses) or output.NONE),
            ("Refunds", refunds),
        ]
    )
    if shown.best_sellers:
        output.line()
        table(
            [Column("SKU"), Column("Sold best", wide=True), Column("Quantity", right=True), Column("Sum", right=True)],
            [[one.sku, one.name, f"{one.quantity:,}", money(one.turnover, currency)] for one in shown.best_sellers],
        )
    if shown.low_stock:
        output.line()
        table(
            [Column("SKU"), Column("Runs out", wide=True), Column("Left now", right=True)],
            [[one.sku, one.name, f"{one.stock:,}"] for one in shown.low_stock],
        )
    _bars("Turnover", shown.bars, currency)


def _month(shown: "service.CustomerSummary | service.OperatorSummary") -> str:
    return f"{shown.month} ({shown.time_zone})"


def _counted(orders: int, amount: Cents, currency: str) -> str:
    return f"{orders:,}, {money(amount, currency)}" if orders else "0"


def _points(shown: "service.PointsOfMonth") -> list[tuple[str, str]]:
    moved = [
        (shown.earned, "earned"),
        (-shown.spent, "spent"),
        (-shown.taken_back, "taken back"),
        (shown.given_back, "given back"),
        (-shown.expired, "expired"),
    ]
    told = [f"{points:+,} {word}" for points, word in moved if points]
    return [("Points", ", ".join(told) or "0"), ("Balance", f"{shown.balance:,} at the end of the month")]


def _orders(title: str, shown: "Sequence[service.Order]", count: int, currency: str) -> None:
    if not shown:
        return
    output.line()
    table(
        [Column("Order", right=True), Column(title), Column("Status", wide=True), Column("Total", right=True)],
        [[str(one.order), moment(one.at), _status(one.status), money(one.total, currency)] for one in shown],
    )
    if count > len(shown):
        output.note(f"The newest {len(shown)} of {count:,}.")


def _status(status: OrderStatus) -> str:
    return status.value.replace("_", " ")


def _bars(title: str, shown: "Sequence[service.Bar]", currency: str) -> None:
    most = max(one.amount for one in shown)
    output.line()
    table(
        [Column("Month"), Column("Orders", right=True), Column(title, right=True), Column("", wide=True)],
        [
            [one.month, f"{one.orders:,}", money(one.amount, currency), "#" * _columns(one.amount, most)]
            for one in shown
        ],
    )


def _columns(amount: Cents, most: Cents) -> int:
    """At least one for what is not nothing."""
    return max(1, amount * BAR_COLUMNS // most) if amount > 0 else 0
