"""`securedelivery account`."""

import contextlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from securedelivery.api import messages as m
from securedelivery.cli import options, output
from securedelivery.cli.service import NEW_PASSWORD, Advised, Service, advising, ask, password
from securedelivery.cli.text import quantity
from securedelivery.client.private_file import replace_private
from securedelivery.errors import ConfigurationError, ConnectionFailure, Reason, Refusal
from securedelivery.model import Account, Message, Order, PointsEntry

if TYPE_CHECKING:
    from securedelivery.client import Client

app = typer.Typer(no_args_is_help=True)

_WRONG_PASSWORD = {Reason.BAD_CREDENTIALS: "give the password that the account has now"}


class Clearable(StrEnum):
    """What an account can be without."""

    NAME = "name"
    EMAIL = "email"
    ADDRESS = "address"


@app.command(
    "create",
    epilog=options.examples(
        'account create --name "Alice Archer" --address "1 Main Street, Springfield"',
        "account create bob --email bob@example.org",
    ),
)
@options.connecting
def create(
    service: Service,
    *,
    username: Annotated[
        str | None, typer.Argument(help="By default the certificate's.", metavar="NAME", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Your name.", metavar="TEXT")] = None,
    email: Annotated[str | None, typer.Option(help="Where receipts go.", metavar="TEXT")] = None,
    address: Annotated[str | None, typer.Option(help="Where orders go.", metavar="TEXT")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Open an account. With a certificate it gets the certificate's name and no password; else one is asked for."""
    word = None
    if service.profile().certificate is None:
        username = username or service.user
        if username is None:
            raise ConfigurationError(
                "NAME",
                "without a certificate, an account needs a name",
                "securedelivery account create NAME, or: securedelivery profile set --certificate FILE",
            )
        service.client()  # first: where the server wants a certificate, a password is of no use
        word = password(f"A password for {username}, 8 characters or more: ", twice=True)
    client = service.client()
    username = username or service.identity_name()
    if username is None:
        raise ConfigurationError("NAME", "the server sees no certificate", "securedelivery account create NAME")
    try:
        created = client.create_account(username, word, name=name, email=email, address=address)
    except Refusal as refusal:
        if word is None:
            raise _advised(refusal, client, service.identity_name()) from refusal
        raise
    output.account(created, as_json=as_json)


def _advised(refusal: Refusal, client: "Client", identity: str | None) -> Refusal:
    """identity: the name in the certificate, the only one that can be created with it."""
    if refusal.reason is Reason.FORBIDDEN:
        return Advised(refusal, refusal.message, "leave out the name: securedelivery account create")
    if refusal.reason is not Reason.USERNAME_TAKEN:
        return refusal
    try:
        client.login_certificate()
    except Refusal:
        return Advised(
            refusal,
            f"the name {identity} is taken, and this certificate does not log in there",
            "with the password of that account: securedelivery account bind. A deleted account's name stays taken",
        )
    return Advised(refusal, f"there is an account {identity} already", "see it: securedelivery account show")


@app.command("show", epilog=options.examples("account show", "account show --user bob --json"))
@options.connecting
def show(service: Service, *, as_json: options.AsJson = False) -> None:
    """Show the account."""
    output.account(service.customer().account(), as_json=as_json)


@app.command(
    "update",
    epilog=options.examples(
        'account update --address "2 Side Street, Springfield"',
        "account update --email alice@example.org --no-summaries",
        "account update --clear email --clear name",
    ),
)
@options.connecting
def update(
    service: Service,
    *,
    name: Annotated[str | None, typer.Option(help="Your name.", metavar="TEXT")] = None,
    email: Annotated[str | None, typer.Option(help="Where receipts go.", metavar="TEXT")] = None,
    address: Annotated[str | None, typer.Option(help="Where orders go.", metavar="TEXT")] = None,
    receipts: Annotated[
        bool | None, typer.Option("--receipts/--no-receipts", help="Mail for each order.", show_default=False)
    ] = None,
    summaries: Annotated[
        bool | None, typer.Option("--summaries/--no-summaries", help="Mail with summaries.", show_default=False)
    ] = None,
    missed_chat: Annotated[
        bool | None,
        typer.Option(
            "--missed-chat/--no-missed-chat", help="Mail for what you missed in the chat.", show_default=False
        ),
    ] = None,
    clear: Annotated[
        list[Clearable] | None,
        typer.Option(help="Remove it; can be given more than once.", metavar="name|email|address", show_default=False),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Change the account. What is not given stays."""
    changes: dict[str, Any] = {
        "name": name, "email": email, "address": address,
        "receipts": receipts, "summaries": summaries, "missed_chat": missed_chat,
    }  # fmt: skip
    changes = {field: value for field, value in changes.items() if value is not None}
    for one in clear or ():
        if one.value in changes:
            raise ConfigurationError(f"--clear {one.value}", f"--{one.value} was given too", "give one of the two")
    changes |= {one.value: None for one in clear or ()}
    if not changes:
        raise ConfigurationError(
            "account update", "nothing to change was given", "securedelivery account update --help"
        )
    output.account(service.customer().update_account(**changes), as_json=as_json)


@app.command("password", epilog=options.examples("account password", "account password --user bob"))
@options.connecting
def change_password(service: Service) -> None:
    """Set the account's password. Its other connections end.

    The present and the new one are asked for on the terminal, or are SECUREDELIVERY_PASSWORD and
    SECUREDELIVERY_NEW_PASSWORD.
    """
    client = service.customer()
    old = service.present_password() if client.account().has_password else None
    new = password("The new password, 8 characters or more: ", twice=True, variable=NEW_PASSWORD)
    with _unknown("the password was changed", "try the new one, then the old"), advising(_WRONG_PASSWORD):
        client.change_password(new, old)
    output.note("The password has been set. Other connections of this account have ended.")


@app.command("bind", epilog=options.examples("account bind", "account bind --cert certs/clients/bob.crt"))
@options.connecting
def bind(service: Service, *, as_json: options.AsJson = False) -> None:
    """Let your certificate log in to your account.

    For an account with the certificate's name that was opened with a password.
    """
    client = service.client()
    name = service.identity_name()
    if name is None:
        raise ConfigurationError("--certificate", "there is none to bind", "name it: --certificate FILE")
    try:
        client.login_certificate()
    except Refusal as refusal:
        if refusal.reason is not Reason.BAD_CREDENTIALS:
            raise
        client.login(name, password(f"Password for {name}: "))
    output.account(client.bind_certificate(), as_json=as_json)


@app.command("export", epilog=options.examples("account export mine.json", "account export --user bob"))
@options.connecting
def export(
    service: Service,
    *,
    path: Annotated[
        Path | None, typer.Argument(help="Where to, for you alone (mode 0600); else to stdout.", metavar="FILE")
    ] = None,
) -> None:
    """All that is stored of you, as one JSON document.

    It has the account, and lists of orders, points, messages and events.
    """
    client = service.customer()
    whole = _Export.of(client.export_account())
    if path is None:
        output.json(whole)
        return
    try:
        replace_private(path, output.json_text(whole))
    except OSError as error:
        raise ConfigurationError(str(path), error.strerror or str(error), "name a file that can be written") from error
    output.note(f"{path}: {whole.summary()}")


@app.command("delete", epilog=options.examples("account delete", "account delete --yes --user bob"))
@options.connecting
def delete(
    service: Service, *, yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the name.")] = False
) -> None:
    """Delete the account for ever. What you were called is erased, orders are kept for the shop's books without it.

    The name is never given again. First: securedelivery account export
    """
    client = service.customer()
    account = client.account()
    if not yes:
        typed = ask(f"This cannot be undone. To delete the account, type its name ({account.username}): ")
        if typed is None:
            raise ConfigurationError("account delete", "there is no terminal to ask whether you mean it", "give --yes")
        if typed != account.username:
            raise ConfigurationError(
                "account delete", "that is not the account's name; nothing was deleted", f"type {account.username}"
            )
    word = service.present_password() if account.has_password else None
    with _unknown("the account was deleted", "see whether it is there: securedelivery account show"):  # noqa: SIM117
        with advising(_WRONG_PASSWORD):
            client.delete_account(word)
    output.note(f"The account {account.username} has been deleted.")


class _Export(msgspec.Struct):
    """What account.export gives, by kind."""

    account: Account | None = None
    orders: list[Order] = []
    points: list[PointsEntry] = []
    messages: list[Message] = []
    events: list[dict[str, Any]] = []

    @classmethod
    def of(cls, items: Iterable[m.Exported]) -> "_Export":
        whole = cls()
        for item in items:
            match item:
                case m.ExportedProfile(account):
                    whole.account = account
                case m.ExportedOrder(order):
                    whole.orders.append(order)
                case m.ExportedPoints(points):
                    whole.points.append(points)
                case m.ExportedMessage(message):
                    whole.messages.append(message)
                case _:
                    whole.events.append(msgspec.structs.asdict(item))
        return whole

    def summary(self) -> str:
        """`3 orders, 4 entries of points, ...`."""
        return ", ".join(
            (
                quantity(len(self.orders), "order"),
                quantity(len(self.points), "entry of points", "entries of points"),
                quantity(len(self.messages), "message"),
                quantity(len(self.events), "event"),
            )
        )


@contextlib.contextmanager
def _unknown(what: str, hint: str) -> Iterator[None]:
    """A connection that ends within leaves it open whether that happened."""
    try:
        yield
    except ConnectionFailure as failure:
        raise ConnectionFailure(f"{failure}; it is not known whether {what}", hint) from failure
