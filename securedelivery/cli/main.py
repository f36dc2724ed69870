"""The commands, and run(), which turns everything that can happen into an exit code.

A command's module is imported when the command is used, or its help: `securedelivery --help` costs Typer and this file.
"""

from typing import Annotated

import typer

from securedelivery import __version__
from securedelivery.cli import failures, lazy, options, terminal
from securedelivery.cli.lazy import Entry

__all__ = ["run"]


_COMMANDS = {
    "profile": Entry("profile:app", "Where the service is, and as whom you come."),
    "account": Entry("account:app", "Your account."),
    "catalog": Entry("catalog:app", "What there is to order.", group=False),
    "order": Entry("order:app", "Place orders, see and change them."),
    "rewards": Entry("rewards:app", "Your points and your tier.", group=False),
    "chat": Entry("chat:app", "Ask the shop, and read its answers.", group=False),
    "shop": Entry("menu:app", "All of that in a menu, for a start.", group=False),
    "deliveries": Entry("deliveries:app", "For couriers: the orders to deliver."),
    "support": Entry("support:app", "For agents: the customers' questions."),
    "info": Entry("shop:app", "The service and its limits.", group=False),
    "ping": Entry("shop:app", "Try the connection.", group=False),
    "demo": Entry("demo:app", "For teachers: what encryption does, in eight acts.", group=False, server=True),
    "relay": Entry("relay:app", "For teachers: record traffic for Wireshark.", group=False),
    "serve": Entry("operators:server", "For operators: run the server.", group=False, server=True),
    "admin": Entry("operators:admin", "For operators: the shop's database.", server=True),
    "doctor": Entry("doctor:app", "For operators: find out what is wrong.", group=False, server=True),
}

_app = typer.Typer(
    cls=lazy.group(_COMMANDS),
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=options.examples(
        "profile set --server shop.example.org:5555 --ca ca.crt --cert alice.crt",
        'account create --address "1 Main Street, Springfield"',
        "catalog graphics",
        "order place GPU-NV-5070:2",
        "order list",
    )
    + "\n\nExit codes: 0 done, 1 refused by the service, 2 wrong usage, 3 no connection or certificate not accepted.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.line(f"securedelivery {__version__}")
        raise typer.Exit


@_app.callback()
def _root(
    context: typer.Context,
    *,
    server: options.Server = None,
    ca: options.Ca = None,
    certificate: options.Certificate = None,
    key: options.Key = None,
    crl: options.Crl = None,
    tls_ca: options.TlsCa = None,
    user: options.User = None,
    timeout: options.Timeout = None,
    key_log: options.KeyLog = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Order from a securedelivery service, over a connection that is encrypted twice.

    The connection's options can stand before or behind the command. `securedelivery profile set` remembers them.
    """
    context.obj = options.Given(server, ca, certificate, key, crl, user, timeout, key_log, tls_ca)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code. arguments: those of the process by default."""
    if not terminal.prepare():
        terminal.error("standard output is closed: open it, or send it to /dev/null")
        return failures.FAILED
    try:
        command = typer.main.get_command(_app)
        code = command.main(args=arguments, prog_name="securedelivery", standalone_mode=False)
        terminal.flush()
    except typer.Exit as end:  # from flush(): a closed pipe
        code = end.exit_code
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001 -- whatever it is, it is told as an error, not as a traceback
        code = failures.report(error)
    return code if isinstance(code, int) else failures.DONE
