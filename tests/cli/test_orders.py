"""`securedelivery order update|cancel` and `securedelivery rewards`, word for word."""

import json
import re

import pytest
from cli.conftest import Person, Shell, Shop, fails, said
from cli.test_manners import scripted
from client.scripted_server import Customer
from client.test_reconnect import ACCOUNT

from securedelivery.model import OrderStatus


def place(shell: Shell, *arguments: str) -> str:
    """The new order's number."""
    return str(json.loads(shell("order", "place", *arguments, "--json").stdout)["order"])


def test_update(person: Person) -> None:
    shell = person("olga")
    number = place(shell, "CPU-1")
    done = shell("order", "update", number, "CPU_2", "CPU-1:2", "--address", "2 Side Street")
    shown = (
        "Order          NUMBER\n"
        "Status         placed\n"
        "Placed         AT-SOME-MINUTE--\n"
        "Address        2 Side Street\n"
        "Delivery code  CODE (for the courier, when the parcel is in your hands)\n"
        "\n"
        "QUANTITY  SKU    PRODUCT                     EACH         TOTAL\n"
        "       1  CPU_2  A larger processor  EUR 1,234.50  EUR 1,234.50\n"
        "       2  CPU-1  A small processor      EUR 99.00    EUR 198.00\n"
        "\n"
        "Total   EUR 1,432.50\n"
        "Earned  1,432 points\n"
        "\n"
        "WHEN              STATUS  BY    NOTE\n"
        "AT-SOME-MINUTE--  placed  olga\n"
        "AT-SOME-MINUTE--  placed  olga  edited\n"
    )
    assert said(done) == (shown, "", 0)
    assert shell("order", "show", number) == done
    assert shell("order", "update", number, "CPU_2", "CPU-1:2") == done  # as it is
    order = json.loads(shell("order", "update", number, "--address", "3 Hill Road", "--version", "2", "--json").stdout)
    assert (order["version"], order["address"], len(order["lines"])) == (3, "3 Hill Road", 2)


def test_updates_that_are_refused(person: Person) -> None:
    shell = person("otto")
    number = place(shell, "CPU-1")
    assert shell("order", "update", number, "CPU-1:2", "--version", "1").code == 0
    done = shell("order", "update", number, "CPU-1:3", "--version", "1")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith(f"\nhint: see what it is now, then repeat: securedelivery order show {number}\n")
    assert said(shell("order", "update", number, "GPU-1:4")) == fails(
        "GPU-1: 3 left for this order", "order at most 3: GPU-1:3", 1
    )
    assert said(shell("order", "update", number, "NO-1")) == fails(
        "there is no product NO-1", "securedelivery catalog", 1
    )
    assert said(shell("order", "update", "999999", "CPU-1")) == fails(
        "there is no order 999999", "securedelivery order list", 1
    )
    assert shell("order", "cancel", number).code == 0
    done = shell("order", "update", number, "CPU-1")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: you cannot change it any more; ask the shop: securedelivery chat\n")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("17",), "order update: nothing to change was given", "securedelivery order update --help"),
        ((), "missing argument 'NUMBER'", "securedelivery order update --help"),
        (("17", "CPU-1:0"), "CPU-1:0: a quantity is 1 to 10,000", "for example: CPU-1:2"),
    ],
)
def test_updates_that_make_no_sense(shell: Shell, arguments: tuple[str, ...], message: str, hint: str) -> None:
    assert said(shell("order", "update", *arguments)) == fails(message, hint, 2)


def test_cancel(person: Person, shop: Shop) -> None:
    shell = person("ole")
    number = place(shell, "CPU-1")
    done = shell("order", "cancel", number, "--reason", "ordered twice")
    assert said(done) == (
        (
            "Order    NUMBER\n"
            "Status   cancelled\n"
            "Placed   AT-SOME-MINUTE--\n"
            "Address  1 Main Street\n"
            "\n"
            "QUANTITY  SKU    PRODUCT                 EACH      TOTAL\n"
            "       1  CPU-1  A small processor  EUR 99.00  EUR 99.00\n"
            "\n"
            "Total   EUR 99.00\n"
            "Earned  99 points, taken back\n"
            "\n"
            "WHEN              STATUS     BY   NOTE\n"
            "AT-SOME-MINUTE--  placed     ole\n"
            "AT-SOME-MINUTE--  cancelled  ole  ordered twice\n"
        ),
        "",
        0,
    )
    assert shell("order", "cancel", number) == done
    assert json.loads(shell("order", "cancel", number, "--json").stdout)["status"] == "cancelled"
    assert said(shell("order", "cancel", "999999")) == fails("there is no order 999999", "securedelivery order list", 1)
    packed = place(shell, "CPU-1")
    advance(shop, packed, "confirmed", "packed")
    done = shell("order", "cancel", packed)
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: you cannot change it any more; ask the shop: securedelivery chat\n")


def advance(shop: Shop, number: str, *statuses: str, courier: str | None = None) -> None:
    """As an agent does."""
    with shop.enter("the-packer", "agent") as client:
        for status in statuses:
            client.advance_order(int(number), OrderStatus(status), courier=courier)


# What staff sees of them


def test_agents_move_orders_on(person: Person) -> None:
    customer, agent, courier = person("orla"), person("oona", "agent"), person("otis", "courier")
    number = place(customer, "CPU-1")
    confirmed = agent("order", "advance", number, "confirmed", "--note", "paid")
    assert confirmed.code == 0
    assert "Delivery code" not in confirmed.stdout
    assert said(confirmed)[0].endswith("AT-SOME-MINUTE--  confirmed  oona  paid\n")
    assert agent("order", "advance", number, "packed").code == 0
    done = agent("order", "advance", number, "out_for_delivery")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: --courier takes the name of a courier's account\n")
    assert "otis" in agent("order", "advance", number, "out_for_delivery", "--courier", "otis").stdout
    assert number in courier("deliveries", "list").stdout
    done = agent("order", "advance", number, "delivered", "--note", "seen")
    assert (done.stdout, done.code) == ("", 1)
    done = customer("order", "advance", number, "cancelled")
    assert done.stderr.startswith("error: order.advance is for the role agent, courier\n")
    assert done.code == 1


def test_orders_of_customers(person: Person) -> None:
    customer, agent = person("ottilie"), person("arno", "agent")
    number = place(customer, "CPU-1")
    width = len(max("ORDER", number, key=len))
    assert said(agent("order", "list", "--account", "ottilie")) == (
        (
            f"{'ORDER':>{width}}  CUSTOMER  PLACED            STATUS  PRODUCTS       TOTAL\n"
            f"{number:>{width}}  ottilie   AT-SOME-MINUTE--  placed  1 x CPU-1  EUR 99.00\n"
        ),
        "",
        0,
    )
    assert said(agent("order", "list", "--account", "arno")) == ("", "No orders of arno.\n", 0)
    shown = agent("order", "show", number)
    assert said(shown)[0].startswith("Order     NUMBER\nCustomer  ottilie\nStatus    placed\n")
    assert "Delivery code" not in shown.stdout
    assert json.loads(agent("order", "list", "--limit", "1", "--json").stdout)["items"]


# rewards


def test_rewards(person: Person) -> None:
    shell = person("rita")
    assert said(shell("rewards")) == (
        "Points     0\nTier       bronze\nOrders     0\nNext tier  silver, after 5 more orders\n", "", 0,
    )  # fmt: skip
    assert said(shell("rewards", "--history")) == ("", "No points yet. They come with each order.\n", 0)
    first = place(shell, "CPU_2")
    second = place(shell, "CPU-1", "--redeem", "100")
    assert said(shell("rewards")) == (
        "Points     1,228\nTier       bronze\nOrders     2\nNext tier  silver, after 3 more orders\n", "", 0,
    )  # fmt: skip
    assert shell("order", "cancel", first).code == 0
    done = shell("rewards", "--history")
    assert (done.stderr, done.code) == ("", 0)
    rows = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines()]
    assert rows[0] == ["WHEN", "POINTS", "WHAT", "ORDER", "UNTIL"]
    assert [(row[1], row[2], row[3], row[4] == "-") for row in rows[1:]] == [
        ("-1,234", "taken back", first, True),
        ("+94", "earned", second, False),
        ("-100", "redeemed", second, True),
        ("+1,234", "earned", first, False),
    ]
    assert json.loads(shell("rewards", "--json").stdout) == {
        "points": -6, "tier": "bronze", "order_count": 1, "next_tier": {"name": "silver", "orders_needed": 4},
    }  # fmt: skip
    page = json.loads(shell("rewards", "--history", "--limit", "1", "--json").stdout)
    assert [entry["reason"] for entry in page["items"]] == ["reversed"]
    more = shell("rewards", "--history", "--limit", "3", "--after", page["next"])
    assert [line.split()[2] for line in more.stdout.splitlines()[1:]] == ["+94", "-100", "+1,234"]
    cut = shell("rewards", "--history", "--limit", "1")
    assert said(cut)[1] == "There are more: --limit NUMBER, or go on with --after CURSOR\n"
    assert said(shell("order", "place", "CPU-1", "--redeem", "5")) == fails(
        "0 points to redeem", "see what there is: securedelivery rewards", 1
    )


def test_nothing_above_the_last_tier(shell: Shell, shop: Shop) -> None:
    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        customer.serve(rewards_get={"points": 12345, "tier": "platinum", "order_count": 41, "next_tier": None})

    with scripted(shop, script) as listener:
        done = shell(
            "rewards", "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
    assert said(done) == ("Points     12,345\nTier       platinum\nOrders     41\nNext tier  -\n", "", 0)


def test_more_points_than_there_are(person: Person) -> None:
    shell = person("rosa")
    place(shell, "CPU-1")
    done = shell("order", "place", "CPU-1", "--redeem", "100")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: redeem at most 99: --redeem 99\n")


@pytest.mark.parametrize("option", ["--limit", "--after"])
def test_options_of_the_history_alone(shell: Shell, option: str) -> None:
    assert said(shell("rewards", option, "7")) == fails(f"{option}: that is for the history", "add --history", 2)
