"""`securedelivery chat`, and `securedelivery support chat` for agents: one conversation, live both ways.

Three threads: the main one types and prints, one listens, and one sends, in the order in which lines were entered.
Nothing but the main thread touches the console; the others leave news in a queue and wake it.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from securedelivery.api.messages import MarkRead, Nothing, Typing
from securedelivery.cli import failures, options, terminal
from securedelivery.cli.live import END, Console, json_line
from securedelivery.cli.service import Service, advising
from securedelivery.cli.text import moment, quantity
from securedelivery.client.conversation import Event, Live, LiveConversation, Lost
from securedelivery.errors import ConfigurationError, ConnectionFailure, Reason, Refusal, SecureDeliveryError
from securedelivery.model import Conversation, ConversationStatus, Message, Role

if TYPE_CHECKING:
    from securedelivery.client import Client

__all__ = ["AGENT", "CUSTOMER", "Talk", "answer", "app"]

MAX_TEXT = 4_000  # characters (docs/protocol.md, section 5)
TYPING_SECONDS = 3.0  # between two hints to the other side, and how long one lasts is twice that
HINT_SECONDS = 5.0  # a mark or a hint that takes longer has lost its point
PATIENCE_SECONDS = 30.0  # at the end of a pipe, for what was said to be shown, too

CUSTOMER = {"/quit": "leaves (so does Ctrl-D)"}
AGENT = {
    "/resolve": "says that it is answered",
    "/release": "lets another agent take it",
    "/quit": "leaves it with you (so does Ctrl-D)",
}
"""The commands of each side, and what they do."""

app = typer.Typer()
answer = typer.Typer()


@app.command("chat", epilog=options.examples("chat", 'chat "Is the 5070 in stock again?"', "chat --json < /dev/null"))
@options.connecting
def chat(
    service: Service,
    *,
    text: Annotated[list[str] | None, typer.Argument(help="Say just this.", metavar="TEXT", show_default=False)] = None,
    after: Annotated[int, typer.Option(help="Of the history, only what follows that message.", min=0)] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Talk with the shop: what was said so far, then both sides live.

    From a pipe, each line is a message; with --json, each message that there is comes as a line of JSON.
    """
    words = None if text is None else _checked(" ".join(text))
    client = service.customer()
    if words is not None:
        _show(client.send_message(words), as_json=as_json)
        return
    with Console(plain=as_json) as console:
        if console.moving:
            console.note("Chat with the shop. Enter sends what you have typed; /quit or Ctrl-D leaves.")
        _end(Talk(client, console, CUSTOMER, after=after, as_json=as_json))


@answer.command("chat", epilog=options.examples("support chat 3"))
@options.connecting
def _answer(
    service: Service,
    *,
    number: Annotated[int, typer.Argument(help="The conversation's number.", metavar="NUMBER", min=1)],
    after: Annotated[int, typer.Option(help="Of the history, only what follows that message.", min=0)] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Take a conversation, and talk with the customer, live. /resolve, /release and /quit end it."""
    client = service.customer()
    with advising({Reason.NOT_FOUND: "see which there are: securedelivery support queue"}):
        taken = client.claim(number)
    with Console(plain=as_json) as console:
        if console.moving:
            console.note(f"Conversation {number} with {taken.customer}. Enter sends what you have typed.")
            _help(console, AGENT)
        ended = _end(Talk(client, console, AGENT, number=number, me=taken.agent, after=after, as_json=as_json))
    if ended == "/resolve":
        client.resolve(number)
        terminal.note(f"Conversation {number} is resolved.")
    elif ended == "/release":
        client.release(number)
        terminal.note(f"Conversation {number} waits for another agent.")


class _Sent(msgspec.Struct, frozen=True):
    sequence: int


class _NotSent(msgspec.Struct, frozen=True):
    text: str
    error: SecureDeliveryError


class _Failed(msgspec.Struct, frozen=True):
    error: BaseException


class _Gone(msgspec.Struct, frozen=True):
    """The conversation is not this agent's any more."""


_News = Event | _Sent | _NotSent | _Failed | _Gone


class Talk:
    """One visit to a conversation; run() it once.

    commands: CUSTOMER or AGENT; number: None is the own conversation; me: the agent's username.
    """

    def __init__(
        self,
        client: "Client",
        console: Console,
        commands: dict[str, str],
        *,
        number: int | None = None,
        me: str | None = None,
        after: int = 0,
        as_json: bool = False,
    ) -> None:
        self._client = client
        self._console = console
        self._commands = commands
        self._number = number
        self._me = me
        self._as_json = as_json
        self._talk = LiveConversation(client, number, after=after)
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._unsent = 0  # messages without an answer yet
        self._own = 0  # the sequence of the last one with an answer
        self._shown = after  # the sequence of the last message on the screen
        self._marked = after  # up to where it was said that they were read
        self._day = ""
        self._status: tuple[ConversationStatus, str | None] | None = None
        self._writer, self._writes_until = "", 0.0
        self._hinted = 0.0  # when the other side was last told of our typing
        self._live = False  # the history was shown
        self._lost = False
        self._leaving: str | None = None  # by which command
        self._patience = 0.0
        self.refused = False
        """Whether something was refused; it was told."""

    @property
    def moving(self) -> bool:
        """Whether it is on a terminal."""
        return self._console.moving

    def run(self) -> str:
        """Until it is left: by which command, "" for the end of the input. Raises what ends it otherwise."""
        threads: list[threading.Thread] = []
        try:
            for target in (self._listen, self._work):
                threads.append(threading.Thread(target=target))
                threads[-1].start()
            self._console.open("> ", remember=True)
            while not self._done():
                self._step()
        except (KeyboardInterrupt, SystemExit):
            self._client.close()  # else the sender would try on
            raise
        finally:
            self._console.close()
            self._talk.stop()
            self._jobs.put(None)
            for thread in threads:
                if thread.ident is not None:  # Ctrl-C may have come before its start
                    thread.join()
        return self._leaving or ""

    def _step(self) -> None:
        seconds = self._seconds()
        if self._leaving is not None:
            self._console.rest(seconds)
        else:
            entered = self._console.wait(seconds)
            if entered is END:
                self._leave("")
            elif isinstance(entered, str):
                self._entered(entered)
        self._tell_news()
        self._tell_typing()
        self._console.status(self._state())

    def _seconds(self) -> float | None:
        """Until something happens by itself."""
        if self._leaving is not None and not self.moving:
            return max(0.0, self._patience - time.monotonic())
        return max(0.0, self._writes_until - time.monotonic()) if self._writer else None

    def _done(self) -> bool:
        if self._leaving is None or self._unsent:
            return False
        if self.moving or (self._live and self._shown >= self._own):
            return True
        if time.monotonic() < self._patience:
            return False
        raise ConnectionFailure("the connection is lost, and not all that was said could be shown", "try again")

    # What is typed

    def _entered(self, line: str) -> None:
        text = line.strip()
        if text in self._commands:
            self._leave(text)
        elif text.startswith("/") and text[1:].isalpha():
            with self._console.above():
                if text != "/help":
                    self._console.note(f"There is no {text}.")
                _help(self._console, self._commands)
        elif len(text) > MAX_TEXT:
            self._refuse(f"a message has at most {MAX_TEXT:,} characters; this one has {len(text):,}", text)
        elif text:
            self._unsent += 1
            self._jobs.put(lambda: self._send(text))

    def _leave(self, command: str) -> None:
        self._leaving = command
        self._patience = time.monotonic() + PATIENCE_SECONDS
        if self._unsent and self._lost and self.moving:
            with self._console.above():
                self._console.note("What you wrote is sent as soon as the shop is back. Ctrl-C gives it up.")

    def _refuse(self, why: str, text: str) -> None:
        self.refused = True
        with self._console.above():
            terminal.error(f"not sent: {why}")
        self._console.refill(text)

    def _tell_typing(self) -> None:
        """Have the other side know, now and then, while there is something in the line."""
        typed = self._console.typed
        now = time.monotonic()
        if typed and not typed.startswith("/") and not self._lost and now - self._hinted >= TYPING_SECONDS:
            self._hinted = now
            self._jobs.put(lambda: self._client.typing(self._number))

    # What is told

    def _tell_news(self) -> None:
        if self._news.empty():
            return
        with self._console.above():
            while True:
                try:
                    news = self._news.get_nowait()
                except queue.Empty:
                    break
                self._tell(news)
            self._console.status(self._state())
        if self._shown > self._marked and not self._lost:
            self._marked = up_to = self._shown
            self._jobs.put(lambda: self._mark_read(up_to))

    def _tell(self, news: _News) -> None:
        match news:
            case Message():
                self._tell_message(news)
            case Typing():
                self._writer, self._writes_until = news.sender, time.monotonic() + 2 * TYPING_SECONDS
            case Conversation():
                self._tell_change(news)
            case Lost():
                self._lost, self._writer = True, ""
                self._console.note("connection lost, trying again")
            case Live():
                self._tell_live()
            case _Sent():
                self._unsent -= 1
                self._own = max(self._own, news.sequence)
                self._patience = time.monotonic() + PATIENCE_SECONDS
            case _NotSent():
                self._unsent -= 1
                self._not_sent(news)
            case _Gone():
                self._console.note("The conversation is not yours any more.")
                self._leaving = self._leaving or ""
            case _:
                raise news.error

    def _tell_message(self, message: Message) -> None:
        self._shown = message.sequence
        if message.sender == self._writer:
            self._writer = ""
        if self._as_json or not self.moving:
            _show(message, as_json=self._as_json)
            return
        day, _, minute = moment(message.at).partition(" ")
        if day != self._day:
            self._day = day
            self._console.faint(day)
        own = message.sender == self._me if self._me is not None else message.role is Role.CUSTOMER
        self._console.say(minute, "you" if own else message.sender, message.text, own=own)
        if self._live and self._me is None and message.sequence == 1:
            self._console.note("An agent answers as soon as one is free. You may leave, and come back for the answer.")

    def _tell_live(self) -> None:
        if self._lost:
            self._console.note("back")
            self._marked = 0  # the last mark may have been lost, too
            if self._me is not None:
                self._jobs.put(self._look_whether_mine)
        elif not self._live and self._shown == 0 and self.moving:
            self._console.note("Nothing has been said yet.")
        self._lost, self._live = False, True

    def _tell_change(self, now: Conversation) -> None:
        status = (now.status, now.agent)
        if status == self._status:
            return
        self._status = status
        if self._me is None:
            if self.moving:
                self._console.note(_CHANGES[now.status].format(agent=now.agent))
        elif status != (ConversationStatus.ASSIGNED, self._me):
            self._console.note(_TAKEN[now.status].format(agent=now.agent))
            self._leaving = self._leaving or ""

    def _not_sent(self, news: _NotSent) -> None:
        if isinstance(news.error, Refusal):
            self._refuse(news.error.message, news.text)
            return
        left = quantity(self._unsent, "message")
        raise ConnectionFailure(
            f"{news.error}; it is not known whether this was sent: {news.text}"
            + (f" ({left} behind it {'was' if self._unsent == 1 else 'were'} not)" if self._unsent else ""),
            "see what has arrived: securedelivery chat",
        ) from news.error

    def _state(self) -> str:
        if self._unsent and self._lost:
            return f"{quantity(self._unsent, 'message')} to be sent when the connection is back"
        if self._writer and time.monotonic() < self._writes_until:
            return f"{self._writer} is writing ..."
        self._writer = ""
        return ""

    # On the other threads

    def _listen(self) -> None:
        try:
            for event in self._talk.events():
                self._bring(event)
        except Exception as error:  # noqa: BLE001 -- raised again on the main thread
            self._bring(_Failed(error))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except (ConnectionFailure, Refusal):
                continue  # a hint, a mark: the next one comes
            except Exception as error:  # noqa: BLE001 -- raised again on the main thread
                self._bring(_Failed(error))

    def _send(self, text: str) -> None:
        try:
            message = self._talk.send(text, patient=lambda: self._leaving is None or self.moving)
        except SecureDeliveryError as error:
            self._bring(_NotSent(text, error))
        else:
            self._bring(_Sent(message.sequence))

    def _mark_read(self, up_to: int) -> None:
        self._client.call(
            "chat.mark_read", MarkRead(up_to, self._number), Nothing, repeat=False, timeout_seconds=HINT_SECONDS
        )

    def _look_whether_mine(self) -> None:
        """Who takes a conversation away while nobody is connected cannot tell."""
        after = None
        while True:
            page = self._client.chat_queue(status=ConversationStatus.ASSIGNED, after=after)
            if any(one.conversation == self._number for one in page.items):
                return
            after = page.next
            if after is None:
                self._bring(_Gone())
                return

    def _bring(self, news: _News) -> None:
        self._news.put(news)
        self._console.wake()


_CHANGES = {
    ConversationStatus.WAITING: "You are in the queue: the next agent who is free answers.",
    ConversationStatus.ASSIGNED: "{agent} is here for you.",
    ConversationStatus.RESOLVED: "The shop has marked this as answered. Write, and it is open again.",
}
_TAKEN = {
    ConversationStatus.WAITING: "The conversation was given back to the queue.",
    ConversationStatus.ASSIGNED: "The conversation is with {agent} now.",
    ConversationStatus.RESOLVED: "The conversation was resolved.",
}


def _end(talk: Talk) -> str:
    command = talk.run()
    if talk.refused and not talk.moving:
        raise typer.Exit(failures.FAILED)
    return command


def _help(console: Console, commands: dict[str, str]) -> None:
    console.note("; ".join(f"{name} {what}" for name, what in commands.items()) + ".")


def _checked(text: str) -> str:
    text = text.strip()
    if not text:
        raise ConfigurationError("TEXT", "there is nothing in it", "leave it out to see what was said")
    if len(text) > MAX_TEXT:
        raise ConfigurationError("TEXT", f"a message has at most {MAX_TEXT:,} characters", "send it in parts")
    return text


def _show(message: Message, *, as_json: bool) -> None:
    if as_json:
        json_line(message)
    else:
        terminal.line(f"{moment(message.at)}  {message.sender}: {message.text}")
