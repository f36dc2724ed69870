"""Questions of the menu: each says what may be typed and how to go back; each mistake is explained, and asked again."""

import re
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from securedelivery.cli import terminal
from securedelivery.cli.live import Console, wrapped
from securedelivery.errors import ConnectionFailure, PeerClosed, Reason, Refusal, SecureDeliveryError

__all__ = ["Back", "Dialogue", "LoginEnded", "in_turn"]

Result = TypeVar("Result")

BACK = "b"
_NUMBER = re.compile(r"[0-9]+|[0-9]{1,3}(,[0-9]{3})+")
NOTICE_SECONDS = 1.5  # of silence, until it is said that the shop does not answer
_LOGIN_ENDED = frozenset((Reason.NOT_LOGGED_IN, Reason.BAD_CREDENTIALS, Reason.DISABLED))
_ACCOUNT_ENDED = frozenset(("credentials_changed", "account_deleted"))


class Back(Exception):  # noqa: N818 -- a wish, not an error
    """To the question before."""


class LoginEnded(Exception):  # noqa: N818 -- as above
    """The service does not know this login any more. Its text says why."""


def in_turn(*steps: Callable[[], bool | None]) -> None:
    """One question after the other. Going back leads to the one before; from the first it is Back for the caller.

    A step returns False where there was nothing to ask.
    """
    place, back = 0, False
    while place < len(steps):
        try:
            asked = steps[place]() is not False
        except Back:
            back = True
        else:
            back = back and not asked
        place += -1 if back else 1
        if place < 0:
            raise Back


class Dialogue:
    """Everything raises EOFError where nothing will be typed any more."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str = "") -> None:
        for row in wrapped(text, self._console.columns - 1) if self._console.moving else (text,):
            terminal.line(row)

    def title(self, text: str) -> None:
        terminal.line()
        self._console.bold(text)

    def hint(self, text: str) -> None:
        for row in wrapped(text, self._console.columns - 1) if self._console.moving else (text,):
            self._console.faint(row)

    def choose(self, choices: Sequence[tuple[str, str]]) -> str:
        """One of the keys. choices: (key, what it does)."""
        for key, what in choices:
            terminal.line(f"  {key}  {what}")
        terminal.line()
        self.hint("Type a number, then press Enter.")
        while True:
            typed = self._ask("> ").rstrip(".)")
            if typed in dict(choices):
                return typed
            keys = [key for key, _ in choices]
            wrong = f"{_quoted(typed)} is not in the list" if typed else "Nothing was typed"
            self.say(f"{wrong}: type {', '.join(keys[:-1])} or {keys[-1]}.")

    def command(self, hint: str, *keys: str) -> str:
        """What was typed, in one line. hint: what may be; keys: those letters come back as small ones."""
        terminal.line()
        self.hint(f"{hint}  {BACK} back")
        while not (typed := self._ask("> ")):
            self.say("Nothing was typed: type one of these, then press Enter.")
        if typed.lower() == BACK:
            raise Back
        return typed.lower() if typed.lower() in keys else typed

    def text(
        self,
        question: str,
        *,
        kept: str | None = None,
        optional: str = "",
        secret: bool = False,
        wrong: Callable[[str], str | None] = lambda _text: None,
    ) -> str | None:
        """A line. kept: what Enter alone gives; optional: else what Enter alone does, then the answer is None.

        wrong(): why a line cannot be, or None. Raises Back.
        """
        self.say(question)
        ways = []
        if kept is not None and not secret:
            ways.append(f"Enter alone for: {kept}")
            if optional:
                ways.append("- for nothing")
        elif optional:
            ways.append(f"Enter alone {optional}")
        self.hint("; ".join([*ways, f"{BACK} to go back"]) + ".")
        while True:
            typed = self._ask("> ", secret=secret)
            if typed.lower() == BACK:
                raise Back
            if not typed and not secret and kept is not None:
                return kept
            if optional and typed in ("", "-"):
                return None
            reason = wrong(typed) if typed else "Nothing was typed."
            if reason is None:
                return typed
            self.say(reason)

    def number(self, question: str, least: int, most: int, *, kept: int) -> int:
        """question: without its question mark. Raises Back."""

        def wrong(text: str) -> str | None:
            if not _NUMBER.fullmatch(text):
                return f"{_quoted(text)} is not a whole number from {least:,} to {most:,}."
            if not least <= int(text[:20].replace(",", "")) <= most:
                return f"It can be {least:,} to {most:,}."
            return None

        typed = self.text(f"{question} ({least:,} to {most:,})?", kept=str(kept), wrong=wrong)
        return int((typed or str(kept)).replace(",", ""))

    def confirm(self, question: str) -> None:
        """Raises Back unless the answer is yes."""
        self.say(question)
        self.hint(f"y for yes; {BACK} to go back.")
        while True:
            typed = self._ask("> ").lower()
            if typed in ("y", "yes"):
                return
            if typed in (BACK, "n", "no"):
                raise Back
            self.say(f"{_quoted(typed)} is neither y nor {BACK}." if typed else f"Type y or {BACK}, then press Enter.")

    def call(self, ask: Callable[[], Result], *, doubt: str = "") -> Result:
        """Ask the service. While it does not answer, that is said, and it is asked again as long as the user wants.

        doubt: what to say where it is not known whether the call took effect. Raises Back; LoginEnded; Refusal; what
        no patience mends.
        """
        while True:
            notice = threading.Timer(NOTICE_SECONDS, self._tell_silence)
            notice.start()
            try:
                return ask()
            except (ConnectionFailure, Refusal) as error:
                if not _passes(error):
                    raise
                failure: SecureDeliveryError = error
            finally:
                notice.cancel()
                notice.join()
            self.say(f"The shop cannot be reached just now: {failure}.")
            if doubt:
                self.say(doubt)
            self.hint(f"Enter tries again; {BACK} goes back. What you have typed is kept.")
            while (typed := self._ask("> ").lower()) not in ("", BACK):
                self.say(f"{_quoted(typed)} is neither Enter alone nor {BACK}.")
            if typed == BACK:
                raise Back

    def _tell_silence(self) -> None:
        self._console.note("The shop does not answer; trying again. What you have typed is kept. (Ctrl-C leaves.)")

    def _ask(self, prompt: str, *, secret: bool = False) -> str:
        return self._console.ask(prompt, secret=secret)


def _passes(error: ConnectionFailure | Refusal) -> bool:
    """Whether to wait. Raises LoginEnded."""
    if isinstance(error, Refusal):
        if error.reason in _LOGIN_ENDED:
            raise LoginEnded(error.message) from error
        return error.reason is Reason.UNAVAILABLE
    if isinstance(error, PeerClosed) and error.reason in _ACCOUNT_ENDED:
        raise LoginEnded(str(error)) from error
    return error.temporary or not isinstance(error, PeerClosed)


def _quoted(text: str) -> str:
    return f'"{text[:40]}"'
