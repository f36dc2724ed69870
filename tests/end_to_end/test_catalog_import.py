"""An operator imports a large catalog beside a running server: the customers go on."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from end_to_end.bookkeeping import Books
from end_to_end.customers import Enter, Record, StartServer, Witness
from end_to_end.server_process import environment

ROWS = 100_000
CUSTOMERS = 3
STOCK = {"CPU-1": 1_000_000}


def write_rows(path: Path, rows: int, *, price: str) -> None:
    with path.open("w") as file:
        file.write("sku,name,description,price,stock,active\n")
        file.writelines(
            f"PART-{number:06d},Part number {number} of the great import,Fits what fits,{price},{number % 90},1\n"
            for number in range(rows)
        )


@pytest.mark.timeout(240)
def test_orders_go_on_beside_an_import_of_a_hundred_thousand_rows(
    start_server: StartServer, enter: Enter, tmp_path: Path, record_property: Record
) -> None:
    server = start_server(stock=STOCK)
    catalog = tmp_path / "large.csv"
    write_rows(catalog, ROWS, price="1.23")
    with ExitStack() as stack:
        witnesses = [
            stack.enter_context(Witness(enter(server, f"customer-{n}"), patient=True)) for n in range(CUSTOMERS)
        ]
        before = sum(len(witness.orders) for witness in witnesses)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "securedelivery", "admin", "catalog", "import", str(catalog), *server.admin_flags],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=200,
            check=False,
        )
        seconds = time.monotonic() - began
        during = sum(len(witness.orders) for witness in witnesses) - before
    assert done.returncode == 0, done.stderr
    assert str(ROWS) in done.stdout
    assert "Traceback" not in done.stderr
    assert during > 0
    record_property("import_seconds", round(seconds, 1))
    record_property("orders_meanwhile", during)
    record_property("put_off", sum(witness.put_off for witness in witnesses))
    record_property("longest_order_seconds", round(max(witness.longest for witness in witnesses), 3))

    client = enter(server, "customer-0")
    found = client.call("catalog.get", sku="PART-099999")
    assert (found["price"], found["stock"], found["currency"]) == (123, 99_999 % 90, "EUR")
    assert [one["sku"] for one in client.call("catalog.list", query="PART-054321")["items"]] == ["PART-054321"]
    page = client.call("catalog.list", limit=200)
    second = client.call("catalog.list", limit=200, after=page["next"])
    skus = [one["sku"] for one in page["items"] + second["items"]]
    assert len(skus) == len(set(skus)) > 200
    books = Books(server.database)
    assert books.count("products") == ROWS + len(STOCK)
    assert books.faults(STOCK) == []
    assert books.damage() == []


def test_a_price_list_changes_prices_and_leaves_the_stock_to_those_who_buy(
    start_server: StartServer, enter: Enter, tmp_path: Path
) -> None:
    server = start_server(stock={"CPU-1": 10_000})
    prices = tmp_path / "prices.csv"
    client = enter(server, "customer")
    with Witness(enter(server, "buyer")) as witness:
        for price in (150, 250, 350):
            prices.write_text(f"sku,name,price\nCPU-1,The part,{price / 100}\n")
            server.admin("catalog", "import", str(prices))
            assert client.call("catalog.get", sku="CPU-1")["price"] == price
    assert client.call("catalog.get", sku="CPU-1")["stock"] == 10_000 - len(witness.orders)
    assert Books(server.database).faults({"CPU-1": 10_000}) == []


def test_a_file_with_a_fault_in_its_last_line_changes_nothing(
    start_server: StartServer, enter: Enter, tmp_path: Path
) -> None:
    server = start_server(stock=STOCK)
    catalog = tmp_path / "faulty.csv"
    write_rows(catalog, 2_000, price="1.23")
    with catalog.open("a") as file:
        file.write("PART-X,No price at all,,free,1,1\n")
    done = subprocess.run(
        [sys.executable, "-m", "securedelivery", "admin", "catalog", "import", str(catalog), *server.admin_flags],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "error: line 2002" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert len(enter(server, "customer").call("catalog.list")["items"]) == len(STOCK)
