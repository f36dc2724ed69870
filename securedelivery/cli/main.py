"""The commands, and run(), which turns everything that can happen into an exit code.

A command's module is imported when the command is used, or its help: `securedelivery --help` costs Typer and this file.
"""

from importlib import import_module
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup

from securedelivery import __version__
from securedelivery.cli import failures, options, terminal
from securedelivery.errors import ConfigurationError

__all__ = ["run"]


class _Entry(msgspec.Struct, frozen=True):
    """target: `module:name` of a function or a Typer app in securedelivery.cli.

    group: whether the app is a group of that name, else it has the command itself. server: needs the server extra.
    """

    target: str
    summary: str
    group: bool = True
    server: bool = False


_COMMANDS = {
    "profile": _Entry("profile:app", "Where the service is, and as whom you come."),
    "account": _Entry("account:app", "Your account."),
    "catalog": _Entry("catalog:app", "What there is to order.", group=False),
    "order": _Entry("order:app", "Place orders and see them."),
    "info": _Entry("shop:app", "The service and its limits.", group=False),
    "ping": _Entry("shop:app", "Try the connection.", group=False),
    "serve": _Entry("operators:server", "For operators: run the server.", group=False, server=True),
    "admin": _Entry("operators:admin", "For operators: accounts and catalog.", server=True),
}


class _LazyGroup(TyperGroup):
    """Its commands are stubs with a summary, until one is wanted."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in _COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=entry.summary)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        try:
            return _load(cmd_name, entry)
        except ModuleNotFoundError as error:
            if not entry.server or (error.name or "").startswith("securedelivery"):
                raise
            raise ConfigurationError(
                cmd_name,
                f"the server's part is not installed here ({error.name} is missing)",
                "pip install 'securedelivery[server]'",
            ) from error

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])


def _load(name: str, entry: _Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    target = getattr(import_module(f"securedelivery.cli.{module}"), attribute)
    parent = typer.Typer(add_completion=False, rich_markup_mode=None)
    if not isinstance(target, typer.Typer):
        parent.command(name)(target)
        return typer.main.get_command(parent)
    if entry.group:
        parent.add_typer(target, name=name, help=entry.summary)
    else:
        parent.add_typer(target)
    group = typer.main.get_command(parent)
    assert isinstance(group, TyperGroup)
    return group.commands[name]


_app = typer.Typer(
    cls=_LazyGroup,
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
    user: options.User = None,
    timeout: options.Timeout = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Order from a securedelivery service, over a connection that is encrypted twice.

    The connection's options can stand before or behind the command. `securedelivery profile set` remembers them.
    """
    context.obj = options.Given(server, ca, certificate, key, crl, user, timeout)


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
