"""`securedelivery account`."""

from typing import Annotated

import typer

from securedelivery.cli import options, output
from securedelivery.cli.service import Advised, Service, password
from securedelivery.errors import ConfigurationError, Reason, Refusal

app = typer.Typer(no_args_is_help=True)


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
            raise _advised(refusal, service.identity_name()) from refusal
        raise
    output.account(created, as_json=as_json)


def _advised(refusal: Refusal, identity: str | None) -> Refusal:
    """identity: the name in the certificate, the only one that can be created with it."""
    if refusal.reason is Reason.USERNAME_TAKEN:
        return Advised(refusal, f"there is an account {identity} already", "see it: securedelivery account show")
    if refusal.reason is Reason.FORBIDDEN:
        return Advised(refusal, refusal.message, "leave out the name: securedelivery account create")
    return refusal


@app.command("show", epilog=options.examples("account show", "account show --user bob --json"))
@options.connecting
def show(service: Service, *, as_json: options.AsJson = False) -> None:
    """Show the account."""
    output.account(service.customer().account(), as_json=as_json)
