"""The operator's commands: `serve`, and `admin ...`, which work on the database beside a running server."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import argon2  # noqa: F401 -- of the server's part, which whoever gets here needs, the quickest to import
import typer

from securedelivery.cli import lazy, options, output
from securedelivery.cli.admin_shop import Certs, Config, DatabaseUrl, settings_of
from securedelivery.cli.lazy import Entry
from securedelivery.errors import ConfigurationError

if TYPE_CHECKING:
    from securedelivery.application import Running

server = typer.Typer()
admin = typer.Typer(
    cls=lazy.group(
        {
            "account": Entry("admin_accounts:app", "Accounts."),
            "order": Entry("admin_orders:app", "Orders."),
            "catalog": Entry("admin_catalog:app", "The catalog."),
            "mail": Entry("admin_mail:app", "Mail: try it, see what waits, try again."),
            "report": Entry("admin_report:app", "What a month was, shown or mailed."),
            "audit": Entry("admin_audit:app", "Who did what."),
            "backup": Entry("admin_data:app", "Copy the database to a file.", group=False),
            "restore": Entry("admin_data:app", "Put a backup in the place of the database.", group=False),
        }
    ),
    help="Work on the shop's database, also beside a running server.",
    no_args_is_help=True,
)


@server.command(
    "serve",
    epilog=options.examples(
        "serve --catalog catalog.csv", "serve --config shop.toml --listen 127.0.0.1:0", "serve --web 127.0.0.1:8443"
    ),
)
def serve(
    context: typer.Context,
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
    web: Annotated[str | None, typer.Option(help="The web page and its API, over HTTPS.", metavar="HOST:PORT")] = None,
    web_cert: Annotated[
        str | None, typer.Option(help="What browsers see; by default the server's.", metavar="FILE")
    ] = None,
    web_key: Annotated[str | None, typer.Option(help="The key of --web-cert.", metavar="FILE")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Where customers find the page, for links in mails.", metavar="URL")
    ] = None,
    key_log: options.KeyLog = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C; SIGHUP reloads certificates and the revocation list."""
    import structlog

    from securedelivery.application import serve as run_server
    from securedelivery.telemetry import configure_logging
    from securedelivery.transport.keylog import FRAME_VARIABLE, KeyLogs

    settings = settings_of(
        config,
        server__listen=listen,
        server__certs=certs,
        database__url=database,
        server__client_certificates=client_certificates,
        web__listen=web,
        web__certificate=web_cert,
        web__key=web_key,
        web__public_url=public_url,
    )
    if key_log is None and isinstance(context.obj, options.Given):
        key_log = context.obj.key_log  # it stood in front of the command
    if key_log and settings.log.level == "error":
        raise ConfigurationError(
            "log.level", "error would hide the warnings that go with --key-log", "set it to warning, info or debug"
        )
    key_logs = KeyLogs.from_environment(os.environ) if key_log else None
    configure_logging(settings.log)
    if key_logs is None and os.environ.get(FRAME_VARIABLE):
        structlog.get_logger("securedelivery").info(
            f"= {FRAME_VARIABLE} is set, but without --key-log no key is written to it"
        )
    run_server(settings, catalog_path, _announce, key_logs)


def _announce(running: "Running") -> None:
    output.line(f"listening on {_written(*running.address)}")
    if running.web_address is not None:
        output.line(f"web on https://{_written(*running.web_address)}")


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
