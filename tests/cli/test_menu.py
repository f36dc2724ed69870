"""The menu, as somebody uses it who has never seen a command line."""

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli.conftest import Person, Shell, Shop, clean_environment
from cli.terminal_driver import CONTROL_C, CONTROL_D, ENTER, Terminal
from client.scripted_server import Customer, Listener, customer_script, load_security
from client.test_connection import ORDER
from client.test_reconnect import ACCOUNT
from end_to_end.server_process import ServerProcess

from securedelivery.client import Client, Profile
from securedelivery.errors import Reason
from securedelivery.protocol.connection import CloseReceived

MENU = "Type a number, then press Enter.\n> "
BELOW = "b back\n> "
SAMPLE = resources.files("securedelivery").joinpath("data/catalog.csv")
OwnServer = Callable[..., ServerProcess]


@pytest.fixture
def own_server(tmp_path: Path, shop: Shop) -> Iterator[OwnServer]:
    """A server that a test may kill, with the catalog that comes with the product."""
    servers: list[ServerProcess] = []

    def start(policy: str = "required") -> ServerProcess:
        folder = tmp_path / "server"
        folder.mkdir()
        settings = {"server": {"client_certificates": policy}}
        servers.append(ServerProcess(folder, shop.folder, settings, catalog=Path(str(SAMPLE))))
        return servers[-1].start()

    yield start
    for server in servers:
        server.finish()


def newcomer(tmp_path: Path, shop: Shop, server: str, name: str | None) -> Shell:
    """Somebody's computer, without an account yet; name: of the certificate, if there is one."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    profile = {"SECUREDELIVERY_SERVER": server, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    if name is not None:
        profile["SECUREDELIVERY_CERT"] = str(shop.certificate(name))
    return Shell(home, clean_environment(home) | profile)


def at(server: ServerProcess) -> str:
    return f"{server.address[0]}:{server.address[1]}"


def typed(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


# The whole of it


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_a_first_visit_with_a_certificate(
    tmp_path: Path, shop: Shop, own_server: OwnServer, variables: dict[str, str]
) -> None:
    shell = newcomer(tmp_path, shop, at(own_server()), "maria")
    with Terminal(shell, "shop", "--plain", **variables) as terminal:
        terminal.wait_for("There is no account yet for maria.")
        terminal.answer(MENU, "4")
        terminal.wait_for("Your account is maria, as your certificate says. No password is needed.")
        terminal.answer("Your full name", "Maria Müller")
        terminal.answer("Your e-mail address", "maria@example.org")
        terminal.answer("Your address", "1 Analytical Row, London")
        terminal.answer("The shop. You are maria.", "1")
        terminal.wait_for("The parts, page 1")
        terminal.answer(BELOW, "n")
        terminal.answer("The parts, page 2", "p")
        terminal.answer("The parts, page 1", "s")
        terminal.answer("What do you look for?", "ryzen")
        terminal.answer("Parts for: ryzen, page 1", "1")
        terminal.answer("How many do you want (0 to 25)?", "2")
        terminal.wait_for("In your basket: 2 parts, EUR 458.00.")
        terminal.answer(BELOW, "2")
        terminal.answer("How many do you want (0 to 18)?", "")
        terminal.answer(BELOW, "b")
        terminal.answer("2  Your basket: 3 parts, EUR 787.00", "2")
        terminal.answer(BELOW, "2")
        terminal.answer("0 to take it out", "0")
        terminal.answer("Your basket: 2 parts, EUR 458.00", "o")
        terminal.answer("Enter alone for: 1 Analytical Row, London", "")
        terminal.answer("Order this? You pay when it is delivered, or by invoice.", "y")
        terminal.wait_for("Thank you: it is ordered.")
        terminal.answer(MENU, "4")
        terminal.answer("earned", "3")
        terminal.answer("Your orders, newest first", "1")
        terminal.answer("c cancel this order", "c")
        terminal.answer("Why? It helps the shop.", "bought it elsewhere")
        terminal.answer("Cancel order 1?", "y")
        terminal.wait_for("Order 1 is cancelled.")
        terminal.answer("An order's number shows it.", "b")
        terminal.answer(MENU, "5")
        terminal.wait_for("Nothing has been said yet.")
        terminal.type("Is anybody there?" + ENTER)
        terminal.wait_for("you: Is anybody there?")
        terminal.type("/quit" + ENTER)
        terminal.answer(MENU, "0")
        assert terminal.end() == 0
        assert terminal.usable()
        assert terminal.screen.rstrip().endswith("Goodbye.")
        assert ("\x1b[1m" in terminal.raw) is not bool(variables)
    account = json.loads(shell("account", "show", "--json").stdout)
    assert (account["name"], account["email"]) == ("Maria Müller", "maria@example.org")
    (order,) = json.loads(shell("order", "list", "--json").stdout)["items"]
    assert order["status"] == "cancelled"
    assert order["history"][-1]["note"] == "bought it elsewhere"
    assert "maria: Is anybody there?" in shell("chat").stdout


def test_a_visit_with_a_password_in_a_pipe(tmp_path: Path, shop: Shop) -> None:
    shell = newcomer(tmp_path, shop, shop.optional, None)
    done = shell("shop", given=typed(
        "1", "1", "2", "b",                                                    # two of the first part
        "2", "o",                                                              # not without an account
        "4", "mario", "a word of mario", "a word of mario", "", "", "2 Side Street",
        "2", "o", "", "y",                                                     # the order
        "5", "hello", "/quit",                                                 # the chat
        "6", "3", "mario", "a word of mario", "0",                             # out, in again, and away
    ))  # fmt: skip
    assert (done.stderr, done.code) == ("", 0)
    assert "\x1b" not in done.stdout
    assert "a word of mario" not in done.stdout
    assert "To order, log in or create an account first: both are in the menu." in done.stdout
    assert "Welcome, mario. Your account is there, and you are logged in." in done.stdout
    assert re.search(r"Address +2 Side Street\n", done.stdout)
    assert "mario: hello" in done.stdout
    assert "You are logged out." in done.stdout
    assert "You are logged in as mario." in done.stdout
    assert done.stdout.endswith("Type a number, then press Enter.\n> 0\nGoodbye.\n")
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


def test_what_is_known_is_not_asked(person: Person, tmp_path: Path, shop: Shop) -> None:
    done = person("mona")("shop", "--plain", given=typed("0"))
    assert "You are logged in as mona." in done.stdout
    assert "Log in\n" not in done.stdout
    shell = newcomer(tmp_path, shop, shop.optional, None)
    shell("account", "create", "moses", SECUREDELIVERY_PASSWORD="a word of moses")
    done = shell("shop", "--user", "moses", given=typed("0"), SECUREDELIVERY_PASSWORD="a word of moses")
    assert "You are logged in as moses." in done.stdout
    done = shell("shop", "--user", "moses", given=typed("0"), SECUREDELIVERY_PASSWORD="another word")
    assert "Wrong name or password." in done.stdout
    assert "You are not logged in." in done.stdout
    done = shell("shop", "--user", "moses", given=typed("3", "", "a word of moses", "0"))
    assert "Enter alone for: moses; b to go back." in done.stdout
    assert "You are logged in as moses." in done.stdout


def test_a_narrow_terminal(tmp_path: Path, shop: Shop) -> None:
    shell = newcomer(tmp_path, shop, shop.optional, None)
    with Terminal(shell, "shop", "--plain", columns=40) as terminal:
        terminal.wait_for("Type a number")
        terminal.type("1")
        terminal.wait_for("> 1")
        terminal.resize(44)
        terminal.signal(signal.SIGWINCH)
        terminal.type("\x7f")
        terminal.wait_without("> 1")
        terminal.type("1" + ENTER)
        terminal.resize(40)
        terminal.answer("A number shows", "1")
        terminal.answer("How many", "b")
        terminal.answer("A number shows", "b")
        terminal.answer("Type a number", "4")
        terminal.answer("A name to log in with", "b")
        terminal.answer("Type a number", "0")
        assert terminal.end() == 0
        assert "A number shows that part.  s search  b\nback\n" in terminal.screen
        assert all(len(row.rstrip()) <= 40 for row in terminal.screen.split("\n"))


# Mistakes


def test_every_mistake_is_explained_and_asked_again(tmp_path: Path, shop: Shop) -> None:
    shell = newcomer(tmp_path, shop, shop.optional, None)
    done = shell("shop", given=typed(
        "", "x", "7)", "1.",
        "", "99", "n", "p", "xyz", "s nothing like it", "1", "s", "b", "s", "",
        "1", "many", "9,999", "1,0", "1", "b",
        "4", "Bad Name", "ab", "molly", "short", "a word of molly", "other", "b", "",
        "a word of molly", "b", "a word of molly", "a word of molly",
        "x" * 501, "Molly", "nobody", "-", "b", "b", "", "molly@example.org", "3 High Street",
        "1", "1", "", "b", "2", "9", "1", "b", "o", "", "perhaps", "", "n", "b", "0", "e",
        "2", "3", "0",
    ))  # fmt: skip
    assert done.code == 0
    said = done.stdout
    for words in (
        "Nothing was typed: type 1, 2, 3, 4 or 0.",
        '"1,0" is not a whole number',
        '"x" is not in the list',
        '"7" is not in the list',
        "Nothing was typed: type one of these, then press Enter.",
        '"99" is none of the numbers and letters. To search for it, type: s 99',
        "This is the last page.",
        "This is the first page.",
        '"xyz" is none of the numbers and letters. To search for it, type: s xyz',
        "Nothing was found. Try fewer or other words, or s and Enter alone for all parts.",
        '"many" is not a whole number from 0 to ',
        "It can be 0 to ",
        "A name has 3 to 32 of a-z 0-9 . _ -, the first one a letter.",
        "That has 5; 8 are the least.",
        "The two were not the same.",
        "At most 500 characters: this has 501.",
        '"nobody" is no e-mail address: they are like alice@example.org.',
        "Enter alone for: Molly; - for nothing; b to go back.",
        '"9" is none of these: type 1, o, e or b.',
        '"perhaps" is neither y nor b.',
        "Type y or b, then press Enter.",
        'Nothing is in it yet: choose "Look at the parts" in the menu.',
        "There are none yet.",
    ):
        assert words in said, f"{words}\n{said}"


def test_names_and_fields_that_the_service_refuses(person: Person, tmp_path: Path, shop: Shop) -> None:
    """Only what was wrong is asked again."""
    shell = newcomer(tmp_path, shop, shop.optional, None)
    shell("account", "create", "merle", SECUREDELIVERY_PASSWORD="a word of merle")
    done = shell("shop", given=typed(
        "4", "merle", "password123", "password123", "Merle", "m@@x", "m@x", "",
        "a word of merle2", "a word of merle2", "merle2", "0",
    ))  # fmt: skip
    assert done.code == 0
    assert "This password is on the list of those that are tried first; take another." in done.stdout
    assert "The name merle is taken." in done.stdout
    assert "Welcome, merle2." in done.stdout
    account = json.loads(
        shell("account", "show", "--json", "--user", "merle2", SECUREDELIVERY_PASSWORD="a word of merle2").stdout
    )
    assert (account["name"], account["email"], account["address"]) == ("Merle", "m@x", None)


def test_an_address_that_is_missing_or_too_long(person: Person) -> None:
    shell = person("milo", address="4 Old Road")
    done = shell("shop", given=typed("1", "1", "", "b", "2", "o", "y" * 501, "5 New Road", "y", "0"))
    assert "At most 500 characters: this has 501." in done.stdout
    assert re.search(r"Address +5 New Road\n", done.stdout)


def test_parts_that_are_gone_meanwhile(tmp_path: Path, shop: Shop, own_server: OwnServer) -> None:
    server = own_server()
    shell = newcomer(tmp_path, shop, at(server), "mike")
    shell("account", "create", "--address", "1 Main Street")
    server.admin("account", "create", "root", "--role", "admin")
    certificate = shop.certificate("root")
    profile = Profile(at(server), shop.folder / "ca.crt", certificate, certificate.with_suffix(".key"))
    with Client(profile) as admin, Terminal(shell, "shop") as terminal:
        admin.login_certificate()
        part = admin.catalog(limit=1).items[0]

        def change(stock: int, *, active: bool = True) -> None:
            admin.put_product(
                part.sku, name=part.name, description=part.description, price=part.price, stock=stock, active=active
            )

        terminal.answer(MENU, "1")
        terminal.answer(BELOW, "1")
        terminal.answer("How many do you want (0 to 25)?", "5")
        terminal.answer(BELOW, "b")
        terminal.answer(MENU, "2")
        change(3)
        terminal.answer(BELOW, "o")
        terminal.answer("Where shall it go?", "")
        terminal.answer("Order this?", "y")
        terminal.wait_for(f"It was not ordered: of {part.name} there are only 3 left. Change that\nline.")
        change(0)
        terminal.answer(BELOW, "o")
        terminal.answer("Where shall it go?", "")
        terminal.answer("Order this?", "y")
        terminal.wait_for(f"It was not ordered: {part.name} is sold out. Take it out: change its\nnumber to 0.")
        change(0, active=False)
        terminal.answer(BELOW, "o")
        terminal.answer("Where shall it go?", "")
        terminal.wait_for(f"It was not ordered: {part.name} is not sold any more. Take it out:")
        terminal.answer(BELOW, "b")
        change(0)
        terminal.answer(MENU, "1")
        terminal.answer("sold out", "1")
        terminal.answer("There are 5 in your basket. How many shall it be (0 to 5)?", "0")
        terminal.answer("In your basket: empty.", "1")
        terminal.wait_for("It is sold out: it cannot be ordered now.")
        terminal.answer(BELOW, "b")
        terminal.answer(MENU, "0")
        assert terminal.end() == 0


def test_points_lower_the_price(person: Person) -> None:
    shell = person("maja")
    shell("order", "place", "CPU_2")
    done = shell("shop", given=typed("1", "1", "", "b", "2", "o", "", "100", "b", "5000", "100", "y", "4", "0"))
    assert "You have 1,234 points, which lower the price, by half at most. How many to use (0 to 1,234)?" in done.stdout
    assert "Enter alone for: 100; b to go back." in done.stdout
    assert "It can be 0 to 1,234." in done.stdout
    assert re.search(r"Points +100, they come off that", done.stdout)
    assert re.search(r"Discount +EUR -5\.00 \(100 points\)", done.stdout)
    assert "used" in done.stdout or "redeemed" in done.stdout


def test_orders_are_turned_over(person: Person) -> None:
    shell = person("mats")
    numbers = [json.loads(shell("order", "place", "CPU-1", "--json").stdout)["order"] for _ in range(12)]
    done = shell("shop", given=typed(
        "3", "n", "n", str(numbers[0]), "x", "b", "p", "p", "what", "0", "999999", "b", "0",
    ))  # fmt: skip
    assert done.code == 0
    assert done.stdout.count("Your orders, newest first") == 5
    assert "This is the last page." in done.stdout
    assert '"x" is neither c nor b.' in done.stdout
    assert "This is the first page." in done.stdout
    assert f'"what" is not the number of an order, as {numbers[-1]} is.' in done.stdout
    assert "There is no order 999999 of yours." in done.stdout


def test_an_order_that_cannot_be_cancelled_any_more(person: Person, shop: Shop) -> None:
    shell = person("mila")
    number = json.loads(shell("order", "place", "CPU-1", "--json").stdout)["order"]
    with Terminal(shell, "shop") as terminal, shop.enter("staff1", "admin") as admin:
        terminal.answer(MENU, "3")
        terminal.answer("An order's number shows it.", str(number))
        terminal.answer("c cancel this order", "c")
        terminal.answer("Why?", "b")
        terminal.answer("c cancel this order", "c")
        terminal.answer("Why?", "")
        admin.advance_order(number, "confirmed")
        admin.advance_order(number, "packed")
        terminal.answer(f"Cancel order {number}?", "y")
        terminal.wait_for("It could not be cancelled: ")
        terminal.wait_for("Ask the shop in the chat.")
        terminal.answer("An order's number shows it.", "b")
        terminal.answer(MENU, "0")
        assert terminal.end() == 0


# The server goes away


def test_a_server_that_dies_loses_nothing_that_was_typed(tmp_path: Path, shop: Shop, own_server: OwnServer) -> None:
    """A half-filled basket and an address; then, once more, amid the confirmation."""
    server = own_server()
    port = server.address[1]
    shell = newcomer(tmp_path, shop, at(server), "marta")
    shell("account", "create")
    with Terminal(shell, "shop", "--plain") as terminal:
        terminal.answer(MENU, "1")
        terminal.answer(BELOW, "1")
        terminal.answer("How many", "2")
        terminal.wait_for("In your basket: 2 parts")
        server.kill()
        terminal.answer(BELOW, "n")
        terminal.wait_for("The shop does not answer; trying again. What you have typed is kept.")
        server.start(port=port)
        terminal.answer("The parts, page 2", "1")
        terminal.answer("How many", "")
        terminal.answer(BELOW, "b")
        terminal.answer("2  Your basket: 3 parts", "2")
        terminal.answer(BELOW, "o")
        terminal.answer("Where shall it go?", "9 Long Lane, Leeds")
        terminal.wait_for("Order this?")
        server.kill()
        terminal.answer("> ", "y")
        terminal.wait_for("The shop does not answer", times=2)
        server.start(port=port)
        terminal.wait_for("Thank you: it is ordered.")
        terminal.answer(MENU, "0")
        assert terminal.end() == 0
    (order,) = json.loads(shell("order", "list", "--json").stdout)["items"]
    assert order["address"] == "9 Long Lane, Leeds"
    assert [line["quantity"] for line in order["lines"]] == [2, 1]


def test_a_server_that_stays_away_for_long(tmp_path: Path, shop: Shop, own_server: OwnServer) -> None:
    server = own_server()
    port = server.address[1]
    shell = newcomer(tmp_path, shop, at(server), "mavis")
    shell("account", "create", "--address", "1 Main Street")
    with Terminal(shell, "--timeout", "1", "shop") as terminal:
        terminal.answer(MENU, "1")
        terminal.answer(BELOW, "1")
        terminal.answer("How many", "2")
        terminal.answer(BELOW, "b")
        terminal.answer(MENU, "2")
        server.kill()
        terminal.answer(BELOW, "o")
        terminal.answer("Where shall it go?", "9 Long Lane, Leeds")
        terminal.answer("Enter tries again; b goes back. What you have typed is kept.", "what")
        terminal.answer('"what" is neither Enter alone nor b.', "b")
        terminal.answer("Enter alone for: 9 Long Lane, Leeds", "")
        terminal.wait_for("Enter tries again", times=2)
        server.start(port=port)
        terminal.answer("> ", "")
        terminal.answer("Order this?", "y")
        terminal.wait_for("Thank you: it is ordered.")
        terminal.type(CONTROL_D)
        assert terminal.end() == 0
    assert json.loads(shell("order", "list", "--json").stdout)["items"][0]["address"] == "9 Long Lane, Leeds"


def test_a_server_that_is_not_there_at_first(tmp_path: Path, shop: Shop, own_server: OwnServer) -> None:
    server = own_server()
    port = server.address[1]
    shell = newcomer(tmp_path, shop, at(server), "mabel")
    server.kill()
    done = shell("shop", given=typed("", "b", "1", "b", "0"))
    assert done.stdout.count("The shop cannot be reached just now: nothing answers at") == 3
    assert (done.stderr, done.code) == ("", 0)
    with Terminal(shell, "shop") as terminal:
        terminal.wait_for("Enter tries again")
        server.start(port=port)
        terminal.answer("> ", "")
        terminal.wait_for("There is no account yet for mabel.")
        terminal.answer(MENU, "3")
        terminal.wait_for("There is no account yet for mabel.", times=2)
        terminal.type(CONTROL_D)
        assert terminal.end() == 0


def test_a_service_that_wants_a_certificate_says_so(tmp_path: Path, shop: Shop) -> None:
    done = newcomer(tmp_path, shop, shop.required, None)("shop", given=typed("0"))
    assert done.code == 3
    assert "error: " in done.stderr
    assert "the server wants a certificate from its customers, and none was given" in done.stderr


def test_an_account_that_is_disabled_meanwhile(person: Person, shop: Shop) -> None:
    shell = person("mads")
    with Terminal(shell, "shop") as terminal, shop.enter("staff1", "admin") as admin:
        terminal.answer(MENU, "1")
        terminal.answer(BELOW, "1")
        terminal.answer("How many", "1")
        terminal.answer(BELOW, "b")
        terminal.wait_for("2  Your basket: 1 part")
        admin.disable_account("mads")
        terminal.answer(MENU, "3")
        terminal.wait_for("You are not logged in any more: ")
        terminal.answer("2  Your basket: 1 part", "3")
        terminal.answer("The shop. You are not logged in.", "0")
        terminal.wait_for("Goodbye. What is in your basket was not ordered.")
        assert terminal.end() == 0


# What nobody knows the outcome of


PART = {"sku": "A", "name": "a part", "description": "", "price": 100, "currency": "EUR", "stock": 9, "active": True}
REWARDS = {"points": 0, "tier": "bronze", "order_count": 0, "next_tier": None}
Answer = Callable[[dict[str, Any]], Any]


class Silence(Exception):  # noqa: N818
    """No answer comes."""


def scripted(shop: Shop, *scripts: Callable[[Customer], None]) -> Listener:
    security = load_security(shop.folder)
    return Listener(*(customer_script(security, script) for script in scripts))


def serving(heard: list[tuple[str, dict[str, Any]]], answers: dict[str, Answer]) -> Callable[[Customer], None]:
    """Answers requests; an answer can be an error, as (reason, data), or Silence, which ends the connection."""
    known: dict[str, Answer] = {
        "account.login_certificate": lambda _: ACCOUNT,
        "account.get": lambda _: ACCOUNT,
        "catalog.list": lambda _: {"items": [PART], "next": None},
        "catalog.get": lambda _: PART,
        "rewards.get": lambda _: REWARDS,
        **answers,
    }

    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        while not isinstance(event := customer.event(), CloseReceived):
            params = msgspec.json.decode(event.params)
            heard.append((event.method, params))
            try:
                answer = known[event.method](params)
            except Silence:
                return
            if isinstance(answer, tuple):
                customer.say(customer.core.send_error(event.id, answer[0], "the shop says no", answer[1]))
            else:
                customer.answer(event.id, answer)
        customer.close()

    return script


def visit(shell: Shell, shop: Shop, listener: Listener, *lines: str, timeout: str = "1") -> str:
    shell.environment |= {
        "SECUREDELIVERY_SERVER": listener.server,
        "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
        "SECUREDELIVERY_CERT": str(shop.certificate("alice")),
    }
    done = shell("--timeout", timeout, "shop", given=typed(*lines))
    assert done.code == 0, done.stderr
    return done.stdout


def never(_params: dict[str, Any]) -> Any:
    raise Silence


def test_a_confirmation_that_is_repeated_orders_once(shell: Shell, shop: Shop) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    tries = iter([never, never, never, never, lambda _: ORDER])

    def place(params: dict[str, Any]) -> Any:
        return next(tries)(params)

    with scripted(shop, serving(heard, {"order.place": place})) as listener:
        said = visit(shell, shop, listener, "1", "1", "", "b", "2", "o", "here", "y", *["", "", "", ""], "0")
    assert "Your order may have arrived or not. Trying again is safe: nothing is ordered twice." in said
    assert "Thank you: it is ordered." in said
    placed = [params for method, params in heard if method == "order.place"]
    assert len(placed) == 5
    assert placed == [placed[0]] * 5


def test_a_basket_that_was_changed_after_a_doubtful_order(shell: Shell, shop: Shop) -> None:
    """The first one did arrive: the user says whether there is to be another."""
    heard: list[tuple[str, dict[str, Any]]] = []

    def place(params: dict[str, Any]) -> Any:
        if params["lines"][0]["quantity"] == 1:
            raise Silence
        first = next(params for method, params in heard if method == "order.place")
        return (Reason.IDEMPOTENCY_CONFLICT, {}) if params["idempotency_key"] == first["idempotency_key"] else ORDER

    with scripted(shop, serving(heard, {"order.place": place})) as listener:
        said = visit(
            shell, shop, listener,
            "1", "1", "", "b", "2", "o", "here", "y", "b", "b",         # in doubt, and back to the basket
            "1", "2", "o", "", "y", "b", "b",                           # changed: there is one already; not another
            "o", "", "y", "y", "0",                                     # but now
        )  # fmt: skip
    assert said.count("The order that you sent before, without an answer, did arrive: see Your orders.") == 2
    assert said.count("What is in the basket now is another one. Order it, too?") == 2
    assert said.count("Thank you: it is ordered.") == 1
    keys = [params["idempotency_key"] for method, params in heard if method == "order.place"]
    assert len(set(keys)) == 2
    assert keys[-1] != keys[0]
    assert set(keys[:-1]) == {keys[0]}


def test_a_basket_that_is_full(shell: Shell, shop: Shop) -> None:
    def listed(params: dict[str, Any]) -> Any:
        page = int(params.get("after") or "0")
        parts = [{**PART, "sku": f"A{page}-{place}", "name": f"part {page}-{place}"} for place in range(10)]
        return {"items": parts, "next": str(page + 1)}

    adding = [word for place in range(1, 11) for word in (str(place), "")]
    with scripted(shop, serving([], {"catalog.list": listed})) as listener:
        said = visit(shell, shop, listener, "1", *[*adding, "n"] * 10, "1", "p", "1", "2", "b", "0")
    assert "An order has at most 100 different parts: order those in the basket first." in said
    assert "In your basket: 101 parts, EUR 101.00." in said


def test_a_login_that_ends_amid_the_order_keeps_the_basket(shell: Shell, shop: Shop) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    answers = iter([(Reason.NOT_LOGGED_IN, {}), (Reason.UNAVAILABLE, {}), ORDER])
    with scripted(shop, serving(heard, {"order.place": lambda _: next(answers)})) as listener:
        said = visit(shell, shop, listener, "1", "1", "", "b", "2", "o", "here", "y", "3", "2", "o", "", "y", "", "0")
    assert "You are not logged in any more: the shop says no. Your basket is kept." in said
    assert "The shop cannot be reached just now: the shop says no." in said
    assert "Thank you: it is ordered." in said
    placed = [params for method, params in heard if method == "order.place"]
    assert placed == [placed[0]] * 3


def test_refusals_that_nobody_foresaw(shell: Shell, shop: Shop) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    no = (Reason.INTERNAL, {"incident": "1"})
    answers: dict[str, Answer] = {
        "order.place": lambda _: no,
        "order.get": lambda _: no,
        "order.list": lambda _: {"items": [ORDER], "next": None},
        "rewards.history": lambda _: no,
    }
    with scripted(shop, serving(heard, answers)) as listener:
        said = visit(shell, shop, listener, "1", "1", "", "b", "2", "o", "here", "y", "b", "3", "7", "4", "0")
    assert "It was not ordered: the shop says no." in said
    assert said.count("The shop says no: the shop says no.") == 2


def test_an_account_whose_making_got_no_answer(shell: Shell, shop: Shop) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    made = threading.Event()

    def create(_params: dict[str, Any]) -> Any:
        if made.is_set():
            return (Reason.USERNAME_TAKEN, {})
        made.set()
        raise Silence

    def login(_params: dict[str, Any]) -> Any:
        return ACCOUNT if made.is_set() else (Reason.BAD_CREDENTIALS, {})

    answers: dict[str, Answer] = {"account.create": create, "account.login_certificate": login}
    with scripted(shop, serving(heard, answers)) as listener:
        said = visit(shell, shop, listener, "4", "Alice", "", "here", "", "0")
    assert "Enter tries again" in said
    assert "Welcome, alice. Your account is there, and you are logged in." in said
    assert [method for method, _ in heard].count("account.create") == 2


def test_a_name_that_is_taken_by_another_after_a_doubt(shell: Shell, shop: Shop) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    tries = iter([never, lambda _: (Reason.USERNAME_TAKEN, {}), lambda _: ACCOUNT])

    def create(params: dict[str, Any]) -> Any:
        return next(tries)(params)

    answers: dict[str, Answer] = {
        "account.create": create,
        "account.login_certificate": lambda _: (Reason.BAD_CREDENTIALS, {}),
    }
    with scripted(shop, serving(heard, answers)) as listener:
        said = visit(shell, shop, listener, "4", "Alice", "", "here", "", "", "0")
    assert "The shop says no." in said
    assert "Welcome, alice." in said


def test_a_chat_that_cannot_go_on_leads_back_to_the_menu(shell: Shell, shop: Shop) -> None:
    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        for method in ("account.login_certificate", "account.get"):
            customer.answer(customer.request(method)[0], ACCOUNT)
        customer.answer(customer.request("chat.history")[0], "no history at all")
        customer.serve()

    with scripted(shop, script) as listener:
        said = visit(shell, shop, listener, "5")
    assert "The chat has ended: the answer to chat.history is not what it should be" in said
    assert said.endswith("Goodbye.\n")


def test_a_login_that_has_to_wait(shell: Shell, shop: Shop) -> None:
    answers = iter([(Reason.RATE_LIMITED, {"retry_after": 9}), ACCOUNT])
    with scripted(shop, serving([], {"account.login_certificate": lambda _: next(answers)})) as listener:
        said = visit(shell, shop, listener, "3", "0")
    assert "\nThe shop says no.\n\nThe shop. You are not logged in." in said
    assert "You are logged in as alice." in said


def leaving_with(reason: str) -> Callable[[Customer], None]:
    """Hangs up, with that reason, instead of listing orders."""

    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        for method in ("account.login_certificate", "account.get"):
            customer.answer(customer.request(method)[0], ACCOUNT)
        customer.request("order.list")
        customer.close(reason)

    return script


def test_a_connection_that_ends_with_the_login(shell: Shell, shop: Shop) -> None:
    with scripted(shop, leaving_with("credentials_changed")) as listener:
        said = visit(shell, shop, listener, "3", "0")
    assert "You are not logged in any more: " in said
    assert "the account's password or its right to log in was changed. Your basket is kept." in said


def test_a_connection_that_never_comes_back_ends_the_menu(shell: Shell, shop: Shop) -> None:
    with scripted(shop, leaving_with("certificate_revoked")) as listener:
        shell.environment |= {
            "SECUREDELIVERY_SERVER": listener.server,
            "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
            "SECUREDELIVERY_CERT": str(shop.certificate("alice")),
        }
        done = shell("shop", given=typed("3", "0"))
    assert done.code == 3
    assert "the certificate has been revoked\nhint: " in done.stderr


# How it ends


@pytest.mark.parametrize("lines", [(), ("1",), ("1", "1"), ("4", "mary")])
def test_an_end_of_the_input_is_a_goodbye(tmp_path: Path, shop: Shop, lines: tuple[str, ...]) -> None:
    done = newcomer(tmp_path, shop, shop.optional, None)("shop", given=typed(*lines))
    assert done.stdout.endswith("\nGoodbye.\n")
    assert (done.stderr, done.code) == ("", 0)


@pytest.mark.parametrize("place", ["menu", "password", "chat", "silence"])
def test_control_c(person: Person, tmp_path: Path, shop: Shop, place: str) -> None:
    shell = newcomer(tmp_path, shop, shop.optional, None) if place == "password" else person(f"mac-{place[0]}")
    with Terminal(shell, "shop") as terminal:
        terminal.wait_for(MENU)
        if place == "password":
            terminal.answer(MENU, "3")
            terminal.answer("Your name here:", "mac")
            terminal.answer("Your password", "secret")
        elif place == "chat":
            terminal.answer(MENU, "5")
            terminal.wait_for("/quit brings you back")
        terminal.type(CONTROL_C)
        assert terminal.end() == 130
        assert terminal.usable()
        assert "secret" not in terminal.raw


def test_what_is_typed_ahead_is_for_the_next_questions(person: Person) -> None:
    with Terminal(person("max"), "shop") as terminal:
        terminal.type("1\r1\r3\rb\r2\rb\r0\r")
        assert terminal.end() == 0
        assert "How many do you want (0 to " in terminal.screen
        assert "Goodbye. What is in your basket was not ordered." in terminal.screen
        assert re.findall("^> (.*)$", terminal.screen, re.MULTILINE) == ["1", "1", "3", "b", "2", "b", "0"]


def test_a_password_is_not_shown_on_a_dumb_terminal(tmp_path: Path, shop: Shop) -> None:
    shell = newcomer(tmp_path, shop, shop.optional, None)
    with Terminal(shell, "shop", TERM="dumb") as terminal:
        terminal.answer(MENU, "4")
        terminal.answer("A name to log in with", "minna")
        terminal.answer("(it is not shown):\nb to go back.\n> ", "a word of minna")
        terminal.answer("The same again:\nb to go back.\n> ", "a word of minna")
        terminal.answer("Your full name", "Minna M")
        terminal.answer("Your e-mail", "")
        terminal.answer("Your address", "")
        terminal.wait_for("Welcome, minna.")
        assert "a word" not in terminal.raw
        assert "\x1b" not in terminal.raw
        assert "Minna M" in terminal.screen
        terminal.type(CONTROL_D)
        assert terminal.end() == 0
        assert terminal.usable()
