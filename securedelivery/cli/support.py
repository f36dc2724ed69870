"""`securedelivery support`: the agents' side of the chat, as far as one answer suffices."""

from typing import Annotated

import typer

from securedelivery.cli import lazy, options, output, paging
from securedelivery.cli.lazy import Entry
from securedelivery.cli.service import Service, advising
from securedelivery.errors import ConfigurationError, Reason
from securedelivery.model import ConversationStatus

_LIVE = {"chat": Entry("chat:answer", "Talk with a customer, live.", group=False)}
app = typer.Typer(no_args_is_help=True, cls=lazy.group(_LIVE))

Number = Annotated[int, typer.Argument(help="The conversation's number.", metavar="NUMBER", min=1)]
_NONE = {
    ConversationStatus.WAITING: "Nobody waits.",
    ConversationStatus.ASSIGNED: "No conversation is yours.",
    ConversationStatus.RESOLVED: "No conversation is resolved.",
}
_HINTS = {
    Reason.NOT_FOUND: "see which there are: securedelivery support queue",
    Reason.ILLEGAL_TRANSITION: "to go on with it, take it again: securedelivery support claim NUMBER",
}


@app.command(
    "queue", epilog=options.examples("support queue", "support queue --mine", "support queue --resolved --json")
)
@options.connecting
def queue(
    service: Service,
    *,
    mine: Annotated[bool, typer.Option("--mine", help="Those that you have taken.")] = False,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those that are done.")] = False,
    limit: Annotated[int, typer.Option(help="How many at the most.", min=1, metavar="NUMBER")] = 50,
    after: Annotated[str | None, typer.Option(help="Go on where a list ended.", metavar="CURSOR")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Who waits for an answer, the longest first."""
    if mine and resolved:
        raise ConfigurationError("--resolved", "--mine was given too", "give one of the two")
    status = ConversationStatus.WAITING
    if mine or resolved:
        status = ConversationStatus.ASSIGNED if mine else ConversationStatus.RESOLVED
    client = service.customer()
    found = paging.collect(
        lambda cursor, most: client.chat_queue(status=status, after=cursor, limit=most), after=after, limit=limit
    )
    if not found.items and not as_json:
        output.note(_NONE[status])
        return
    output.conversations(found.items, found.next, as_json=as_json)


@app.command("claim", epilog=options.examples("support claim 3"))
@options.connecting
def claim(service: Service, *, number: Number, as_json: options.AsJson = False) -> None:
    """Take a conversation. To answer: support chat NUMBER, which takes it too."""
    client = service.customer()
    with advising(_HINTS):
        output.conversation(client.claim(number), as_json=as_json)


@app.command("release", epilog=options.examples("support release 3"))
@options.connecting
def release(service: Service, *, number: Number, as_json: options.AsJson = False) -> None:
    """Let a conversation of yours wait for another agent."""
    client = service.customer()
    with advising(_HINTS):
        output.conversation(client.release(number), as_json=as_json)


@app.command("resolve", epilog=options.examples("support resolve 3"))
@options.connecting
def resolve(service: Service, *, number: Number, as_json: options.AsJson = False) -> None:
    """The question is answered. If the customer writes again, the conversation waits again."""
    client = service.customer()
    with advising(_HINTS):
        output.conversation(client.resolve(number), as_json=as_json)


@app.command("transfer", epilog=options.examples("support transfer 3 kim"))
@options.connecting
def transfer(
    service: Service,
    *,
    number: Number,
    agent: Annotated[str, typer.Argument(help="To whom, an agent's username.", metavar="AGENT")],
    as_json: options.AsJson = False,
) -> None:
    """Hand a conversation to another agent."""
    client = service.customer()
    with advising(_HINTS):
        output.conversation(client.transfer(number, agent), as_json=as_json)
