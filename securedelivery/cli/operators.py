"""The operator's commands: `serve`, and `admin ...`, which work on the database beside a running server."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from securedelivery.application import Shop
from securedelivery.application import serve as run_server
from securedelivery.cli import options, output
from securedelivery.config import Settings, load
from securedelivery.errors import ConfigurationError, Reason, Refusal
from securedelivery.model import Product, Role
from securedelivery.service import catalog_file
from securedelivery.telemetry import configure_logging

Config = Annotated[Path | None, typer.Option(help="Settings, a TOML file.", metavar="FILE")]
DatabaseUrl = Annotated[str | None, typer.Option(help="For example sqlite:///shop.db.", metavar="URL")]
Certs = Annotated[str | None, typer.Option(help="The folder of gen_certs.sh.", metavar="DIR")]

server = typer.Typer()
admin = typer.Typer(help="Work on the shop's database, also beside a running server.", no_args_is_help=True)
account = typer.Typer(help="Accounts.", no_args_is_help=True)
catalog = typer.Typer(help="The catalog.", no_args_is_help=True)
admin.add_typer(account, name="account")
admin.add_typer(catalog, name="catalog")


@server.command(
    "serve",
    epilog=options.examples("serve --catalog catalog.csv", "serve --config shop.toml --listen 127.0.0.1:0"),
)
def serve(
    *,
    config: Config = None,
    listen: Annotated[str | None, typer.Option(help="Where; port 0 takes a free one.", metavar="HOST:PORT")] = None,
    certs: Certs = None,
    database: DatabaseUrl = None,
    client_certificates: Annotated[
        Literal["required", "optional"] | None, typer.Option(help="Whether customers need a certificate.")
    ] = None,
    catalog_path: Annotated[
        Path | None, typer.Option("--catalog", help="Fill an empty catalog from this file.", metavar="FILE")
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C; SIGHUP reloads certificates and the revocation list."""
    settings = _settings(
        config,
        {
            "server.listen": listen,
            "server.certs": certs,
            "database.url": database,
            "server.client_certificates": client_certificates,
        },
    )
    configure_logging(settings.log)
    run_server(settings, catalog_path, _announce)


def _announce(host: str, port: int) -> None:
    output.line(f"listening on [{host}]:{port}" if ":" in host else f"listening on {host}:{port}")


@account.command(
    "create",
    epilog=options.examples(
        "admin account create sam --role agent", "admin account create kim --role courier --password-file kim.txt"
    ),
)
def create_account(
    *,
    name: Annotated[str, typer.Argument(help="The name in the certificate: gen_certs.sh client NAME.", metavar="NAME")],
    role: Annotated[Role, typer.Option(help="What the account may do.")] = Role.CUSTOMER,
    password_file: Annotated[
        Path | None, typer.Option(help="Give it a password too: the first line of this file.", metavar="FILE")
    ] = None,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="An account that exists is no error.")] = False,
    config: Config = None,
    database: DatabaseUrl = None,
    certs: Certs = None,
    as_json: options.AsJson = False,
) -> None:
    """Open an account for the holder of the certificate NAME."""
    password = None if password_file is None else _first_line(password_file)
    with _shop(config, database, certs) as shop:
        identity = f"spiffe://{shop.settings.trust_domain}/account/{name}"
        try:
            session = shop.accounts.create_by_operator(name, role, identity=identity, password=password)
        except Refusal as refusal:
            if not (if_missing and refusal.reason is Reason.USERNAME_TAKEN):
                raise
            output.note(f"{name} has an account already")
        else:
            output.account(shop.accounts.get(session), as_json=as_json)


@catalog.command(
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
    currency = _settings(config, {"database.url": database}).shop.currency
    entries = catalog_file.read(path, currency)
    with _shop(config, database) as shop, output.progress("importing", len(entries)) as advance:
        summary = shop.catalog.import_products(entries, advance)
    if as_json:
        output.json(summary)
    else:
        output.line(f"{summary.added} added, {summary.changed} changed, {summary.unchanged} as they were")


@catalog.command("export", epilog=options.examples("admin catalog export catalog.csv", "admin catalog export | head"))
def export_catalog(
    *,
    path: Annotated[Path | None, typer.Argument(help="Where to; standard output by default.", metavar="FILE")] = None,
    config: Config = None,
    database: DatabaseUrl = None,
) -> None:
    """Write every product, active or not, as `import` takes it."""
    with _shop(config, database, create=False) as shop:
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


@catalog.command("list", epilog=options.examples("admin catalog list", "admin catalog list --json"))
def list_catalog(*, config: Config = None, database: DatabaseUrl = None, as_json: options.AsJson = False) -> None:
    """Show every product, active or not."""
    with _shop(config, database, create=False) as shop:
        products: list[Product] = list(shop.catalog.export())
    output.products(products, None, as_json=as_json)


def _settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    return load(config, os.environ, flags)


@contextmanager
def _shop(
    config: Path | None, database: str | None, certs: str | None = None, *, create: bool = True
) -> Iterator[Shop]:
    settings = _settings(config, {"database.url": database, "server.certs": certs})
    configure_logging(settings.log)
    with Shop(settings, create=create) as shop:
        yield shop
        if shop.database.created:  # a mistyped --database would otherwise go unnoticed
            output.note(f"made the database {shop.database.path}")


def _first_line(path: Path) -> str:
    try:
        return path.read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("--password-file", f"{path}: {error}", "name a text file that can be read") from error
