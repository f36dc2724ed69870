"""`securedelivery account`, word for word: change, password, binding, export and deletion."""

import json
import stat

import pytest
from cli.conftest import Person, Shell, Shop, fails, said
from cli.test_manners import Terminal, scripted
from client.scripted_server import Customer, Script
from client.test_reconnect import ACCOUNT

from securedelivery.errors import Reason

WORD, NEW = "correct horse battery", "another staple of mine"


# update


def test_update(person: Person) -> None:
    shell = person("ulla")
    assert said(
        shell(
            "account", "update", "--name", "Ulla Unger", "--email", "ulla@example.org", "--address", "2 Side Street",
            "--no-receipts", "--no-missed-chat",
        )
    ) == (
        (
            "Account      ulla\n"
            "Role         customer\n"
            "Name         Ulla Unger\n"
            "E-mail       ulla@example.org\n"
            "Address      2 Side Street\n"
            "Certificate  spiffe://shop.test/account/ulla\n"
            "Password     -\n"
            "Mail         summaries\n"
            "Orders       0\n"
            "Points       0\n"
            "Tier         bronze\n"
            "Since        AT-SOME-MINUTE--\n"
        ),
        "",
        0,
    )  # fmt: skip
    done = shell("account", "update", "--clear", "name", "--clear", "email", "--no-summaries", "--json")
    account = json.loads(done.stdout)
    assert (account["name"], account["email"], account["address"]) == (None, None, "2 Side Street")
    assert account["mail"] == {"receipts": False, "summaries": False, "missed_chat": False}
    assert json.loads(shell("account", "show", "--json").stdout) == account
    assert "Mail         -\n" in shell("account", "show").stdout
    assert "Mail         receipts\n" in shell("account", "update", "--receipts").stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), fails("account update: nothing to change was given", "securedelivery account update --help", 2)),
        (
            ("--name", "Una", "--clear", "name"),
            fails("--clear name: --name was given too", "give one of the two", 2),
        ),
        (
            ("--email", "nowhere"),
            fails(
                "email: expected an address like name@example.org",
                "--email takes an address like alice@example.org; to remove it: account update --clear email",
                1,
            ),
        ),
        (
            ("--name", ""),
            fails(
                "name: expected at least 1 characters",
                "--name takes one line of 1 to 500 characters; to remove it: account update --clear name",
                1,
            ),
        ),
    ],
)
def test_updates_that_cannot_be(
    shell: Shell, shop: Shop, arguments: tuple[str, ...], expected: tuple[str, str, int]
) -> None:
    shell.environment |= {
        "SECUREDELIVERY_SERVER": shop.required,
        "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
        "SECUREDELIVERY_CERT": str(shop.certificate("una")),
    }
    assert shell("account", "create").code in {0, 1}  # may be there from another row
    assert said(shell("account", "update", *arguments)) == expected


def test_what_cannot_be_cleared(shell: Shell) -> None:
    done = shell("account", "update", "--clear", "role")
    assert (done.stdout, done.code) == ("", 2)
    assert "--clear" in done.stderr
    assert "\nhint: securedelivery account update --help\n" in done.stderr


# password


@pytest.fixture
def outsider(shell: Shell, shop: Shop) -> Shell:
    """Somebody without a certificate, where none is needed."""
    shell.environment |= {"SECUREDELIVERY_SERVER": shop.optional, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    return shell


def enter(shell: Shell, name: str) -> Shell:
    shell.environment["SECUREDELIVERY_USER"] = name
    assert shell("account", "create", name, SECUREDELIVERY_PASSWORD=WORD).code == 0
    return shell


def test_password(outsider: Shell) -> None:
    shell = enter(outsider, "pete")
    assert said(shell("account", "password", SECUREDELIVERY_PASSWORD=WORD)) == fails(
        "password: there is no terminal to ask for it", "set SECUREDELIVERY_NEW_PASSWORD", 2
    )
    short = shell("account", "password", SECUREDELIVERY_PASSWORD=WORD, SECUREDELIVERY_NEW_PASSWORD="short")
    assert (short.stdout, short.code) == ("", 1)
    assert short.stderr.endswith("\nhint: take a longer or a rarer one\n")
    assert said(shell("account", "password", SECUREDELIVERY_PASSWORD=WORD, SECUREDELIVERY_NEW_PASSWORD=NEW)) == (
        "", "The password has been set. Other connections of this account have ended.\n", 0,
    )  # fmt: skip
    assert shell("account", "show", SECUREDELIVERY_PASSWORD=NEW).code == 0
    assert said(shell("account", "show", SECUREDELIVERY_PASSWORD=WORD)) == fails(
        "wrong name or password", "check --user and the password; with a certificate, no password is needed", 1
    )


def test_a_first_password_beside_the_certificate(person: Person) -> None:
    shell = person("petra")
    assert "Password     -\n" in shell("account", "show").stdout
    assert shell("account", "password", SECUREDELIVERY_NEW_PASSWORD=WORD).code == 0
    assert "Password     set\n" in shell("account", "show").stdout
    wrong = {"SECUREDELIVERY_PASSWORD": "a wrong one", "SECUREDELIVERY_NEW_PASSWORD": NEW}
    done = shell("account", "password", **wrong)
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: give the password that the account has now\n")


def test_password_on_the_terminal(outsider: Shell) -> None:
    shell = enter(outsider, "paul")
    terminal = Terminal(shell, "account", "password")
    terminal.wait_for("Password for paul: ")  # once: it is the present one, too
    terminal.type(f"{WORD}\n")
    terminal.wait_for("The new password, 8 characters or more: ")
    terminal.type(f"{NEW}\n")
    terminal.wait_for("The same again: ")
    terminal.type(f"{NEW}\n")
    assert terminal.end() == 0
    assert "The password has been set." in terminal.seen
    assert WORD not in terminal.seen
    assert NEW not in terminal.seen
    assert shell("account", "show", SECUREDELIVERY_PASSWORD=NEW).code == 0


# bind


def test_bind(outsider: Shell, shop: Shop) -> None:
    shell = enter(outsider, "bodo")
    assert said(shell("account", "bind")) == fails(
        "--certificate: there is none to bind", "name it: --certificate FILE", 2
    )
    shell.environment["SECUREDELIVERY_CERT"] = str(shop.certificate("bodo"))
    assert said(shell("account", "create")) == fails(
        "the name bodo is taken, and this certificate does not log in there",
        "with the password of that account: securedelivery account bind. A deleted account's name stays taken",
        1,
    )
    assert said(shell("account", "bind", SECUREDELIVERY_PASSWORD="a wrong one")) == fails(
        "wrong name or password", "check --user and the password; with a certificate, no password is needed", 1
    )
    done = shell("account", "bind", SECUREDELIVERY_PASSWORD=WORD)
    assert done.code == 0
    assert "Certificate  spiffe://shop.test/account/bodo\n" in done.stdout
    assert json.loads(shell("account", "bind", "--json").stdout)["username"] == "bodo"  # needs no password any more
    assert shell("account", "show").code == 0


def test_bind_without_an_account(shell: Shell, shop: Shop) -> None:
    shell.environment |= {"SECUREDELIVERY_SERVER": shop.optional, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    shell.environment["SECUREDELIVERY_CERT"] = str(shop.certificate("nobody-yet"))
    assert shell("account", "bind", SECUREDELIVERY_PASSWORD=WORD).code == 1


def refusing(customer: Customer) -> None:
    customer.greet(identity="spiffe://shop.test/account/alice")
    request_id, _ = customer.request("account.login_certificate")
    customer.say(customer.core.send_error(request_id, Reason.DISABLED, "this account is disabled; ask the shop", {}))
    customer.serve()


def unknowing(customer: Customer) -> None:
    customer.greet(identity=None)  # something on the way ended TLS
    customer.serve()


@pytest.mark.parametrize(
    ("script", "command", "expected"),
    [
        (refusing, "account bind", fails("this account is disabled; ask the shop", "ask the operator", 1)),
        (refusing, "account show", fails("this account is disabled; ask the shop", "ask the operator", 1)),
        (unknowing, "account bind", fails("--certificate: there is none to bind", "name it: --certificate FILE", 2)),
        (
            unknowing,
            "account create",
            fails("NAME: the server sees no certificate", "securedelivery account create NAME", 2),
        ),
    ],
)
def test_a_certificate_that_does_not_help(
    shell: Shell, shop: Shop, script: Script, command: str, expected: tuple[str, str, int]
) -> None:
    with scripted(shop, script) as listener:
        done = shell(
            *command.split(), "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
    assert said(done) == expected


def test_a_disabled_account(person: Person, shop: Shop) -> None:
    shell = person("dirk")
    with shop.enter("the-boss", "admin") as client:
        client.disable_account("dirk")
    done = shell("account", "show")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: ask the operator\n")


def test_an_account_that_cannot_be(shell: Shell, shop: Shop) -> None:
    shell.environment |= {
        "SECUREDELIVERY_SERVER": shop.required,
        "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
        "SECUREDELIVERY_CERT": str(shop.certificate("emil")),
    }
    done = shell("account", "create", "--email", "nowhere")
    assert (done.stdout, done.code) == ("", 1)
    assert "\nhint: --email takes an address like alice@example.org" in done.stderr


# export


def test_export(person: Person, shop: Shop) -> None:
    shell = person("erna")
    number = json.loads(shell("order", "place", "CPU-1:2", "--json").stdout)["order"]
    with shop.enter("erna", "customer") as client:
        client.send_message("Hello?")
    shown = json.loads(shell("account", "export").stdout)
    assert shown["account"]["username"] == "erna"
    assert [order["order"] for order in shown["orders"]] == [number]
    assert [entry["points"] for entry in shown["points"]] == [198]
    assert [message["text"] for message in shown["messages"]] == ["Hello?"]
    assert "account.created" in {event["action"] for event in shown["events"]}
    (shell.home / "mine.json").write_text("of last year")
    done = shell("account", "export", "mine.json")
    events = len(json.loads((shell.home / "mine.json").read_text())["events"])
    assert said(done) == ("", f"mine.json: 1 order, 1 entry of points, 1 message, {events} events\n", 0)
    assert stat.S_IMODE((shell.home / "mine.json").stat().st_mode) == 0o600
    assert sorted(path.name for path in shell.home.iterdir() if path.name.startswith((".mine", "mine"))) == [
        "mine.json"
    ]
    assert said(shell("account", "export", "no/where.json")) == fails(
        "no/where.json: No such file or directory", "name a file that can be written", 2
    )
    assert said(shell("account", "export", str(shell.home)), home=str(shell.home)) == fails(
        "HOME: Is a directory", "name a file that can be written", 2
    )


# delete


def test_delete(person: Person, shop: Shop) -> None:
    shell = person("dieter")
    assert said(shell("account", "delete")) == fails(
        "account delete: there is no terminal to ask whether you mean it", "give --yes", 2
    )
    number = json.loads(shell("order", "place", "CPU-1", "--json").stdout)["order"]
    done = shell("account", "delete", "--yes")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith(
        "\nhint: wait until they are delivered, or cancel them: securedelivery order cancel NUMBER\n"
    )
    assert shell("order", "cancel", str(number)).code == 0
    assert said(shell("account", "delete", "--yes")) == ("", "The account dieter has been deleted.\n", 0)
    assert said(shell("account", "show")) == fails(
        "there is no account yet for dieter", "open one: securedelivery account create", 1
    )
    assert said(shell("account", "create")) == fails(
        "the name dieter is taken, and this certificate does not log in there",
        "with the password of that account: securedelivery account bind. A deleted account's name stays taken",
        1,
    )


def test_delete_on_the_terminal(person: Person) -> None:
    shell = person("dagmar")
    assert shell("account", "password", SECUREDELIVERY_NEW_PASSWORD=WORD).code == 0
    question = "This cannot be undone. To delete the account, type its name (dagmar): "
    terminal = Terminal(shell, "account", "delete")
    terminal.wait_for(question)
    terminal.type("Dagmar\n")
    assert terminal.end() == 2
    assert "error: account delete: that is not the account's name; nothing was deleted" in terminal.seen
    terminal = Terminal(shell, "account", "delete")
    terminal.wait_for(question)
    terminal.type("\x04")
    assert terminal.end() == 2
    assert "error: nothing was entered" in terminal.seen
    terminal = Terminal(shell, "account", "delete")
    terminal.wait_for(question)
    terminal.type("dagmar\n")
    terminal.wait_for("The account's password: ")
    terminal.type("a wrong one\n")
    assert terminal.end() == 1
    assert "hint: give the password that the account has now" in terminal.seen
    terminal = Terminal(shell, "account", "delete")
    terminal.wait_for(question)
    terminal.type("dagmar\n")
    terminal.wait_for("The account's password: ")
    terminal.type(f"{WORD}\n")
    assert terminal.end() == 0
    assert "The account dagmar has been deleted." in terminal.seen


def test_delete_with_a_password_login(outsider: Shell) -> None:
    shell = enter(outsider, "dora-maar")
    assert shell("account", "delete", "--yes", SECUREDELIVERY_PASSWORD=WORD).code == 0
    assert shell("account", "show", SECUREDELIVERY_PASSWORD=WORD).code == 1
    assert said(shell("account", "create", "dora-maar", SECUREDELIVERY_PASSWORD=WORD)) == fails(
        "the name dora-maar is taken", "take another name, or log in if it is yours: --user NAME", 1
    )


@pytest.mark.parametrize(
    ("command", "asked", "told"),
    [
        (
            "account password",
            "account.change_password",
            ("it is not known whether the password was changed", "try the new one, then the old"),
        ),
        (
            "account delete --yes",
            "account.delete",
            (
                "it is not known whether the account was deleted",
                "see whether it is there: securedelivery account show",
            ),
        ),
    ],
)
def test_an_outcome_that_is_not_known(
    shell: Shell, shop: Shop, command: str, asked: str, told: tuple[str, str]
) -> None:
    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        customer.answer(customer.request("account.get")[0], {**ACCOUNT, "has_password": False})
        customer.request(asked)

    with scripted(shop, script) as listener:
        done = shell(
            *command.split(), "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")), SECUREDELIVERY_NEW_PASSWORD=NEW,
        )  # fmt: skip
    assert said(done, server=listener.server) == fails(f"the connection to SERVER broke; {told[0]}", told[1], 3)
    assert listener.accepted == 1
