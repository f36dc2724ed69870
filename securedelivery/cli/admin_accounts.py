"""`securedelivery admin account`. What changes an account reaches its open connections within seconds."""

from pathlib import Path
from typing import Annotated

import typer

from securedelivery.api.messages import Page
from securedelivery.cli import admin_output, options, output, paging
from securedelivery.cli.admin_shop import Certs, Config, DatabaseUrl, first_line, opened
from securedelivery.cli.service import NEW_PASSWORD, advising, password
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Account, Role

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The account's name.", metavar="NAME")]

_HINTS = {
    Reason.NOT_FOUND: "see which there are: securedelivery admin account list",
    Reason.INVALID_PARAMS: "take a longer or a rarer one",
}


@app.command(
    "create",
    epilog=options.examples(
        "admin account create sam --role agent", "admin account create kim --role courier --password-file kim.txt"
    ),
)
def create(
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
    """Open an account for whoever has the certificate NAME."""
    word = None if password_file is None else first_line("--password-file", password_file)
    with opened(config, database, certs, create=True) as shop:
        identity = f"spiffe://{shop.settings.trust_domain}/account/{name}"
        try:
            session = shop.accounts.create_by_operator(name, role, identity=identity, password=word)
        except Refusal as refusal:
            if not (if_missing and refusal.reason is Reason.USERNAME_TAKEN):
                raise
            output.note(f"{name} has an account already")
        else:
            output.account(shop.accounts.get(session), as_json=as_json)


@app.command(
    "list",
    epilog=options.examples("admin account list", "admin account list sam", "admin account list --limit 1000 --json"),
)
def show_all(
    *,
    query: Annotated[
        str | None, typer.Argument(help="A part of the name.", metavar="QUERY", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at the most.", min=1, metavar="NUMBER")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """The accounts by name, without the deleted ones.

    Looking is written down in the audit.
    """
    with opened(config, database) as shop:
        found = paging.collect(
            lambda cursor, most: Page(*shop.accounts.list(None, query=query, after=cursor, limit=most)),
            after=after,
            limit=limit,
        )
        locks = shop.accounts.locks([one.username for one in found.items])
    if not found.items and not as_json:
        output.note("No accounts yet." if query is None else f'No account whose name has "{query}" in it.')
        return
    admin_output.accounts(found.items, found.next, locks, as_json=as_json)


@app.command("show", epilog=options.examples("admin account show alice", "admin account show alice --json"))
def show(*, name: Name, config: Config = None, database: DatabaseUrl = None, as_json: options.AsJson = False) -> None:
    """One account with all that is known of it.

    Looking is written down in the audit.
    """
    with opened(config, database) as shop, advising(_HINTS):
        found = shop.accounts.named(name)
        lock = shop.accounts.locks([name]).get(name)
    output.account(found, as_json=as_json)
    if lock is not None and lock.disabled:
        output.note(f"{name} is disabled: securedelivery admin account disable {name} --enable")
    elif lock is not None:
        output.note(f"{name} can log in by certificate alone")


@app.command(
    "set-role", epilog=options.examples("admin account set-role sam agent", "admin account set-role sam customer")
)
def set_role(
    *,
    name: Name,
    role: Annotated[Role, typer.Argument(help="What the account may do from now on.", metavar="ROLE")],
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Change what an account may do.

    Its open connections go on in the new role: customer, agent (support), courier or admin.
    """
    with opened(config, database) as shop, advising(_HINTS):
        changed = shop.accounts.set_role(None, name, role)
    _done(changed, f"{name} is {'an' if role in (Role.AGENT, Role.ADMIN) else 'a'} {role} now", as_json=as_json)


@app.command("disable", epilog=options.examples("admin account disable mallory", "admin account disable bob --enable"))
def disable(
    *,
    name: Name,
    enable: Annotated[bool, typer.Option("--enable", help="Let it in again.")] = False,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Lock an account out, or let it in again.

    Its open connections end, and it cannot log in. Nothing of it is lost.
    """
    with opened(config, database) as shop, advising(_HINTS):
        changed = shop.accounts.disable(None, name, not enable)
    _done(changed, f"{name} can log in again" if enable else f"{name} is locked out", as_json=as_json)


@app.command(
    "require-certificate",
    epilog=options.examples("admin account require-certificate sam", "admin account require-certificate sam --off"),
)
def require_certificate(
    *,
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Let it log in by password again.")] = False,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Let an account log in by its certificate alone.

    Its open connections without a certificate end.
    """
    with opened(config, database) as shop, advising(_HINTS):
        changed = shop.accounts.require_certificate(name, not off)
    _done(changed, f"{name} can log in {'by password too' if off else 'by certificate alone'}", as_json=as_json)
    if not off and changed.certificate is None:
        output.note(f"{name} is bound to no certificate, and so cannot log in at all: see that it gets one")


@app.command(
    "reset-password",
    epilog=options.examples(
        "admin account reset-password bob", "admin account reset-password bob --password-file bob.txt"
    ),
)
def reset_password(
    *,
    name: Name,
    password_file: Annotated[
        Path | None, typer.Option(help="The first line of this file; else it is asked for.", metavar="FILE")
    ] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Give an account another password.

    Its open connections end. The password is asked for on the terminal, or is SECUREDELIVERY_NEW_PASSWORD.
    """
    with opened(config, database) as shop, advising(_HINTS):
        if password_file is None:
            word = password(f"A new password for {name}, 8 characters or more: ", twice=True, variable=NEW_PASSWORD)
        else:
            word = first_line("--password-file", password_file)
        changed = shop.accounts.reset_password(name, word)
    _done(changed, f"{name} has another password", as_json=as_json)


@app.command(
    "mail", epilog=options.examples("admin account mail alice", "admin account mail alice --no-summaries --no-receipts")
)
def mail(
    *,
    name: Name,
    receipts: Annotated[
        bool | None, typer.Option("--receipts/--no-receipts", help="Mail for each order.", show_default=False)
    ] = None,
    summaries: Annotated[
        bool | None, typer.Option("--summaries/--no-summaries", help="Mail for each month.", show_default=False)
    ] = None,
    missed_chat: Annotated[
        bool | None,
        typer.Option("--missed-chat/--no-missed-chat", help="Mail for what it missed in the chat.", show_default=False),
    ] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """See or change which mail an account gets. What waits to be sent and is not wanted any more does not leave."""
    given = {"receipts": receipts, "summaries": summaries, "missed_chat": missed_chat}
    with opened(config, database) as shop, advising(_HINTS):
        changed = shop.accounts.set_mail(name, {key: value for key, value in given.items() if value is not None})
    wanted = [key.replace("_", " ") for key in given if getattr(changed.mail, key)]
    _done(changed, f"{name} gets mail: {', '.join(wanted) or 'none'}", as_json=as_json)
    if wanted and changed.email is None:
        output.note(f"{name} has given no address to write to, so nothing is sent")


def _done(changed: Account, text: str, *, as_json: bool) -> None:
    if as_json:
        output.json(changed)
    else:
        output.line(text)
