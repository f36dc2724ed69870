"""What a command needs of the service: profile, connection, login."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from securedelivery.cli import terminal
from securedelivery.errors import ConfigurationError, ConnectionFailure, Reason, Refusal

if TYPE_CHECKING:
    from securedelivery.client import Client, Profile
    from securedelivery.client.profile import Found
    from securedelivery.transport.keylog import KeyLogs

__all__ = ["Advised", "Service", "advising", "ask", "has_terminal", "password"]

TIMEOUT_SECONDS = 30.0
USER = "SECUREDELIVERY_USER"
PASSWORD = "SECUREDELIVERY_PASSWORD"  # noqa: S105 -- the name of a variable
NEW_PASSWORD = "SECUREDELIVERY_NEW_PASSWORD"  # noqa: S105 -- the same
TERMINAL = Path("/dev/tty")


class Advised(Refusal):
    """A refusal that the command understands better than a table by reasons could. hint: what to do."""

    def __init__(self, refusal: Refusal, message: str, hint: str) -> None:
        super().__init__(refusal.reason, message, **refusal.data)
        self.hint = hint


@contextlib.contextmanager
def advising(hints: Mapping[Reason, str]) -> Iterator[None]:
    """What is refused within, with the command's own hints."""
    try:
        yield
    except Refusal as refusal:
        if refusal.reason not in hints:
            raise
        raise Advised(refusal, refusal.message, hints[refusal.reason]) from refusal


class Service:
    """Connects when a command asks for it, and says goodbye at its end.

    flags: server, ca, certificate, key, crl, tls_ca as on the command line. key_log: whether --key-log was given.
    Nothing is imported for the network before.
    """

    def __init__(
        self, flags: Mapping[str, str | None], *, user: str | None, timeout_seconds: float | None, key_log: bool = False
    ) -> None:
        self._flags = flags
        self._user = user or os.environ.get(USER) or None
        self._timeout_seconds = TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
        self._key_log = key_log
        self._key_logs: KeyLogs | None = None
        self._client: Client | None = None
        self._password: str | None = None

    def __enter__(self) -> Self:
        if self._key_log:  # before anything is asked or sent
            self._key_logs = _key_logs()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def user(self) -> str | None:
        """--user or SECUREDELIVERY_USER."""
        return self._user

    def settings(self) -> "dict[str, Found]":
        """The profile's, each with its source."""
        from securedelivery.client.profile import Profile

        return Profile.search(flags=self._flags)

    def profile(self) -> "Profile":
        from securedelivery.client.profile import Profile

        return Profile.load(flags=self._flags)

    def client(self) -> "Client":
        """Connected, nobody logged in. Raises what connecting raises, ConnectionFailure for a bad file."""
        if self._client is None:
            profile = self.profile()
            from securedelivery.client import Client

            seconds = self._timeout_seconds
            client = Client(
                profile,
                timeout_seconds=seconds,
                handshake_seconds=min(10.0, seconds),
                key_logs=self._key_logs,
            )
            try:
                client.connect()
            except ConfigurationError as error:
                raise ConnectionFailure(str(error), error.hint) from error
            self._client = client
        return self._client

    def customer(self) -> "Client":
        """Connected and logged in: as the certificate says, else as --user with a password."""
        if self.profile().certificate is not None:
            return self._by_certificate()
        user = self._require_user()
        client = self.client()  # first: where the server wants a certificate, a password is of no use
        self._password = password(f"Password for {user}: ")
        client.login(user, self._password)
        return client

    def present_password(self) -> str:
        """For what the service wants it once more: that of this login, else it is asked for."""
        return password("The account's password: ") if self._password is None else self._password

    def _by_certificate(self) -> "Client":
        client = self.client()
        name = self.identity_name()
        if name is not None and self._user is not None and self._user != name:
            raise ConfigurationError("--user", f"the certificate is for {name}", "leave out --user, or the certificate")
        try:
            client.login_certificate()
        except Refusal as refusal:
            if refusal.reason is Reason.BAD_CREDENTIALS:
                message = f"there is no account yet for {name or 'this certificate'}"
                raise Advised(refusal, message, "open one: securedelivery account create") from refusal
            raise
        return client

    def identity_name(self) -> str | None:
        """The account's name in the certificate, as the server has read it; None without one. Connects."""
        identity = self.client().welcome.identity
        return None if identity is None else identity.rpartition("/")[2]

    def _require_user(self) -> str:
        if self._user is None:
            raise ConfigurationError(
                "--user",
                "who are you? There is neither a certificate nor a name",
                "securedelivery profile set --certificate FILE, or: --user NAME",
            )
        return self._user


def _key_logs() -> "KeyLogs":
    from securedelivery.transport.keylog import KeyLogs

    logs = KeyLogs.from_environment(os.environ, warn=terminal.warning)
    files = " and ".join(map(str, logs.files))
    terminal.warning(f"--key-log: whoever has {files} and a recording reads everything in it: delete them afterwards")
    return logs


def password(question: str, *, twice: bool = False, variable: str = PASSWORD) -> str:
    """SECUREDELIVERY_PASSWORD, or asked on the terminal. Raises ConfigurationError where there is neither."""
    given = os.environ.get(variable)
    if given is not None:
        return given
    import getpass

    if not has_terminal():
        raise ConfigurationError("password", "there is no terminal to ask for it", f"set {variable}")
    word = getpass.getpass(question)
    if twice and getpass.getpass("The same again: ") != word:
        raise ConfigurationError("password", "the two were not the same", "try again")
    return word


def ask(question: str) -> str | None:
    """A line from the terminal, whatever stdin and stdout are; None without a terminal. Raises EOFError."""
    if not has_terminal():
        return None
    with TERMINAL.open("w") as shown, TERMINAL.open() as typed:
        shown.write(question)
        shown.flush()
        line = typed.readline()
    if not line:
        raise EOFError
    return line.strip()


def has_terminal() -> bool:
    with contextlib.suppress(OSError), TERMINAL.open("rb"):
        return True
    return False
