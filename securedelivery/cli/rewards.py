"""`securedelivery rewards`."""

from typing import Annotated

import typer

from securedelivery.cli import options, output, paging
from securedelivery.cli.service import Service
from securedelivery.errors import ConfigurationError

app = typer.Typer()


@app.command("rewards", epilog=options.examples("rewards", "rewards --history", "rewards --history --limit 10 --json"))
@options.connecting
def rewards(
    service: Service,
    *,
    history: Annotated[bool, typer.Option("--history", help="How the points came and went, newest first.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(help="How many at the most, 50 by default.", min=1, metavar="NUMBER", show_default=False),
    ] = None,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Your points, your tier, and what is missing to the next. Spend points with: order place --redeem POINTS"""
    if not history:
        if limit is not None or after is not None:
            raise ConfigurationError(
                "--after" if limit is None else "--limit", "that is for the history", "add --history"
            )
        output.rewards(service.customer().rewards(), as_json=as_json)
        return
    client = service.customer()
    found = paging.collect(
        lambda cursor, most: client.rewards_history(after=cursor, limit=most), after=after, limit=limit or 50
    )
    if not found.items and not as_json:
        output.note("No points yet. They come with each order.")
        return
    output.points(found.items, found.next, as_json=as_json)
