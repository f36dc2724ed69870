"""The menu's way in: by certificate, by name and password, or with a new account."""

import os
import re
from collections.abc import Callable

from securedelivery.cli.menu_dialogue import Back, Dialogue, LoginEnded, in_turn
from securedelivery.cli.service import PASSWORD, Advised, Service
from securedelivery.errors import ConnectionFailure, Reason, Refusal
from securedelivery.model import USERNAME, Account

__all__ = ["Entrance", "too_long"]

MIN_PASSWORD = 8
MAX_TEXT = 500
_NAME_RULE = "3 to 32 of a-z 0-9 . _ -, the first one a letter"
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# Which question of the form a parameter of account.create comes from.
_QUESTIONS = {"/username": 0, "/password": 1, "/name": 2, "/email": 3, "/address": 4}


class Entrance:
    """account: who is logged in, or None. What was typed in a form stays for the next time."""

    def __init__(self, service: Service, dialogue: Dialogue) -> None:
        self._service = service
        self._dialogue = dialogue
        self.account: Account | None = None
        self._name: str | None = service.user
        self._password: str | None = None
        self._person: dict[str, str | None] = {}
        self._in_doubt = False  # whether an account.create got no answer

    @property
    def by_certificate(self) -> bool:
        return self._service.profile().certificate is not None

    def begin(self) -> None:
        """Log in where nothing has to be asked for that. Raises ConnectionFailure, ConfigurationError."""
        try:
            self._service.client()
        except ConnectionFailure as failure:
            if not failure.temporary:
                raise
            self._dialogue.call(self._service.client)
        if self.by_certificate:
            self.log_in_by_certificate()
        elif self._service.user is not None and PASSWORD in os.environ:
            self._try(lambda: self._service.client().login(self._service.user or "", os.environ[PASSWORD]))

    def log_in_by_certificate(self) -> None:
        def login() -> Account:
            return self._service.customer().account()

        self._try(login)

    def log_in(self) -> None:
        """Raises Back."""
        self._dialogue.title("Log in")
        while self.account is None:
            in_turn(self._ask_name, self._ask_password)
            self._try(self._log_in)

    def log_out(self) -> None:
        self._dialogue.call(self._service.client().logout)
        self.account = self._password = None
        self._dialogue.say("You are logged out.")

    def create(self) -> None:
        """Raises Back."""
        self._dialogue.title("Create an account")
        questions: list[Callable[[], bool | None]] = [
            self._ask_new_name,
            self._ask_new_password,
            lambda: self._ask_about("name", "Your full name, for the parcel"),
            lambda: self._ask_about("email", "Your e-mail address, for receipts", _wrong_email),
            lambda: self._ask_about("address", "Your address, where orders go: street, number, town"),
        ]
        first = 0
        if self.by_certificate:
            self._name, first = self._service.identity_name(), 2
            self._dialogue.say(f"Your account is {self._name}, as your certificate says. No password is needed.")
        asked = questions[first:]
        while self.account is None:
            in_turn(*asked)
            refusal = self._try_to_create()
            if refusal is not None:
                path = "/username" if refusal.reason is Reason.USERNAME_TAKEN else str(refusal.data.get("path", ""))
                place = _QUESTIONS.get(path, first)
                self._person.pop(path.removeprefix("/"), None)
                if path == "/username" and not self.by_certificate:
                    self._name = None
                asked = questions[max(first, place) :][:1]

    # Inside

    def _log_in(self) -> Account:
        return self._service.client().login(self._name or "", self._password or "")

    def _try(self, login: Callable[[], Account]) -> None:
        """Says it where it is refused."""
        try:
            self.account = self._dialogue.call(login)
        except LoginEnded as ended:
            refusal = ended.__cause__
            self._dialogue.say(_sentence(str(ended)))
            if isinstance(refusal, Advised):  # by certificate
                self._dialogue.say("Create it: it takes a minute.")
        except Refusal as refusal:
            self._dialogue.say(_sentence(refusal.message))
        else:
            self._dialogue.say(f"You are logged in as {self.account.username}.")

    def _try_to_create(self) -> Refusal | None:
        name, word = self._name or "", None if self.by_certificate else self._password
        person = self._person

        def create() -> Account:
            client = self._service.client()
            try:
                return client.create_account(
                    name, word, name=person.get("name"), email=person.get("email"), address=person.get("address")
                )
            except ConnectionFailure:
                self._in_doubt = True
                raise
            except Refusal as refusal:
                if not self._in_doubt or refusal.reason is not Reason.USERNAME_TAKEN:
                    raise
                # It may be ours, made by a call whose answer was lost.
                try:
                    return client.login_certificate() if word is None else client.login(name, word)
                except Refusal:
                    raise refusal from None

        try:
            self.account = self._dialogue.call(create)
        except Refusal as refusal:
            self._dialogue.say(_sentence(refusal.message))
            return refusal
        self._in_doubt = False
        self._dialogue.say(f"Welcome, {self.account.username}. Your account is there, and you are logged in.")
        return None

    def _ask_name(self) -> None:
        self._name = self._dialogue.text("Your name here:", kept=self._name)

    def _ask_password(self) -> None:
        self._password = self._dialogue.text("Your password (it is not shown):", secret=True)

    def _ask_new_name(self) -> None:
        self._name = self._dialogue.text(
            f"A name to log in with: {_NAME_RULE}.",
            kept=self._name,
            wrong=lambda text: None if USERNAME.fullmatch(text) else f"A name has {_NAME_RULE}.",
        )

    def _ask_new_password(self) -> None:
        def wrong(text: str) -> str | None:
            return None if len(text) >= MIN_PASSWORD else f"That has {len(text)}; {MIN_PASSWORD} are the least."

        while True:
            word = self._dialogue.text(
                f"A password, {MIN_PASSWORD} characters or more (it is not shown):", secret=True, wrong=wrong
            )
            try:
                if self._dialogue.text("The same again:", secret=True) == word:
                    break
            except Back:
                continue
            self._dialogue.say("The two were not the same.")
        self._password = word

    def _ask_about(self, what: str, question: str, wrong: Callable[[str], str | None] = lambda _text: None) -> None:
        kept = self._person.get(what)
        self._person[what] = self._dialogue.text(
            f"{question}:",
            kept=kept,
            optional="to leave it out",
            wrong=lambda text: too_long(text, MAX_TEXT) or wrong(text),
        )


def too_long(text: str, most: int) -> str | None:
    """Why it cannot be, where it is."""
    return f"At most {most} characters: this has {len(text)}." if len(text) > most else None


def _wrong_email(text: str) -> str | None:
    return None if _EMAIL.fullmatch(text) else f'"{text[:40]}" is no e-mail address: they are like alice@example.org.'


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}".rstrip(".") + "."
