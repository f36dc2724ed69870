"""What the operator's commands have in common: their options, and the shop's database, opened."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from securedelivery.cli import output
from securedelivery.errors import ConfigurationError

if TYPE_CHECKING:
    from securedelivery.application import Shop
    from securedelivery.config import Settings

__all__ = ["Certs", "Config", "DatabaseUrl", "first_line", "opened", "settings_of"]

Config = Annotated[Path | None, typer.Option(help="Settings, a TOML file.", metavar="FILE")]
DatabaseUrl = Annotated[str | None, typer.Option(help="For example sqlite:///shop.db.", metavar="URL")]
Certs = Annotated[str | None, typer.Option(help="The folder of gen_certs.sh.", metavar="DIR")]


def settings_of(config: Path | None, **flags: str | None) -> "Settings":
    """flags: by key, with __ for the dot. Raises ConfigurationError."""
    from securedelivery.config import load

    return load(config, os.environ, {key.replace("__", "."): value for key, value in flags.items()})


@contextmanager
def opened(
    config: Path | None, database: str | None, certs: str | None = None, *, create: bool = False
) -> Iterator["Shop"]:
    """create: whether a database that is not there is made."""
    from securedelivery.application import KEY_ADVICE, Shop
    from securedelivery.telemetry import configure_logging

    settings = settings_of(config, database__url=database, server__certs=certs)
    configure_logging(settings.log)
    with Shop(settings, create=create) as shop:
        yield shop
        if shop.database.created:  # a mistyped --database would otherwise go unnoticed
            output.note(f"made the database {shop.database.path}")
        if shop.database.new_key is not None:
            output.note(f"made its key {shop.database.new_key}: {KEY_ADVICE}")


def first_line(option: str, path: Path) -> str:
    """Of the file that the option names. Raises ConfigurationError."""
    try:
        return path.read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(option, f"{path}: {error}", "name a text file that can be read") from error
