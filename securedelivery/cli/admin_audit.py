"""`securedelivery admin audit`."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, BinaryIO

import msgspec
import typer

from securedelivery.api.messages import Page
from securedelivery.cli import admin_output, failures, options, output, paging
from securedelivery.cli.admin_shop import Config, DatabaseUrl, opened
from securedelivery.cli.new_file import new_file
from securedelivery.cli.service import advising
from securedelivery.cli.text import quantity
from securedelivery.errors import Reason

if TYPE_CHECKING:
    from securedelivery.service.audits import ExportedRow

app = typer.Typer(no_args_is_help=True)

_HINTS = {Reason.NOT_FOUND: "see which there are: securedelivery admin account list"}


@app.command(
    "list",
    epilog=options.examples(
        "admin audit list", "admin audit list --account alice", "admin audit list --action login.failed --limit 1000"
    ),
)
def show_all(
    *,
    account: Annotated[str | None, typer.Option(help="What it did, and what was done to it.", metavar="NAME")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as login.failed.", metavar="WORD")] = None,
    limit: Annotated[int, typer.Option(help="How many at the most, newest first.", min=1, metavar="NUMBER")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Who did what, newest first."""
    with opened(config, database) as shop, advising(_HINTS):
        found = paging.collect(
            lambda cursor, most: Page(
                *shop.audits.list(None, account=account, action=action, after=cursor, limit=most)
            ),
            after=after,
            limit=limit,
        )
    if not found.items and not as_json:
        output.note("Nothing of the kind has happened.")
        return
    admin_output.audit(found.items, found.next, as_json=as_json)


@app.command("verify", epilog=options.examples("admin audit verify", "admin audit verify --json"))
def verify(*, config: Config = None, database: DatabaseUrl = None, as_json: options.AsJson = False) -> None:
    """Check that no row was altered, removed or inserted; exit code 1 if one was.

    Note down the number and the hash that it prints: they show later that nobody wrote the whole audit anew.
    """
    with opened(config, database) as shop:
        damage, newest = shop.audits.verify(), shop.audits.newest()
    entry, digest = newest if newest is not None else (None, None)
    if as_json:
        output.json({"whole": damage is None, "damage": damage and str(damage), "entry": entry, "hash": digest})
    elif damage is None:
        output.line(f"whole: {quantity(entry or 0, 'row')}, the newest has the hash {digest}")
    if damage is not None:
        output.error(
            f"the audit was tampered with: {damage}",
            "trust nothing from there on; compare it with your last export, and find out who could write the database",
        )
        raise typer.Exit(failures.FAILED)


@app.command(
    "export",
    epilog=options.examples("admin audit export audit-2026-11.jsonl", "admin audit export | grep login.failed"),
)
def export(
    *,
    path: Annotated[Path | None, typer.Argument(help="Where to; standard output by default.", metavar="FILE")] = None,
    config: Config = None,
    database: DatabaseUrl = None,
) -> None:
    """Write every row, oldest first: JSON, one object a line, with which the chain can be checked elsewhere."""
    with opened(config, database) as shop:
        if path is None:
            # Into a file first: whoever reads our output may take his time, and the database is not to wait for him.
            with TemporaryFile() as file:
                _write(shop.audits.export(), file)
                file.seek(0)
                for line in file:
                    output.document(line.decode())
            return
        with new_file(path) as file:
            count = _write(shop.audits.export(), file)
    output.line(f"{quantity(count, 'row')} in {path}")


def _write(rows: "Iterator[ExportedRow]", file: BinaryIO) -> int:
    count = 0
    for row in rows:
        file.write(msgspec.json.encode(row) + b"\n")
        count += 1
    return count
