"""`securedelivery admin mail`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from securedelivery.cli import admin_output, failures, options, output
from securedelivery.cli.admin_shop import Config, DatabaseUrl, opened
from securedelivery.cli.service import advising
from securedelivery.cli.text import quantity
from securedelivery.errors import ConfigurationError, MailError, MailRefused, MailServerFailure, Reason
from securedelivery.model import MailRoute, MailState

if TYPE_CHECKING:
    from securedelivery.application import Shop
    from securedelivery.mail.composer import Composer
    from securedelivery.mail.settings import MailServer

app = typer.Typer(no_args_is_help=True)

MAX_NUMBER = 2**63 - 1  # of a row

_QUEUE = {
    Reason.NOT_FOUND: "see which there are: securedelivery admin mail queue",
    Reason.ILLEGAL_TRANSITION: "see what waits or has failed: securedelivery admin mail queue",
}
_OPEN = (MailState.WAITING, MailState.SENDING, MailState.FAILED)


class Tried(msgspec.Struct, frozen=True):
    """What came of a test mail. answer: the mail server's, where it took the mail; else error and hint."""

    route: MailRoute
    server: str
    taken: bool
    answer: str | None = None
    error: str | None = None
    hint: str | None = None


@app.command(
    "test",
    epilog=options.examples(
        "admin mail test me@example.org --config shop.toml",
        "admin mail test me@example.org --route summaries --config shop.toml",
    ),
)
def send_test(
    *,
    address: Annotated[str, typer.Argument(help="Where the mail goes.", metavar="ADDRESS")],
    route: Annotated[MailRoute | None, typer.Option(help="Through this mail server alone.", show_default=False)] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Send a mail at once, through each mail server of the settings, and say what the servers answer."""
    from securedelivery.mail.addresses import address_of

    to = address_of(address)
    if to is None:
        raise ConfigurationError("ADDRESS", f"{address!r} is not one", "write for example me@example.org")
    with opened(config, database) as shop:
        servers = _servers(shop, route)
        compose = shop.composer()
        tried = [_tried(compose, one, server, to) for one, server in servers.items()]
    if as_json:
        output.json(tried)
    else:
        _tell(tried)
    if not all(one.taken for one in tried):
        raise typer.Exit(failures.FAILED)


def _servers(shop: "Shop", route: MailRoute | None) -> Mapping[MailRoute, "MailServer"]:
    """Raises ConfigurationError where there is none."""
    servers = shop.settings.mail.servers
    wanted = servers if route is None else {one: server for one, server in servers.items() if one is route}
    if wanted:
        return wanted
    if not servers and shop.outbox.uses():
        hint = "the server has some: give this command the same --config"
    else:
        hint = "write host and sender there, and name that file with --config; docs/mail.md has an example"
    section = MailRoute.RECEIPTS if route is None else route
    raise ConfigurationError(f"mail.{section}", "no mail server is set", hint)


def _tried(compose: "Composer", route: MailRoute, server: "MailServer", to: Address) -> Tried:
    from securedelivery.mail import smtp

    port, security = server.way
    name = f"{server.host}:{port}, {security}"
    section = f"mail.{route}"
    session = smtp.Session(server, section=section)
    try:
        with session:
            session.open()
            answer = session.send(compose.test(route, server, to, datetime.now(UTC)))
    except MailError as error:
        maybe = "; it may have taken the mail all the same" if session.uncertain else ""
        return Tried(route, name, taken=False, error=f"{error}{maybe}", hint=_hint(error))
    return Tried(route, name, taken=True, answer=answer)


def _hint(error: MailError) -> str:
    match error:
        case MailServerFailure(hint=hint) if hint:
            return hint
        case MailRefused(permanent=False):
            return "it may take it later; the shop's own mail is tried again by itself"
        case MailServerFailure() | MailRefused():
            return "what is wrong, step by step: securedelivery doctor"
        case _:
            return "try another address"


def _tell(tried: list[Tried]) -> None:
    for one in tried:
        if one.taken:
            output.line(f"mail.{one.route} ({one.server}) has taken it: {one.answer}")
        else:
            output.error(f"mail.{one.route} ({one.server}): {one.error}", one.hint or "")
    if any(one.taken for one in tried):
        output.note("Now look into the mailbox, and among its spam.")


@app.command(
    "queue",
    epilog=options.examples(
        "admin mail queue", "admin mail queue --state failed --json", "admin mail queue --state sent --after 1200"
    ),
)
def queue(
    *,
    state: Annotated[
        list[MailState] | None,
        typer.Option(help="Only this; can be given more than once.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at the most.", min=1, max=10_000, metavar="NUMBER")] = 50,
    after: Annotated[int, typer.Option(help="Go on behind this number.", min=0, max=MAX_NUMBER, metavar="NUMBER")] = 0,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """What is still to be sent, is being sent, or could not be: in the order in which it was queued.

    A * behind the tries: it may have gone out already. A server ended or a connection broke in the middle, or a backup
    was restored.
    """
    with opened(config, database) as shop:
        rows, following = shop.outbox.view(state or _OPEN, after, limit)
        names = shop.outbox.names(rows)
        counts = shop.outbox.counts()
        used = shop.outbox.uses()
    admin_output.mail(rows, following, names, counts, as_json=as_json)
    if as_json:
        return
    if not rows:
        output.note("No such mail." if state else "Nothing waits, and nothing has failed.")
    idle = [route for route in MailRoute if route not in used]
    if len(idle) == len(MailRoute):
        output.note("The server sends no mail: no mail server is set, or it has not been started since.")
    for route in idle:
        if used and counts.get((route, MailState.WAITING)):
            output.note(f"No mail server is set in [mail.{route}]: what waits there does not leave.")


@app.command("retry", epilog=options.examples("admin mail retry", "admin mail retry 17 18"))
def retry(
    *,
    numbers: Annotated[
        list[int] | None,
        typer.Argument(help="Mail by its number; else all that failed.", metavar="[NUMBER]...", min=1, max=MAX_NUMBER),
    ] = None,
    config: Config = None,
    database: DatabaseUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Have the server try again what failed, or what waits for another try."""
    with opened(config, database) as shop, advising(_QUEUE):
        again = shop.outbox.retry(numbers or None)
        used = shop.outbox.uses()
    if as_json:
        output.json({"mail": again})
        return
    if not again:
        output.note("No mail has failed.")
        return
    shown = ", ".join(map(str, again[:10])) + (" ..." if len(again) > 10 else "")  # noqa: PLR2004 -- enough to see
    output.line(f"{quantity(len(again), 'mail is', 'mails are')} due now: {shown}")
    output.note(
        "The server sends them within seconds, as soon as it runs."
        if used
        else "The server sends no mail: no mail server is set, or it has not been started since."
    )
