"""`securedelivery admin catalog`."""

import io
from pathlib import Path
from typing import Annotated

import typer

from securedelivery.cli import options, output
from securedelivery.cli.admin_shop import Config, DatabaseUrl, opened, settings_of
from securedelivery.errors import ConfigurationError
from securedelivery.model import Product

app = typer.Typer(no_args_is_help=True)


@app.command(
    "import",
    epilog=options.examples(
        "admin catalog import catalog.csv", "admin catalog import prices.csv --database sqlite:///shop.db"
    ),
)
def import_catalog(
    *,
    path: Annotated[Path, typer.Argument(help="CSV: sku,name,description,price,stock,active", metavar="FILE")],
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Add the products of a CSV file, and change those whose SKU is there already.

    A file without the column stock leaves the stock as it is.
    """
    from securedelivery.service import catalog_file

    currency = settings_of(config, database__url=database).shop.currency
    entries = catalog_file.read(path, currency)
    with opened(config, database, create=True) as shop, output.progress("importing", len(entries)) as advance:
        summary = shop.catalog.import_products(entries, advance)
    if as_json:
        output.json(summary)
    else:
        output.line(f"{summary.added} added, {summary.changed} changed, {summary.unchanged} as they were")


@app.command("export", epilog=options.examples("admin catalog export catalog.csv", "admin catalog export | head"))
def export_catalog(
    *,
    path: Annotated[Path | None, typer.Argument(help="Where to; standard output by default.", metavar="FILE")] = None,
    config: Config = None,
    database: DatabaseUrl = None,
) -> None:
    """Write every product, active or not, as `import` takes it."""
    from securedelivery.service import catalog_file

    with opened(config, database) as shop:
        products = list(shop.catalog.export())
    if path is None:
        text = io.StringIO(newline="")
        catalog_file.write(products, text)
        output.document(text.getvalue())
        return
    beside = path.with_name(f"{path.name}.new")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            catalog_file.write(products, file)
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(str(path), error.strerror or str(error), "name a file that can be written") from error
    output.line(f"{len(products)} products in {path}")


@app.command("list", epilog=options.examples("admin catalog list", "admin catalog list --json"))
def list_catalog(*, config: Config = None, database: DatabaseUrl = None, as_json: options.AsJson = False) -> None:
    """Show every product, active or not."""
    with opened(config, database) as shop:
        products: list[Product] = list(shop.catalog.export())
    output.products(products, None, as_json=as_json)
