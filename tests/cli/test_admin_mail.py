"""Transcripts of `securedelivery admin mail` and `admin account mail`, with mail servers that are real."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli.conftest import Done, Shell, fails, said
from cli.terminal_driver import Terminal
from mail.smtp_server import MailHost
from service import shop as services

from securedelivery.model import MailRoute, MailState
from securedelivery.service.outbox import Failed, Later, Sent, Withdrawn
from securedelivery.service.rewards import RewardRules
from securedelivery.store.engine import Database

NODE = "post.test/1"

Operator = Callable[..., Done]


@contextmanager
def opened(home: Path) -> Iterator[services.Shop]:
    """The services over the database in this folder; its clock is the machine's."""
    with Database.open(f"sqlite:///{home}/shop.db") as database:
        clock = services.Clock()
        clock.now = datetime.now(UTC)
        yield services.Shop(database, clock, RewardRules(), home / "names.txt", receipts=True)


@pytest.fixture
def operator(shell: Shell) -> Operator:
    """`securedelivery admin ...` on a shop whose server sends receipts; maud.mail has placed five orders."""
    with opened(shell.home) as shop:
        shop.outbox.use([MailRoute.RECEIPTS])
        shop.stock(("CPU-1", 9_900, 50))
        maud = shop.customer("maud.mail")
        shop.customer("mute.mail")
        shop.alter(maud, email="maud@post.test", name="Maud")
        for _ in range(5):
            shop.place(maud, ("CPU-1", 1))
            shop.clock.forward(seconds=1)

    def run(*arguments: str) -> Done:
        return shell("admin", *arguments, "--database", f"sqlite:///{shell.home}/shop.db")

    return run


def settle(home: Path) -> None:
    """One of each state: sent, failed, waiting for another try after one that nobody knows of, being sent, waiting."""
    with opened(home) as shop:
        shop.clock.forward(minutes=1)
        post = shop.outbox
        outcomes = [
            Sent("250 2.0.0 Ok: queued as 1"),
            Failed("550 5.1.1 <maud@post.test>: no such user"),
            Later("mail server post.test:587 ended the connection", timedelta(minutes=2), uncertain=True),
        ]
        for outcome in outcomes:
            row = post.next(MailRoute.RECEIPTS, NODE)
            assert row is not None
            post.settle(NODE, row, outcome)
        assert post.next(MailRoute.RECEIPTS, NODE) is not None


# What waits


def test_what_is_not_done(operator: Operator, shell: Shell) -> None:
    settle(shell.home)
    assert said(operator("mail", "queue")) == (
        (
            "MAIL  ABOUT           TO         STATE    TRIES  NEXT, OR SINCE\n"
            "   2  order 2 placed  maud.mail  failed       1  AT-SOME-MINUTE--\n"
            "   3  order 3 placed  maud.mail  waiting     1*  AT-SOME-MINUTE--\n"
            "   4  order 4 placed  maud.mail  sending      1  now\n"
            "   5  order 5 placed  maud.mail  waiting      0  AT-SOME-MINUTE--\n"
            "\n"
            "MAIL  WHAT CAME OF IT\n"
            "   2  550 5.1.1 <maud@post.test>: no such user\n"
            "   3  mail server post.test:587 ended the connection\n"
            "\n"
            "Receipts: 2 waiting, 1 sending, 1 sent, 1 failed\n"
        ),
        "* may have gone out already, which nobody can know. Each try has the same Message-ID.\n",
        0,
    )
    done = operator("mail", "queue", "--state", "sent", "--state", "withdrawn")
    assert [line.split()[:1] for line in done.stdout.splitlines()][1:2] == [["1"]]
    assert "250 2.0.0 Ok: queued as 1" in done.stdout
    assert operator("mail", "queue", "--state", "lost").code == 2


def test_the_queue_fits_a_terminal_of_80_columns(operator: Operator, shell: Shell) -> None:
    settle(shell.home)
    assert operator("mail", "queue").code == 0
    with Terminal(shell, "admin", "mail", "queue", "--database", f"sqlite:///{shell.home}/shop.db") as terminal:
        assert terminal.end() == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.raw)
    lines = [line.rstrip("\r ") for line in plain.split("\n")]
    assert max(len(line) for line in lines if not line.startswith("*")) <= 80
    assert any(line.endswith("<maud@post.test>: no such user") for line in lines)


def test_the_queue_as_json(operator: Operator, shell: Shell) -> None:
    settle(shell.home)
    page = json.loads(operator("mail", "queue", "--json", "--limit", "2").stdout)
    assert page["next"] == 3
    assert page["counts"] == {"receipts": {"failed": 1, "sending": 1, "sent": 1, "waiting": 2}}
    second = page["items"][1]
    assert re.fullmatch(r"\d{4}-.*Z", second.pop("due_at"))
    assert re.fullmatch(r"\d{4}-.*Z", second.pop("created_at"))
    assert second == {
        "number": 3, "kind": "order_placed", "route": "receipts", "account": "maud.mail", "order": 3, "month": None,
        "up_to": None, "state": "waiting", "attempts": 1, "interrupted": 1,
        "answer": "mail server post.test:587 ended the connection",
    }  # fmt: skip
    page = json.loads(operator("mail", "queue", "--json", "--after", "3").stdout)
    assert ([one["number"] for one in page["items"]], page["next"]) == ([4, 5], None)
    assert operator("mail", "queue", "--limit", "2").stderr.endswith(
        "There are more: --limit NUMBER, or go on with --after 3\n"
    )
    assert json.loads(operator("mail", "queue", "--after", str(2**63 - 1), "--json").stdout)["items"] == []
    assert operator("mail", "queue", "--after", str(2**63)).code == 2


def test_a_shop_that_sends_no_mail(operator: Operator, shell: Shell) -> None:
    none = "The server sends no mail: no mail server is set, or it has not been started since.\n"
    with opened(shell.home) as shop:
        shop.outbox.use([MailRoute.SUMMARIES])
    assert (
        operator("mail", "queue").stderr
        == "No mail server is set in [mail.receipts]: what waits there does not leave.\n"
    )
    with opened(shell.home) as shop:
        shop.outbox.use([])
    assert operator("mail", "queue").stderr == none
    assert said(operator("mail", "queue", "--state", "failed")) == (
        "Receipts: 5 waiting\n", f"No such mail.\n{none}", 0,
    )  # fmt: skip
    assert said(operator("mail", "retry", "1")) == ("1 mail is due now: 1\n", none, 0)


def test_nothing_is_left_to_do(operator: Operator, shell: Shell) -> None:
    with opened(shell.home) as shop:
        shop.clock.forward(minutes=1)
        while (row := shop.outbox.next(MailRoute.RECEIPTS, NODE)) is not None:
            shop.outbox.settle(NODE, row, Sent("250 Ok"))
    assert said(operator("mail", "queue")) == ("Receipts: 5 sent\n", "Nothing waits, and nothing has failed.\n", 0)


# Once more


def test_what_failed_is_tried_again(operator: Operator, shell: Shell) -> None:
    settle(shell.home)
    soon = "The server sends them within seconds, as soon as it runs.\n"
    assert said(operator("mail", "retry")) == ("1 mail is due now: 2\n", soon, 0)
    assert said(operator("mail", "retry")) == ("", "No mail has failed.\n", 0)
    assert json.loads(operator("mail", "retry", "--json").stdout) == {"mail": []}
    assert said(operator("mail", "retry", "3", "5")) == ("2 mails are due now: 3, 5\n", soon, 0)
    with opened(shell.home) as shop:
        rows, _ = shop.outbox.page([MailState.WAITING])
        assert [row.id for row in rows] == [2, 3, 5]
        assert all(row.due_at <= datetime.now(UTC).isoformat() for row in rows)


def test_what_cannot_be_tried_again(operator: Operator, shell: Shell) -> None:
    settle(shell.home)
    look = ": securedelivery admin mail queue"
    assert said(operator("mail", "retry", "2", "77")) == fails("there is no mail 77", f"see which there are{look}", 1)
    assert said(operator("mail", "retry", "1", "2")) == fails(
        "mail 1 is sent; nobody gets it twice", f"see what waits or has failed{look}", 1
    )
    assert said(operator("mail", "retry", "4")) == fails(
        "mail 4 is being sent just now", f"see what waits or has failed{look}", 1
    )
    assert [operator("mail", "retry", number).code for number in ("0", str(2**63), "x")] == [2, 2, 2]
    with opened(shell.home) as shop:
        assert [row.id for row in shop.outbox.page([MailState.FAILED])[0]] == [2]  # all or nothing


def test_many_that_failed(operator: Operator, shell: Shell) -> None:
    with opened(shell.home) as shop:
        maud = next(iter(shop.sql("SELECT id, username FROM accounts WHERE username = 'maud.mail'")))[0]
        shop.keys = 100  # not the keys of before
        for _ in range(7):
            shop.place(services.Session(maud, "maud.mail", services.Role.CUSTOMER), ("CPU-1", 1))
        shop.clock.forward(minutes=1)
        while (row := shop.outbox.next(MailRoute.RECEIPTS, NODE)) is not None:
            shop.outbox.settle(NODE, row, Withdrawn("no") if row.id == 1 else Failed("550 no"))
    assert operator("mail", "retry").stdout == "11 mails are due now: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 ...\n"


# A test mail


@pytest.fixture
def posts(tmp_path: Path) -> Iterator[dict[str, MailHost]]:
    """Two mail servers, as the issue has them: STARTTLS for receipts, implicit TLS for summaries."""
    with MailHost(tmp_path / "starttls") as receipts, MailHost(tmp_path / "tls", security="tls") as summaries:
        yield {"receipts": receipts, "summaries": summaries}


@pytest.fixture
def tester(operator: Operator, shell: Shell, posts: dict[str, MailHost]) -> Operator:
    """`securedelivery admin mail test ...` with both in the settings."""
    assert operator("mail", "queue").code == 0  # the database is there
    text = '[shop]\nname = "Post & Co"\n'
    for route, host in posts.items():
        server = host.server()
        text += (
            f'[mail.{route}]\nhost = "{server.host}"\nport = {server.port}\nsecurity = "{server.security}"\n'
            f'sender = "{server.sender}"\nca_file = "{server.ca_file}"\nusername = "{server.username}"\n'
            f'password_file = "password.txt"\n'
        )
        password = shell.home / "password.txt"
        password.write_text(f"{server.password}\n")
        password.chmod(0o600)
    (shell.home / "shop.toml").write_text(text)

    def run(*arguments: str) -> Done:
        return operator("mail", "test", *arguments, "--config", "shop.toml")

    return run


def ports(posts: dict[str, MailHost]) -> dict[str, str]:
    return {f"port_{number}": str(host.port) for number, host in enumerate(posts.values(), 1)}


def test_a_test_mail_goes_through_both(tester: Operator, posts: dict[str, MailHost]) -> None:
    done = tester("owner@post.test")
    assert said(done, **ports(posts)) == (
        (
            "mail.receipts (localhost:PORT_1, starttls) has taken it: 250 2.0.0 Ok: queued as 1\n"
            "mail.summaries (localhost:PORT_2, tls) has taken it: 250 2.0.0 Ok: queued as 1\n"
        ),
        "Now look into the mailbox, and among its spam.\n",
        0,
    )
    for route, host in posts.items():
        (mail,) = host.wait(1)
        assert mail.tls is not None
        assert mail.login == "shop"
        assert str(mail.message["To"]) == "owner@post.test"
        assert "Post & Co" in str(mail.message["Subject"])
        assert f"[mail.{route}]" in mail.message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    identities = {str(host.messages[0].message["Message-ID"]) for host in posts.values()}
    assert len(identities) == 2


def test_one_way_alone_and_as_json(tester: Operator, posts: dict[str, MailHost]) -> None:
    done = tester("Owner <owner@post.test>", "--route", "summaries", "--json")
    assert json.loads(done.stdout) == [
        {
            "route": "summaries", "server": f"localhost:{posts['summaries'].port}, tls", "taken": True,
            "answer": "250 2.0.0 Ok: queued as 1", "error": None, "hint": None,
        }
    ]  # fmt: skip
    assert (done.stderr, done.code, len(posts["receipts"].messages)) == ("", 0, 0)
    assert str(posts["summaries"].wait(1)[0].message["To"]) == "Owner <owner@post.test>"


DOCTOR = "what is wrong, step by step: securedelivery doctor"


@pytest.mark.parametrize(
    ("command", "answer", "told"),
    [
        ("RCPT", "550 5.1.1 no such user", ("550 5.1.1 no such user", DOCTOR)),
        (
            "MESSAGE",
            "451 4.7.1 come back",
            ("451 4.7.1 come back", "it may take it later; the shop's own mail is tried again by itself"),
        ),
        (
            "MESSAGE",
            None,
            (
                "mail server localhost:PORT_1 ended the connection; it may have taken the mail all the same",
                DOCTOR,
            ),
        ),
        (
            "AUTH",
            "535 5.7.8 no",
            (
                "mail server localhost:PORT_1 refused the login: 535 5.7.8 no",
                "check mail.receipts.username and the password",
            ),
        ),
    ],
)
def test_what_is_wrong_is_told_and_the_other_one_tried(
    tester: Operator, posts: dict[str, MailHost], command: str, answer: str | None, told: tuple[str, str]
) -> None:
    posts["receipts"].fail(command, answer, then="go on" if answer else "close")
    stdout, stderr, code = said(tester("owner@post.test"), **ports(posts))
    assert stdout == "mail.summaries (localhost:PORT_2, tls) has taken it: 250 2.0.0 Ok: queued as 1\n"
    error, hint = told
    assert stderr.splitlines()[:2] == [f"error: mail.receipts (localhost:PORT_1, starttls): {error}", f"hint: {hint}"]
    assert code == 1
    assert len(posts["summaries"].wait(1)) == 1


def test_an_address_that_the_server_cannot_take(tester: Operator, posts: dict[str, MailHost], tmp_path: Path) -> None:
    posts["receipts"].utf8 = False
    done = tester("jürgen@post.test", "--route", "receipts")
    assert (done.stdout, done.code) == ("", 1)
    assert "SMTPUTF8" in done.stderr
    assert done.stderr.endswith("hint: try another address\n")


def test_a_test_mail_with_nowhere_to_go(operator: Operator, tester: Operator, shell: Shell) -> None:
    (shell.home / "shop.toml").write_text(
        '[mail.receipts]\nhost = "127.0.0.1"\nsecurity = "none"\nsender = "a@post.test"\n'
    )
    write = "write host and sender there, and name that file with --config; docs/mail.md has an example"
    assert said(tester("owner@post.test", "--route", "summaries")) == fails(
        "mail.summaries: no mail server is set", write, 2
    )
    assert said(operator("mail", "test", "owner@post.test")) == fails(
        "mail.receipts: no mail server is set", "the server has some: give this command the same --config", 2
    )
    with opened(shell.home) as shop:
        shop.outbox.use([])
    assert said(operator("mail", "test", "owner@post.test")) == fails("mail.receipts: no mail server is set", write, 2)
    for address in ("nobody", "a@b@c", "a b@post.test", "owner@post.test\r\nBcc: x@post.test"):
        done = tester(address)
        assert (done.stdout, done.code) == ("", 2)
        assert done.stderr.startswith("error: ADDRESS: ")


# Who wants mail


def test_an_accounts_mail(operator: Operator) -> None:
    def mail(*arguments: str) -> tuple[str, str, int]:
        return said(operator("account", "mail", *arguments))

    assert mail("maud.mail") == ("maud.mail gets mail: receipts, summaries, missed chat\n", "", 0)
    assert mail("maud.mail", "--no-summaries") == ("maud.mail gets mail: receipts, missed chat\n", "", 0)
    assert "Mail         receipts, missed chat\n" in operator("account", "show", "maud.mail").stdout
    assert mail("maud.mail", "--no-receipts", "--no-missed-chat") == ("maud.mail gets mail: none\n", "", 0)
    assert mail("maud.mail", "--summaries", "--no-receipts") == ("maud.mail gets mail: summaries\n", "", 0)
    assert json.loads(operator("account", "mail", "maud.mail", "--json").stdout)["mail"] == {
        "receipts": False, "summaries": True, "missed_chat": False,
    }  # fmt: skip
    assert mail("mute.mail") == (
        "mute.mail gets mail: receipts, summaries, missed chat\n",
        "mute.mail has given no address to write to, so nothing is sent\n",
        0,
    )
    assert mail("mute.mail", "--no-receipts", "--no-summaries", "--no-missed-chat") == (
        "mute.mail gets mail: none\n",
        "",
        0,
    )
    assert mail("nobody") == fails(
        "there is no account nobody", "see which there are: securedelivery admin account list", 1
    )
    listed = operator("audit", "list", "--account", "maud.mail", "--json", "--limit", "100")
    rows = [(one["actor"], one["action"], one["detail"]) for one in json.loads(listed.stdout)["items"]]
    changes = [row for row in rows if row[1] == "account.mail_changed"]
    assert changes == [
        ("operator", "account.mail_changed", {"by": "operator", "receipts": False, "summaries": True}),
        ("operator", "account.mail_changed", {"by": "operator", "receipts": False, "missed_chat": False}),
        ("operator", "account.mail_changed", {"by": "operator", "summaries": False}),
    ]
    assert sum(row[1] == "account.viewed" for row in rows) == 3  # twice without a change, and account show


@pytest.mark.parametrize("command", ["mail test", "mail queue", "mail retry", "account mail"])
def test_help_has_examples(shell: Shell, command: str) -> None:
    done = shell("admin", *command.split(), "--help")
    assert (done.stderr, done.code) == ("", 0)
    assert f"  securedelivery admin {command}" in done.stdout
    assert "\b" not in done.stdout
