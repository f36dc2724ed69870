"""`securedelivery doctor`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import argon2  # noqa: F401 -- of the server's part, which whoever gets here needs, the quickest to import
import typer

from securedelivery.cli import admin_output, failures, options, output
from securedelivery.cli.admin_shop import Certs, Config, DatabaseUrl, settings_of
from securedelivery.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securedelivery.doctor import Finding

app = typer.Typer()


@app.command(
    "doctor",
    epilog=options.examples("doctor", "doctor --config shop.toml --json")
    + "\n\nok stands before what is well, -- before what is good to know, !! before what is wrong."
    " Exit codes: 0 nothing is wrong, 1 something is.",
)
def doctor(
    *,
    config: Config = None,
    certs: Certs = None,
    database: DatabaseUrl = None,
    listen: Annotated[str | None, typer.Option(help="Where the server listens.", metavar="HOST:PORT")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Look at certificates, keys, database, port and clock, and say what is wrong and what to do. Changes nothing."""
    from securedelivery.doctor import State

    found = []
    for one in _findings(config, certs, database, listen):
        found.append(one)
        if not as_json:
            admin_output.finding(one)
    bad = sum(one.state is State.WRONG for one in found)
    if as_json:
        output.json({"well": not bad, "findings": found})
    if bad:
        raise typer.Exit(failures.FAILED)


def _findings(config: Path | None, certs: str | None, database: str | None, listen: str | None) -> "Iterator[Finding]":
    from securedelivery.doctor import Finding, State, examine

    try:
        settings = settings_of(config, server__certs=certs, database__url=database, server__listen=listen)
    except ConfigurationError as error:
        yield Finding("settings", State.WRONG, f"settings: {error}", error.hint)
        return
    yield Finding("settings", State.OK, f"settings: {config or 'no file, the defaults'}")
    yield from examine(settings, datetime.now(UTC))
