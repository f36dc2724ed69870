"""From the first order to its delivery, through the real command line, with the four roles of the shop."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from cli.conftest import Done, Shell, clean_environment
from end_to_end.customers import StartServer
from end_to_end.server_process import ServerProcess
from planted import email, planted

ADDRESS = planted("1 Rabbit Hole, Oxford")
QUESTION = planted("Why is a raven like a writing desk?")
ANSWER = planted("I haven't the slightest idea.")


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    server = start_server(stock={"CPU-1": 10, "GPU-1": 10})
    for name, role in (("sam", "agent"), ("kim", "courier")):
        server.create_account(name, role)
    return server


@pytest.fixture
def computer_of(server: ServerProcess, authority: CertificateAuthority, tmp_path: Path) -> Callable[[str], Shell]:
    """Somebody's, where `profile set` has been done."""

    def make(name: str) -> Shell:
        home = tmp_path / name
        home.mkdir()
        authority.client(name).write(home / f"{name}.crt", home / f"{name}.key")
        shell = Shell(home, clean_environment(home))
        place = "{}:{}".format(*server.address)
        certs = server.certs
        ok(shell("profile", "set", "--server", place, "--ca", f"{certs}/ca.crt", "--crl", f"{certs}/crl.pem",
                 "--cert", f"{name}.crt", "--key", f"{name}.key"))  # fmt: skip
        return shell

    return make


def ok(done: Done) -> str:
    """What it printed."""
    assert done.code == 0, done
    return done.stdout


def test_the_walk_from_the_first_order_to_its_delivery(
    server: ServerProcess, computer_of: Callable[[str], Shell]
) -> None:
    alice, sam, kim = computer_of("alice"), computer_of("sam"), computer_of("kim")

    # A customer orders, and follows the order.
    ok(alice("account", "create", "--name", planted("Alice"), "--email", email("alice"), "--address", ADDRESS))
    assert "CPU-1" in ok(alice("catalog"))
    placed = json.loads(ok(alice("order", "place", "CPU-1:2", "GPU-1", "--json")))
    number, code = str(placed["order"]), placed["delivery_code"]
    assert (placed["status"], placed["total"], placed["address"]) == ("placed", 3 * 1999, ADDRESS)
    tracking = alice.start("order", "track", number)

    # An agent confirms and packs it.
    assert number in ok(sam("order", "list"))
    for command in (("confirmed",), ("packed", "--courier", "kim")):
        assert code not in ok(sam("order", "advance", number, *command))

    # A courier takes it out, finds nobody, and takes it out again.
    listed = ok(kim("deliveries", "list"))
    assert number in listed
    assert ADDRESS.split(",")[0] in listed
    for command in (("out", number), ("failed", number, "--note", planted("nobody at home")), ("out", number)):
        assert code not in ok(kim("deliveries", *command))
    wrong = kim("deliveries", "confirm", number, "nonsense")
    assert (wrong.code, wrong.stdout) == (1, "")
    assert "4" in wrong.stderr
    assert code in ok(alice("order", "show", number))  # the customer shows it at the door
    assert "delivered" in ok(kim("deliveries", "confirm", number, code))
    assert "Nothing to deliver" in kim("deliveries", "list").stderr

    # The customer has seen it all, as it happened, and has the points.
    told, complaints = tracking.communicate(timeout=30)
    assert (tracking.returncode, complaints) == (0, "")
    steps = [line.split("  ")[1].strip() for line in told.splitlines()]
    assert steps == ["placed", "confirmed", "packed", "out for delivery", "packed", "out for delivery", "delivered"]
    assert json.loads(ok(alice("rewards", "--json")))["points"] == 59
    assert number in ok(alice("rewards", "--history"))

    # A question in the chat is answered by an agent.
    ok(alice("chat", QUESTION))
    queued = json.loads(ok(sam("support", "queue", "--json")))["items"]
    assert [(one["customer"], one["status"], one["unread"]) for one in queued] == [("alice", "waiting", 1)]
    conversation = str(queued[0]["conversation"])
    talk = ok(sam("support", "chat", conversation, given=f"{ANSWER}\n/resolve\n"))
    assert QUESTION in talk
    assert ANSWER in talk
    said = [json.loads(line) for line in ok(alice("chat", "--json")).splitlines()]
    assert [(one["sequence"], one["sender"], one["text"]) for one in said] == [
        (1, "alice", QUESTION),
        (2, "sam", ANSWER),
    ]
    assert sam("support", "queue").stdout == ""
    assert "alice" in ok(sam("support", "queue", "--resolved"))

    # And the operator can see who did what.
    assert "delivered" in server.admin("order", "show", number)
    rows = json.loads(server.admin("audit", "list", "--limit", "200", "--json"))["items"]
    deeds = {(one["actor"], one["action"]) for one in rows}
    assert deeds >= {
        ("operator", "account.created"),
        ("alice", "account.created"),
        ("sam", "orders.listed"),
        ("sam", "order.confirmed"),
        ("sam", "order.packed"),
        ("kim", "order.out_for_delivery"),
        ("kim", "order.packed"),
        ("kim", "delivery.wrong_code"),
        ("kim", "order.delivered"),
        ("sam", "login"),
        ("sam", "chat.viewed"),
        ("sam", "chat.claimed"),
        ("sam", "chat.resolved"),
    }
    assert "whole" in server.admin("audit", "verify")
