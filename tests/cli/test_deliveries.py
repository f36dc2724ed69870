"""`securedelivery deliveries`, word for word: from the packed order to the code at the door."""

import json

import pytest
from cli.conftest import Person, Shell, Shop, fails, said
from cli.test_manners import Terminal
from cli.test_orders import advance, place


def packed(shell: Shell, shop: Shop, courier: str, *products: str) -> tuple[str, str]:
    """The number of an order that the courier is to deliver, and its code."""
    number = place(shell, *(products or ("CPU-1",)))
    advance(shop, number, "confirmed", "packed", courier=courier)
    return number, json.loads(shell("order", "show", number, "--json").stdout)["delivery_code"]


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_from_packed_to_delivered(person: Person, shop: Shop) -> None:
    customer, courier = person("celia", address="1 Main Street\nSpringfield"), person("kuno", "courier")
    assert said(courier("deliveries", "list")) == ("", "Nothing to deliver.\n", 0)
    number, code = packed(customer, shop, "kuno")
    width = len(max("ORDER", number, key=len))
    assert said(courier("deliveries", "list")) == (
        (
            f"{'ORDER':>{width}}  STATUS      TOTAL  CUSTOMER  ADDRESS\n"
            f"{number:>{width}}  packed  EUR 99.00  celia     1 Main Street, Springfield\n"
        ),
        "",
        0,
    )
    done = courier("deliveries", "out", number)
    assert said(done) == (
        (
            "Order     NUMBER\n"
            "Customer  celia\n"
            "Status    out for delivery\n"
            "Placed    AT-SOME-MINUTE--\n"
            "Address   1 Main Street, Springfield\n"
            "Courier   kuno\n"
            "\n"
            "QUANTITY  SKU    PRODUCT                 EACH      TOTAL\n"
            "       1  CPU-1  A small processor  EUR 99.00  EUR 99.00\n"
            "\n"
            "Total   EUR 99.00\n"
            "Earned  99 points\n"
            "\n"
            "WHEN              STATUS            BY          NOTE\n"
            "AT-SOME-MINUTE--  placed            celia\n"
            "AT-SOME-MINUTE--  confirmed         the-packer\n"
            "AT-SOME-MINUTE--  packed            the-packer\n"
            "AT-SOME-MINUTE--  out for delivery  kuno\n"
        ),
        "",
        0,
    )
    assert courier("deliveries", "out", number) == done
    failed = courier("deliveries", "failed", number, "--note", "nobody at home")
    assert failed.code == 0
    assert said(failed)[0].endswith("AT-SOME-MINUTE--  packed            kuno        nobody at home\n")
    assert json.loads(courier("deliveries", "failed", number, "--json").stdout)["status"] == "packed"
    assert json.loads(courier("deliveries", "out", number, "--json").stdout)["status"] == "out_for_delivery"
    page = json.loads(courier("deliveries", "list", "--json").stdout)
    assert [(order["order"], "delivery_code" in order) for order in page["items"]] == [(int(number), False)]
    refused = courier("deliveries", "confirm", number, wrong(code))
    assert (refused.stdout, refused.code) == ("", 1)
    assert refused.stderr.endswith("\nhint: have the customer read it out again; 4 tries are left\n")
    done = courier("deliveries", "confirm", number, code)
    assert done.code == 0
    assert "Status    delivered\n" in done.stdout
    assert courier("deliveries", "confirm", number, code) == done
    assert said(courier("deliveries", "list")) == ("", "Nothing to deliver.\n", 0)
    shown = customer("order", "show", number).stdout
    assert "Status   delivered\n" in shown
    assert "Courier  kuno\n" in shown
    assert code not in shown  # nobody needs it any more


def test_the_last_try(person: Person, shop: Shop) -> None:
    customer, courier = person("celine"), person("kai", "courier")
    number, code = packed(customer, shop, "kai")
    assert courier("deliveries", "out", number).code == 0
    hints = [courier("deliveries", "confirm", number, wrong(code)).stderr.splitlines()[-1] for _ in range(5)]
    assert hints == [
        *(f"hint: have the customer read it out again; {left} left" for left in ("4 tries are", "3 tries are")),
        *(f"hint: have the customer read it out again; {left} left" for left in ("2 tries are", "1 try is")),
        "hint: there are no more tries until the shop has looked at the order: ask it",
    ]
    done = courier("deliveries", "confirm", number, code)
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: there are no more tries until the shop has looked at the order: ask it\n")


@pytest.mark.parametrize("command", ["out", "failed", "confirm"])
def test_what_is_anothers_to_deliver(person: Person, shop: Shop, command: str) -> None:
    customer, courier = person(f"cyril-{command}"), person(f"karl-{command}", "courier")
    person(f"kim-{command}", "courier")
    number, code = packed(customer, shop, f"kim-{command}")
    assert said(courier("deliveries", command, number, *([code] if command == "confirm" else []))) == fails(
        f"there is no order {number}", "see which are yours: securedelivery deliveries list", 1
    )


def test_steps_that_cannot_be(person: Person, shop: Shop) -> None:
    customer, courier = person("cyril"), person("klaus", "courier")
    number, code = packed(customer, shop, "klaus")
    assert said(courier("deliveries", "confirm", number, code)) == fails(
        f"order {number} is packed: you can make it out_for_delivery",
        "what you may make of it now: out for delivery (securedelivery deliveries out NUMBER)",
        1,
    )


@pytest.mark.parametrize("command", ["list", "out 1", "failed 1", "confirm 1 000000"])
def test_this_is_for_couriers(person: Person, command: str) -> None:
    done = person(f"chris-{command.partition(' ')[0]}")("deliveries", *command.split())
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.endswith("\nhint: this account may not do that; another may (--user, --certificate)\n")


@pytest.mark.parametrize("command", ["out", "out x", "failed 0", "confirm 17"])
def test_wrong_usage(shell: Shell, command: str) -> None:
    done = shell("deliveries", *command.split())
    assert (done.stdout, done.code) == ("", 2)
    assert f"\nhint: securedelivery deliveries {command.split(maxsplit=1)[0]} --help\n" in done.stderr


def test_a_table_fits_the_terminal(person: Person, shop: Shop) -> None:
    name = "c" * 32
    customer = person(name, address="The house behind the very large tree, 1234 Main Street, Springfield, Upper Floor")
    courier = person("kurt", "courier")
    packed(customer, shop, "kurt", "CPU_2:9")
    terminal = Terminal(courier, "deliveries", "list", NO_COLOR="1")
    assert terminal.end() == 0
    lines = [line.rstrip("\r") for line in terminal.seen.split("\n")]
    assert all(len(line) <= 80 for line in lines)
    assert name in terminal.seen
    assert "EUR 11,110.50" in terminal.seen
