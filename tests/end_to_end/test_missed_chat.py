"""An agent answers a customer who is away: a real server, real clients, a real mail server over TLS.

What takes minutes and an hour takes seconds here: the server's process starts with other constants, and nothing else.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from end_to_end.customers import ProfileOf, StartServer
from end_to_end.server_process import ServerProcess, Settings
from mail.smtp_server import USERS, MailHost, Received
from planted import MARK, planted

from securedelivery.client import Client
from securedelivery.model import Message

QUIET_SECONDS = 2.0
PAUSE_SECONDS = 6.0

FASTER = f"""
from datetime import timedelta

from securedelivery import application
from securedelivery.service import missed_chat

application.MISSED_SECONDS = 0.1
missed_chat.QUIET = timedelta(seconds={QUIET_SECONDS})
missed_chat.LEAST_PAUSE = timedelta(seconds={PAUSE_SECONDS})
"""

Enter = Callable[[ServerProcess, str], Client]


@pytest.fixture
def arrivals() -> list[float]:
    """When each mail came, by the monotonic clock."""
    return []


@pytest.fixture
def mail_host(tmp_path: Path, arrivals: list[float]) -> Iterator[MailHost]:
    with MailHost(tmp_path / "mail", on_message=lambda _: arrivals.append(time.monotonic())) as host:
        yield host


@pytest.fixture
def serve(start_server: StartServer, mail_host: MailHost, tmp_path: Path) -> Callable[[str], ServerProcess]:
    """Call it with how much of a message mail may tell."""

    def start(chat_text: str) -> ServerProcess:
        ((username, password),) = USERS.items()
        (tmp_path / "faster").mkdir()
        (tmp_path / "faster" / "sitecustomize.py").write_text(FASTER)
        password_file = tmp_path / "password"
        password_file.touch(0o600)
        password_file.write_text(password)
        receipts = {
            "host": "localhost",
            "port": mail_host.port,
            "username": username,
            "password_file": str(password_file),
            "sender": "Parts & Co <orders@shop.example>",
            "ca_file": str(mail_host.ca_file),
        }
        settings: Settings = {"mail": {"chat_text": chat_text}, "mail.receipts": receipts}
        return start_server(settings, variables={"PYTHONPATH": str(tmp_path / "faster")})

    return start


@pytest.fixture
def enter(profile_of: ProfileOf) -> Iterator[Enter]:
    """Call it with a server and a name; who has no account is a customer, and gets one."""
    clients: list[Client] = []

    def logged_in(server: ServerProcess, name: str, *, new: bool = True) -> Client:
        client = Client(profile_of(server.address, name))
        clients.append(client)
        if new:
            client.create_account(name, name=f"{name.title()} Customer", email=f"{name}@post.example")
        else:
            client.login_certificate()
        return client

    yield logged_in
    for client in clients:
        client.close()


@contextmanager
def someone(enter: Enter, server: ServerProcess, name: str, **options: bool) -> Iterator[Client]:
    """Connected for as long as the `with` lasts."""
    client = enter(server, name, **options)
    yield client
    client.close()


def plain(mail: Received) -> str:
    body = mail.message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def html(mail: Received) -> str:
    body = mail.message.get_body(("html",))
    assert body is not None
    return str(body.get_content())


def answered(agent: Client, message: Message, text: str) -> None:
    agent.send_message(text, conversation=message.conversation)


def test_who_is_away_gets_one_mail_and_later_the_next(
    serve: Callable[[str], ServerProcess], enter: Enter, mail_host: MailHost, arrivals: list[float]
) -> None:
    server = serve("full")
    server.create_account("agnes", "agent")
    agent = enter(server, "agnes", new=False)
    here = enter(server, "heidi")
    asked_here = here.send_message(planted("is it in stock?"))
    answered(agent, asked_here, planted("only for those who are here"))
    with someone(enter, server, "arno") as away:
        asked = away.send_message(planted("does it fit?"))
    with someone(enter, server, "otto") as other:
        other.update_account(missed_chat=False)
        asked_otto = other.send_message(planted("who are you?"))
    answered(agent, asked_otto, planted("only for those who want no mail"))
    left = time.monotonic()
    answered(agent, asked, planted("it does, see <the manual>"))
    answered(agent, asked, planted("and it is in stock"))

    (first,) = mail_host.wait(1)
    assert arrivals[0] - left >= QUIET_SECONDS - 0.5  # he may have gone before
    assert (first.sender, first.recipients, first.login) == ("orders@shop.example", ["arno@post.example"], "shop")
    assert first.tls is not None
    assert str(first.message["To"]) == "Arno Customer <arno@post.example>"
    assert first.message["Auto-Submitted"] == "auto-generated"
    assert MARK not in str(first.message["Subject"])
    words = plain(first)
    assert "Hello Arno Customer" in words
    assert re.findall("it does|in stock", words) == ["it does", "in stock"]
    assert "&lt;the manual&gt;" in html(first)
    assert "does it fit?" not in words, "his own words he knows"

    # He comes back, reads, and goes; what is said then is told when the pause is over, and alone.
    with someone(enter, server, "arno", new=False) as back:
        *_, last = back.all_messages()
        back.mark_read(last.sequence)
    answered(agent, asked, planted("one thing more"))
    _, second = mail_host.wait(2)
    assert arrivals[1] - arrivals[0] >= PAUSE_SECONDS - 0.5
    assert re.findall("it does|in stock|one thing more", plain(second)) == ["one thing more"]
    assert second.message["Message-ID"] != first.message["Message-ID"]
    assert here.account().username == "heidi"  # was connected all the time

    server.stop()
    assert len(mail_host.messages) == 2
    assert server.log.text.count("> mail sent") == 2
    assert not re.search(f"post.example|{MARK}", server.log.text)


def test_after_a_restart_the_mark_still_stands(
    serve: Callable[[str], ServerProcess], enter: Enter, mail_host: MailHost
) -> None:
    server = serve("none")
    server.create_account("agnes", "agent")
    with someone(enter, server, "arno") as away:
        asked = away.send_message(planted("does it fit?"))
    with someone(enter, server, "agnes", new=False) as agent:
        answered(agent, asked, planted("it does"))
    (first,) = mail_host.wait(1)
    assert "it does" not in plain(first) + html(first)
    assert "agnes wrote to you" in plain(first)
    server.stop()  # killed here, it might not know that the mail has left: test_mail_crashes.py
    server.start()
    with someone(enter, server, "bella") as late:
        asked_late = late.send_message(planted("and this?"))
    with someone(enter, server, "agnes", new=False) as agent:
        answered(agent, asked_late, planted("it does as well"))
    _, second = mail_host.wait(2)
    assert [one.recipients for one in (first, second)] == [["arno@post.example"], ["bella@post.example"]]


@pytest.mark.parametrize("way", ["reads", "deletes the account"])
def test_mail_that_nobody_wants_any_more_is_withdrawn(
    serve: Callable[[str], ServerProcess], enter: Enter, mail_host: MailHost, way: str
) -> None:
    """While the mail server takes nothing."""
    mail_host.fail("MAIL", "451 4.3.0 later", times=1)
    server = serve("beginning")
    server.create_account("agnes", "agent")
    with someone(enter, server, "arno") as away:
        asked = away.send_message(planted("does it fit?"))
    with someone(enter, server, "agnes", new=False) as agent:
        answered(agent, asked, planted("it does"))
    mail_host.wait_for("MAIL")
    server.log.wait_for("mail waits")
    with someone(enter, server, "arno", new=False) as back:
        if way == "reads":
            back.mark_read(2)
        else:
            back.delete_account()
    if way == "reads":  # who deletes the account takes it along
        server.admin("mail", "retry", "1")
        server.log.wait_for("mail withdrawn")
    assert "withdrawn" in server.admin("mail", "queue", "--state", "withdrawn")
    assert not mail_host.messages
