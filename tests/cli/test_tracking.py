"""`order track`: the history, then each change as it happens, with a real server."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.conftest import SECONDS, Person, Shell, Shop, clean_environment
from cli.terminal_driver import CONTROL_C, Terminal
from client.scripted_server import Customer, Listener, customer_script, load_security
from client.test_connection import ORDER
from client.test_reconnect import ACCOUNT
from end_to_end.server_process import ServerProcess

from securedelivery.client import Client, Profile
from securedelivery.model import OrderStatus

AT = r"\d{4}-\d\d-\d\d \d\d:\d\d"


def placed(shell: Shell) -> int:
    """The number of a new order."""
    return int(json.loads(shell("order", "place", "CPU-1", "--json").stdout)["order"])


def code_of(shell: Shell, number: int) -> str:
    return str(json.loads(shell("order", "show", str(number), "--json").stdout)["delivery_code"])


def test_an_order_is_followed_to_its_delivery(person: Person, shop: Shop) -> None:
    dora, dino = person("dora"), person("dino", "courier")
    number = placed(dora)
    with Terminal(dora, "order", "track", str(number)) as terminal, shop.enter("staff1", "admin") as admin:
        terminal.wait_for("placed")
        admin.advance_order(number, OrderStatus.CONFIRMED)
        terminal.wait_for("confirmed")
        admin.advance_order(number, OrderStatus.PACKED, note="two parcels")
        terminal.wait_for("(two parcels)")
        admin.advance_order(number, OrderStatus.OUT_FOR_DELIVERY, courier="dino")
        terminal.wait_for("out for delivery")
        code = code_of(dora, number)
        assert dino("deliveries", "confirm", str(number), code).code == 0
        assert terminal.end() == 0
        lines = [line.rstrip() for line in terminal.screen.strip().split("\n")]
    patterns = [
        f"{AT}  placed            by dora",
        f"{AT}  confirmed         by staff1",
        f"{AT}  packed            by staff1  \\(two parcels\\)",
        f"{AT}  out for delivery  by staff1  delivery code {code}",
        f"{AT}  delivered         by dino",
    ]
    assert len(lines) == len(patterns)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)), lines


def test_what_is_over_is_shown_as_it_was(person: Person) -> None:
    dana = person("dana")
    number = str(placed(dana))
    dana("order", "cancel", number, "--reason", "\x1b[2Jordered twice")
    done = dana("order", "track", number)
    assert (done.stderr, done.code) == ("", 0)
    first, second = done.stdout.splitlines()
    assert first.endswith("  placed            by dana")
    assert second.endswith("  cancelled         by dana  (\ufffd[2Jordered twice)")


def test_states_in_json(person: Person, shop: Shop) -> None:
    dean = person("dean")
    number = placed(dean)
    process = subprocess.Popen(
        [sys.executable, "-m", "securedelivery", "order", "track", str(number), "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dean.environment, cwd=dean.home,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "placed"
    with shop.enter("staff1", "admin") as admin:
        admin.advance_order(number, OrderStatus.CONFIRMED)
        assert json.loads(process.stdout.readline())["status"] == "confirmed"
        admin.cancel_order(number, "no stock")
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert [json.loads(line)["history"][-1]["note"] for line in stdout.splitlines()] == ["no stock"]
    assert (stderr, process.returncode) == ("", 0)


def test_another_order_is_no_news(person: Person) -> None:
    dina = person("dina")
    number, other = placed(dina), placed(dina)
    with Terminal(dina, "order", "track", str(number)) as terminal:
        terminal.wait_for("placed")
        dina("order", "cancel", str(other))
        dina("order", "cancel", str(number))
        assert terminal.end() == 0
        assert terminal.screen.count("by dina") == 2


def test_control_c(person: Person) -> None:
    dave = person("dave")
    with Terminal(dave, "order", "track", str(placed(dave))) as terminal:
        terminal.wait_for("placed")
        terminal.type(CONTROL_C)
        assert terminal.end() == 130
        assert terminal.usable()


@pytest.mark.parametrize("whose", ["nobody's", "another's"])
def test_an_order_that_is_not_theirs(person: Person, whose: str) -> None:
    suffix = whose[0]
    dick, dolf = person(f"dick-{suffix}"), person(f"dolf-{suffix}")
    number = "999999" if whose == "nobody's" else str(placed(dolf))
    done = dick("order", "track", number)
    assert done.code == 1
    assert done.stderr == f"error: there is no order {number}\nhint: securedelivery order list\n"


@pytest.fixture
def own_server(tmp_path: Path, shop: Shop) -> Iterator[ServerProcess]:
    """A server that a test may kill."""
    folder = tmp_path / "server"
    folder.mkdir()
    with ServerProcess(folder, shop.folder, catalog=shop.folder.parent / "catalog.csv") as server:
        yield server


def test_a_server_that_dies_meanwhile(tmp_path: Path, shop: Shop, own_server: ServerProcess) -> None:
    host, port = own_server.address
    profile = {
        "SECUREDELIVERY_SERVER": f"{host}:{port}",
        "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
        "SECUREDELIVERY_CERT": str(shop.certificate("dodo")),
    }
    dodo = Shell(tmp_path, clean_environment(tmp_path) | profile)
    dodo("account", "create", "--address", "1 Main Street")
    number = placed(dodo)
    own_server.admin("account", "create", "root", "--role", "admin")
    with Terminal(dodo, "order", "track", str(number)) as terminal:
        terminal.wait_for("placed")
        own_server.kill()
        terminal.wait_for("connection lost, trying again")
        own_server.start(port=port)
        certificate = shop.certificate("root")
        admin = Profile(f"{host}:{port}", shop.folder / "ca.crt", certificate, certificate.with_suffix(".key"))
        with Client(admin) as client:
            client.login_certificate()
            client.advance_order(number, OrderStatus.CONFIRMED)  # told live, or found when it is asked again
            terminal.wait_for("back")
            terminal.wait_for("confirmed")
            client.cancel_order(number)
        assert terminal.end() == 0
        assert re.findall("placed|confirmed|cancelled", terminal.screen) == [
            "placed", "confirmed", "cancelled",
        ]  # fmt: skip


def scripted(shop: Shop, *scripts: Callable[[Customer], None]) -> Listener:
    security = load_security(shop.folder)
    return Listener(*(customer_script(security, script) for script in scripts))


def test_what_makes_no_sense_has_the_order_asked_again(shell: Shell, shop: Shop) -> None:
    """And a history that was cut is shown as far as it goes."""

    def entry(status: str, minute: int) -> dict[str, object]:
        return {"status": status, "at": f"2026-11-22T09:{minute:02}:00.000000Z", "by": "kim", "note": None}

    states = [
        {**ORDER, "version": 1, "history": []},
        {**ORDER, "version": 2, "status": "confirmed", "history": [entry("confirmed", 1)]},
        {**ORDER, "version": 3, "status": "returned", "history": [entry("delivered", 2), entry("returned", 3)]},
    ]

    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        customer.answer(customer.request("order.get")[0], states[0])
        customer.notify("order.changed", states[0])
        customer.notify("order.changed", {"order": "seven"})
        customer.answer(customer.request("order.get")[0], states[1])
        customer.notify("rewards.changed", {"points": 1, "tier": "bronze", "order_count": 0, "next_tier": None})
        customer.notify("order.changed", states[2])
        customer.serve()

    with scripted(shop, script) as listener:
        shell.environment |= {
            "SECUREDELIVERY_SERVER": listener.server,
            "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
            "SECUREDELIVERY_CERT": str(shop.certificate("alice")),
        }
        done = shell("order", "track", "7")
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["confirmed", "delivered", "returned"]
    assert (done.stderr, done.code) == ("", 0)
