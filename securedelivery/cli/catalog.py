"""`securedelivery catalog`."""

from typing import Annotated

import typer

from securedelivery.cli import options, output, paging
from securedelivery.cli.service import Service

app = typer.Typer()


@app.command("catalog", epilog=options.examples("catalog", "catalog graphics card", "catalog --limit 10 --json"))
@options.connecting
def catalog(
    service: Service,
    *,
    query: Annotated[
        list[str] | None, typer.Argument(help="Words to look for.", metavar="QUERY", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="How many at the most.", min=1, metavar="NUMBER", show_default="all")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    as_json: options.AsJson = False,
) -> None:
    """What there is to order, with prices and stock. Needs no login."""
    client = service.client()
    words = " ".join(query or ()) or None
    found = paging.collect(
        lambda cursor, most: client.catalog(words, after=cursor, limit=most), after=after, limit=limit
    )
    if not found.items and not as_json:
        output.note(f'Nothing found for "{words}". See everything: securedelivery catalog' if words else "Nothing yet.")
        return
    output.products(found.items, found.next, as_json=as_json)
