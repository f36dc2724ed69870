"""`securedelivery admin backup` and `admin restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from securedelivery.cli import failures, options, output
from securedelivery.cli.admin_shop import Config, DatabaseUrl, settings_of
from securedelivery.cli.text import quantity

if TYPE_CHECKING:
    from securedelivery.config import Settings
    from securedelivery.store.backup import Backup

app = typer.Typer()


@app.command(
    "backup",
    epilog=options.examples(
        "admin backup /backups/monday.db", "admin backup monday.db --database sqlite:////srv/shop/shop.db"
    ),
)
def backup(
    *,
    path: Annotated[Path, typer.Argument(help="A new file.", metavar="FILE")],
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Copy the database to a file, checked, also beside a running server.

    The key to what is encrypted in it is not part of it: keep a copy of that apart, once.
    """
    from securedelivery.store import backup as backups
    from securedelivery.store.backup import OpensWith

    settings = settings_of(config, database__url=database)
    file, key = _places(settings)
    made = backups.backup(file, path)
    if as_json:
        key_file = str(key) if made.opens_with is OpensWith.KEY_FILE else None
        output.json(
            {
                "file": str(path),
                "bytes": made.bytes,
                "opens_with": made.opens_with,
                "key_file": key_file,
                "tampering": made.tampering,
            }
        )
    else:
        _tell(path, made, key)
    if made.tampering is not None:
        output.error(
            f"the backup was made, but the audit of this database was tampered with: {made.tampering}",
            "find out who did that: securedelivery admin audit list",
        )
        raise typer.Exit(failures.FAILED)


def _tell(path: Path, made: "Backup", key: Path) -> None:
    from securedelivery.store.backup import OpensWith

    output.line(f"{path}: {made.bytes:,} bytes, checked")
    if made.opens_with is OpensWith.KEY_FILE:
        output.note(f"Its key is not in it: {key}")
        output.note("Keep a copy of that too, apart from the backups: without it nobody can ever read them again.")
    elif made.opens_with is OpensWith.PASSPHRASE:
        output.note("It opens with the passphrase of this database alone: see that you will still have that.")
    else:
        output.note("Nothing in it is encrypted yet: keep it where nobody else can read it.")


@app.command(
    "restore",
    epilog=options.examples(
        "admin restore /backups/monday.db --force", "admin restore monday.db --database sqlite:////srv/shop/shop.db"
    ),
)
def restore(
    *,
    path: Annotated[Path, typer.Argument(help="What `admin backup` made.", metavar="FILE")],
    force: Annotated[bool, typer.Option("--force", help="Replace the database that is there, which is kept.")] = False,
    despite_audit: Annotated[
        bool, typer.Option("--despite-audit", help="Although its audit was tampered with: there is no better one.")
    ] = False,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Put a backup in the place of the database, while the server does not run.

    The backup is checked first, its key and its audit too. What was there stays beside it, under another name.
    """
    from securedelivery.application import key_source
    from securedelivery.store import backup as backups

    settings = settings_of(config, database__url=database)
    file, _ = _places(settings)
    restored = backups.restore(path, file, key_source(settings), replace=force, despite_audit=despite_audit)
    if as_json:
        kept = None if restored.kept is None else str(restored.kept)
        output.json({"database": str(file), "kept": kept, "outdated": restored.outdated, "mail": restored.mail})
        return
    output.line(f"{path} is the database {file} now")
    if restored.kept is not None:
        output.line(f"what was there is kept: {restored.kept}")
    if restored.mail:
        output.note(
            f"{quantity(restored.mail, 'mail')} that waited in it may have left since, and will not leave by"
            f" {'itself' if restored.mail == 1 else 'themselves'}:"
            " securedelivery admin mail queue shows, securedelivery admin mail retry sends what is held"
        )
    if restored.outdated:
        output.note("It was made by an earlier version of this program: the next start brings it up to date.")


def _places(settings: "Settings") -> tuple[Path, Path]:
    """Of the database, and of its key file."""
    from securedelivery.store.engine import key_file, path_of

    file = path_of(settings.database.url)
    named = settings.database.key_file
    return file, key_file(file) if named is None else Path(named)
