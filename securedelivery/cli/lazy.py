"""Groups of commands that are imported when they are used, or their help: a list of them costs nothing but Typer."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup

from securedelivery.errors import ConfigurationError

__all__ = ["Entry", "group"]


class Entry(msgspec.Struct, frozen=True):
    """target: `module:name` of a Typer app in securedelivery.cli.

    group: whether the app is a group of the entry's name, else it has a command of that name. server: needs the server
    extra.
    """

    target: str
    summary: str
    group: bool = True
    server: bool = False


def group(entries: Mapping[str, Entry]) -> type[TyperGroup]:
    """For typer.Typer(cls=...): the app's own commands, and behind them stubs of these, until one is wanted."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for name, entry in entries.items():
                self.commands[name] = TyperCommand(name, help=entry.summary)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            entry = entries.get(cmd_name)
            return super().get_command(ctx, cmd_name) if entry is None else _load(cmd_name, entry)

        def format_commands(self, _ctx: Any, formatter: Any) -> None:
            width = formatter.width - max(map(len, self.commands)) - 6  # the margin, and what stands between
            with formatter.section("Commands"):
                formatter.write_dl(
                    [(name, command.get_short_help_str(width)) for name, command in self.commands.items()]
                )

    return LazyGroup


def _load(name: str, entry: Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    try:
        target = getattr(import_module(f"securedelivery.cli.{module}"), attribute)
    except ModuleNotFoundError as error:
        if not entry.server or (error.name or "").startswith("securedelivery"):
            raise
        raise ConfigurationError(
            name,
            f"the server's part is not installed here ({error.name} is missing)",
            "pip install 'securedelivery[server]'",
        ) from error
    parent = typer.Typer(add_completion=False, rich_markup_mode=None)
    if entry.group:
        parent.add_typer(target, name=name, help=entry.summary)
    else:
        parent.add_typer(target)
    loaded = typer.main.get_command(parent)
    assert isinstance(loaded, TyperGroup)
    return loaded.commands[name]
