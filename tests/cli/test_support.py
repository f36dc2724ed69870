"""`securedelivery support`, as far as one answer suffices, word for word."""

import json

import pytest
from cli.conftest import Person, Shell, Shop, fails, said
from cli.test_manners import Terminal, scripted
from client.scripted_server import Customer
from client.test_reconnect import ACCOUNT

from securedelivery.client import Client, Profile


def asks(shell: Shell, *texts: str) -> int:
    """The number of the conversation in which that customer asks."""
    with Client(Profile.load(environment=shell.environment, file=shell.home / "none.toml")) as client:
        client.login_certificate()
        return [client.send_message(text) for text in texts][-1].conversation


def test_from_a_question_to_its_end(person: Person) -> None:
    customer, agent, other = person("sue"), person("amy", "agent"), person("abe", "agent")
    number = asks(customer, "Is it there?", "Hello?")
    one = str(number)
    queue = json.loads(agent("support", "queue", "--json").stdout)
    assert [waiting["unread"] for waiting in queue["items"] if waiting["conversation"] == number] == [2]
    done = agent("support", "claim", one)
    claimed = f"Conversation  {one}\nCustomer      sue\nStatus        assigned\nAgent         amy\n"
    assert done == agent("support", "claim", one)
    assert said(done) == (f"{claimed}Unread        2\nMessages      2\n", "", 0)
    width = len(max("NUMBER", one, key=len))
    assert said(agent("support", "queue", "--mine")) == (
        (
            f"{'NUMBER':>{width}}  CUSTOMER  WAITING SINCE  AGENT  UNREAD  MESSAGES\n"
            f"{one:>{width}}  sue       -              amy         2         2\n"
        ),
        "",
        0,
    )
    for command in ("claim", "release", "resolve"):
        taken = other("support", command, one)
        assert (taken.stdout, taken.code) == ("", 1)
        assert taken.stderr.endswith(
            "\nhint: it is with amy, who can hand it over: securedelivery support transfer NUMBER AGENT\n"
        )
    assert said(agent("support", "transfer", one, "abe"))[0].startswith(
        f"Conversation  {one}\nCustomer      sue\nStatus        assigned\nAgent         abe\n"
    )
    assert agent("support", "transfer", one, "amy").code == 1  # it is no longer hers
    assert said(other("support", "release", one)) == (
        (
            f"Conversation   {one}\n"
            "Customer       sue\n"
            "Status         waiting\n"
            "Agent          -\n"
            "Waiting since  AT-SOME-MINUTE--\n"
            "Unread         2\n"
            "Messages       2\n"
        ),
        "",
        0,
    )
    assert json.loads(other("support", "claim", one, "--json").stdout)["agent"] == "abe"
    resolved = other("support", "resolve", one)
    assert resolved.code == 0
    assert "Status        resolved\n" in resolved.stdout
    assert other("support", "resolve", one) == resolved
    released = other("support", "release", one)
    assert (released.stdout, released.code) == ("", 1)
    assert released.stderr.endswith("\nhint: to go on with it, take it again: securedelivery support claim NUMBER\n")
    page = json.loads(agent("support", "queue", "--resolved", "--json").stdout)
    assert number in [conversation["conversation"] for conversation in page["items"]]
    assert said(agent("support", "queue", "--mine")) == ("", "No conversation is yours.\n", 0)


@pytest.mark.parametrize(
    ("option", "status", "text"),
    [
        ([], "waiting", "Nobody waits.\n"),
        (["--mine"], "assigned", "No conversation is yours.\n"),
        (["--resolved"], "resolved", "No conversation is resolved.\n"),
    ],
)
def test_an_empty_queue(shell: Shell, shop: Shop, option: list[str], status: str, text: str) -> None:
    asked: list[str] = []

    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        request_id, params = customer.request("chat.queue")
        asked.append(params["status"])
        customer.answer(request_id, {"items": [], "next": None})
        customer.serve()

    with scripted(shop, script) as listener:
        done = shell(
            "support", "queue", *option, "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
    assert said(done) == ("", text, 0)
    assert asked == [status]


@pytest.mark.parametrize("command", ["claim", "release", "resolve", "transfer"])
def test_a_conversation_that_is_not_there(person: Person, command: str) -> None:
    agent = person(f"ann-{command}", "agent")
    more = ["amy"] if command == "transfer" else []
    assert said(agent("support", command, "999999", *more)) == fails(
        "there is no conversation 999999", "see which there are: securedelivery support queue", 1
    )


def test_a_transfer_to_nobody(person: Person) -> None:
    customer, agent = person("sam-asks"), person("ada", "agent")
    number = str(asks(customer, "Hello?"))
    done = agent("support", "transfer", number, "sam-asks")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: name somebody who works in support, and can log in\n")


@pytest.mark.parametrize("command", ["queue", "claim 1", "release 1", "resolve 1", "transfer 1 amy"])
def test_this_is_for_agents(person: Person, command: str) -> None:
    done = person(f"sid-{command.partition(' ')[0]}")("support", *command.split())
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: this account may not do that; another may (--user, --certificate)\n")


def test_wrong_usage(shell: Shell) -> None:
    assert said(shell("support", "queue", "--mine", "--resolved")) == fails(
        "--resolved: --mine was given too", "give one of the two", 2
    )
    for command in ("claim", "release x", "resolve 0", "transfer 3"):
        done = shell("support", *command.split())
        assert (done.stdout, done.code) == ("", 2)
        assert f"\nhint: securedelivery support {command.split()[0]} --help\n" in done.stderr


def test_a_table_fits_the_terminal(person: Person, shop: Shop) -> None:
    name = "s" * 32
    asks(person(name), "Hello?")
    terminal = Terminal(person("alf", "agent"), "support", "queue", NO_COLOR="1")
    assert terminal.end() == 0
    assert all(len(line.rstrip("\r")) <= 80 for line in terminal.seen.split("\n"))
    assert name[:8] in terminal.seen
