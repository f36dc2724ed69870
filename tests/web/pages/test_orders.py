"""Ordering, looking at orders, editing and cancelling them, and what staff does with them: by forms alone."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest
from web.pages.reading import Reading
from web.stage import Browser, WebStage

from securedelivery.model import Cents, HistoryEntry, Order, OrderId, OrderStatus, Role, Timestamp
from securedelivery.service.catalog import ProductEntry
from securedelivery.web.pages import basket, orders
from securedelivery.web.pages.orders import Step, steps

ADDRESS = "Marta Example\n12 Wharf Lane\n4020 Linz"
XSS = '"><script>alert(1)</script>'
_numbers = count(1)


@pytest.fixture
def part(web: WebStage) -> str:
    """A SKU of the test's own: EUR 100.00, ten of them."""
    sku = f"PART-{next(_numbers)}"
    stock(web, sku)
    return sku


@pytest.fixture
def buyer(web: WebStage) -> Browser:
    """A customer of the test's own, with an address."""
    return web.customer(f"buyer-{next(_numbers)}", address=ADDRESS)


@pytest.fixture(scope="module")
def regular(web: WebStage) -> Browser:
    """A customer with an address, for tests that do not mind other orders."""
    return web.customer("a-regular", address=ADDRESS)


def stock(web: WebStage, sku: str, *, price: int = 10_000, left: int = 10, active: bool = True, name: str = "") -> None:
    web.shop.catalog.put(None, ProductEntry(sku, name or f"Part {sku}", "", Cents(price), left, active))


def left(web: WebStage, sku: str) -> int:
    return web.shop.catalog.get(sku, inactive=True).stock


def fill(browser: Browser, contents: dict[str, int]) -> None:
    browser.cookies.set(basket.COOKIE, basket.encoded(contents), domain="localhost.local")


def inside(browser: Browser) -> dict[str, int]:
    return basket.decoded(browser.cookies.get(basket.COOKIE, ""))


def checkout(browser: Browser, contents: dict[str, int]) -> dict[str, str]:
    """The form's fields."""
    fill(browser, contents)
    return Reading(browser.get("/checkout")).forms["/checkout"].fields


def place(browser: Browser, fields: dict[str, str], **typed: str) -> httpx.Response:
    return browser.post("/checkout", data={**fields, "action": "place", **typed})


def ordered(browser: Browser, contents: dict[str, int], **typed: str) -> int:
    answer = place(browser, checkout(browser, contents), **typed)
    assert answer.status_code == 303, answer.text
    return int(answer.headers["location"].removeprefix("/orders/").removesuffix("?placed=1"))


def order_of(browser: Browser, number: int) -> dict[str, Any]:
    answer = browser.get(f"/api/orders/{number}")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def orders_of(browser: Browser) -> list[int]:
    return [one["order"] for one in browser.get("/api/orders").json()["items"]]


# Checkout


def test_ordering(web: WebStage, buyer: Browser, part: str) -> None:
    fields = checkout(buyer, {part: 2})
    assert fields["address"] == ADDRESS
    answer = place(buyer, fields, address="Somewhere else\r\n1 A Street")
    [number] = orders_of(buyer)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/orders/{number}?placed=1")
    found = order_of(buyer, number)
    assert (found["address"], found["total"]) == ("Somewhere else\n1 A Street", 20_000)
    assert left(web, part) == 8
    assert inside(buyer) == {}
    page = Reading(buyer.get(answer.headers["location"]))
    assert page.find("div", role="status").text == "Thank you. We have your order, and confirm it next."
    assert not Reading(buyer.get(f"/orders/{number}")).all("div", role="status")
    assert found["delivery_code"] in page.text


def test_the_sum_is_shown_before(buyer: Browser, part: str) -> None:
    fill(buyer, {part: 3})
    text = Reading(buyer.get("/checkout")).find("section", aria_labelledby="sum").text
    assert f"Part {part}" in text
    assert "3 \u00d7 EUR 100.00" in text
    assert "TotalEUR 300.00" in text
    assert "You have no points yet." in Reading(buyer.get("/checkout")).text


def test_a_visitor_logs_in_first_and_keeps_the_basket(web: WebStage, part: str) -> None:
    browser = web.client()
    fill(browser, {part: 1})
    assert browser.get("/checkout").headers["location"] == "/login?next=/checkout"
    browser.join(f"late-{part.lower()}", address=ADDRESS)
    assert Reading(browser.get("/checkout")).forms["/checkout"].fields["address"] == ADDRESS


def test_nothing_to_order(buyer: Browser) -> None:
    assert buyer.get("/checkout").headers["location"] == "/basket"
    assert buyer.submit("/checkout", action="place", lines="nonsense").headers["location"] == "/basket"
    assert orders_of(buyer) == []


def test_sent_twice_is_one_order(web: WebStage, buyer: Browser, part: str) -> None:
    fields = checkout(buyer, {part: 1})
    first, second = place(buyer, fields), place(buyer, fields)
    assert first.headers["location"] == second.headers["location"]
    assert len(orders_of(buyer)) == 1
    assert left(web, part) == 9


def test_a_double_click_is_one_order(web: WebStage, buyer: Browser, part: str) -> None:
    fields = checkout(buyer, {part: 1})
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: place(buyer, fields), range(4)))
    assert {(answer.status_code, answer.headers["location"]) for answer in answers} == {
        (303, f"/orders/{orders_of(buyer)[0]}?placed=1")
    }
    assert left(web, part) == 9


def test_two_forms_are_two_orders(buyer: Browser, part: str) -> None:
    one, other = checkout(buyer, {part: 1}), checkout(buyer, {part: 1})
    assert one["idempotency_key"] != other["idempotency_key"]
    assert place(buyer, one).headers["location"] != place(buyer, other).headers["location"]


def test_the_same_form_with_something_else_in_it(buyer: Browser, part: str) -> None:
    fields = checkout(buyer, {part: 1})
    place(buyer, fields)
    page = Reading(place(buyer, fields, address="Another address"), 409)
    assert page.alert().startswith("You have sent this form before, with something else in it.")
    assert page.links()["See your orders"] == "/orders"
    again = page.forms["/checkout"].fields
    assert again["idempotency_key"] != fields["idempotency_key"]
    assert again["address"] == "Another address"
    assert place(buyer, again).status_code == 303
    assert len(orders_of(buyer)) == 2


def test_what_is_ordered_is_what_was_shown(web: WebStage, buyer: Browser, part: str) -> None:
    stock(web, "LATER-1")
    fields = checkout(buyer, {part: 1})
    fill(buyer, {part: 1, "LATER-1": 1})  # in another window
    number = int(place(buyer, fields).headers["location"].removeprefix("/orders/").removesuffix("?placed=1"))
    assert [line["sku"] for line in order_of(buyer, number)["lines"]] == [part]
    assert inside(buyer) == {"LATER-1": 1}


def test_no_address(web: WebStage, part: str) -> None:
    browser = web.customer(f"nowhere-{part.lower()}")
    fill(browser, {part: 1})
    page = Reading(browser.get("/checkout"))
    assert "Keep an address in your account" in page.text
    fields = page.forms["/checkout"].fields
    assert fields["address"] == ""
    page = Reading(place(browser, fields), 422)
    assert page.error("address").endswith("Write where it is to go.")
    assert page.alert() == "Nothing has been changed yet: see what is marked below."
    page = Reading(place(browser, fields, address="x" * 501), 422)
    assert page.error("address").endswith("Make it at most 500 characters.")
    fields = page.forms["/checkout"].fields
    assert fields["address"] == "x" * 501
    assert orders_of(browser) == []
    assert place(browser, fields, address="Here").status_code == 303


def test_sold_out_meanwhile(web: WebStage, buyer: Browser, part: str) -> None:
    fields = checkout(buyer, {part: 2})
    stock(web, part, left=1)
    page = Reading(place(buyer, fields, address="Typed already"), 409)
    assert page.alert().startswith(f"Of {part} there are only 1 left: take fewer.")
    assert page.forms["/checkout"].fields["address"] == "Typed already"
    assert page.links()["Change the basket"] == "/basket"
    assert not page.all("button", value="place")
    assert orders_of(buyer) == []
    stock(web, part, left=2)
    assert place(buyer, fields).status_code == 303  # the refused try has not used the key up


def test_not_sold_any_more_meanwhile(web: WebStage, buyer: Browser, part: str) -> None:
    stock(web, "STAYS-1")
    fields = checkout(buyer, {part: 2, "STAYS-1": 1})
    stock(web, part, active=False)
    page = Reading(place(buyer, fields), 409)
    assert page.alert().startswith("Prices have changed")
    assert "This is not sold any more. Take it out to go on." in page.text
    page = Reading(place(buyer, page.forms["/checkout"].fields), 404)
    assert page.alert().startswith(f"There is no product {part}.")
    assert orders_of(buyer) == []


def test_prices_changed_meanwhile(web: WebStage, buyer: Browser, part: str) -> None:
    fields = checkout(buyer, {part: 1})
    stock(web, part, price=12_000)
    page = Reading(place(buyer, fields), 409)
    assert page.alert().startswith("Prices have changed since you opened this page")
    assert "TotalEUR 120.00" in page.text
    assert orders_of(buyer) == []
    assert place(buyer, page.forms["/checkout"].fields).status_code == 303


def test_points(web: WebStage, buyer: Browser, part: str) -> None:
    stock(web, "DEAR-1", price=100_000)
    ordered(buyer, {"DEAR-1": 1})  # earns 1,000
    fields = checkout(buyer, {part: 1})
    page = Reading(buyer.post("/checkout", data={**fields, "redeem_points": "400", "action": "preview"}))
    assert "You have 1,000. This order takes up to 1,000: EUR 50.00 off." in page.text
    assert "400 pointsEUR -20.00" in page.text
    assert "TotalEUR 80.00" in page.text
    assert page.forms["/checkout"].fields["redeem_points"] == "400"
    assert page.forms["/checkout"].fields["idempotency_key"] == fields["idempotency_key"]
    assert len(orders_of(buyer)) == 1  # a preview orders nothing
    answer = place(buyer, page.forms["/checkout"].fields)
    found = order_of(buyer, orders_of(buyer)[0])
    assert (found["points_redeemed"], found["total"]) == (400, 8_000)
    page = Reading(buyer.get(answer.headers["location"]))
    assert "Discount for 400 pointsEUR -20.00" in page.text
    assert "It earns 80 points." in page.text


@pytest.mark.parametrize("action", ["preview", "place"])
def test_more_points_than_there_are(web: WebStage, buyer: Browser, part: str, action: str) -> None:
    ordered(buyer, {part: 1})  # earns 100
    fields = checkout(buyer, {part: 1})
    page = Reading(buyer.post("/checkout", data={**fields, "redeem_points": "101", "action": action}), 409)
    assert page.error("redeem_points").endswith("You have 100 points to use.")
    assert page.forms["/checkout"].fields["redeem_points"] == "101"
    assert "TotalEUR 100.00" in page.text
    assert len(orders_of(buyer)) == 1


@pytest.mark.parametrize("points", ["x", "-1", "1.5", "9" * 30])
def test_points_that_are_no_number(regular: Browser, part: str, points: str) -> None:
    ordered(regular, {part: 1})
    before = len(orders_of(regular))
    fields = checkout(regular, {part: 1})
    page = Reading(place(regular, fields, redeem_points=points), 422)
    assert page.error("redeem_points").endswith("Write a whole number of points, or leave it empty.")
    assert len(orders_of(regular)) == before


def test_an_order_too_small_for_points(web: WebStage, buyer: Browser, part: str) -> None:
    stock(web, "CHEAP-1", price=5)
    ordered(buyer, {part: 1})
    fill(buyer, {"CHEAP-1": 1})
    assert "your 100 points stay for the next one" in Reading(buyer.get("/checkout")).text


# Orders


def test_one_order(buyer: Browser, part: str) -> None:
    number = ordered(buyer, {part: 2})
    page = Reading(buyer.get(f"/orders/{number}"))
    assert page.find("h1").text == f"Order {number}"
    line = page.find("ol", class_="states")
    assert line.get("aria-label") == "Where the order stands"
    assert page.find("li", aria_current="step").text.startswith("Placed")
    assert [one.get("class") for one in page.all("li") if "state" in one.get("class")] == [
        "state state-now",
        *["state state-next"] * 4,
    ]
    table = page.find("table").text
    assert f"Part {part}" in table
    assert "2 \u00d7 EUR 100.00" in table
    assert "EUR 200.00" in table
    assert page.find("p", class_="well lines").texts == [ADDRESS]
    assert page.find("p", class_="delivery-code").text == order_of(buyer, number)["delivery_code"]
    assert page.find("ol", class_="history").text.startswith("Placed")
    assert page.links()["Edit the order"] == f"/orders/{number}/edit"
    assert page.forms.keys() == {"/logout", f"/orders/{number}/cancel"}
    live = page.find("div", id="order")
    assert "data-refresh" in live.attributes
    assert (live.get("data-order"), live.get("data-status")) == (str(number), "placed")


def test_ones_own_orders(web: WebStage, buyer: Browser, part: str) -> None:
    page = Reading(buyer.get("/orders"))
    assert page.find("h2").text == "You have not ordered anything yet"
    assert page.links()["Look at the parts"] == "/"
    stock(web, "SECOND-1")
    numbers = [ordered(buyer, {part: 1, "SECOND-1": 1}), ordered(buyer, {part: 1})]
    ordered(web.customer(f"other-{part.lower()}", address="x"), {part: 1})
    page = Reading(buyer.get("/orders"))
    rows = page.all("li", class_="order-row")
    assert [one.get("data-order") for one in rows] == [str(number) for number in reversed(numbers)]
    assert f"Part {part} and 1 more" in rows[1].text
    assert "EUR 200.00" in rows[1].text
    assert page.links()[f"Order {numbers[0]}"] == f"/orders/{numbers[0]}"
    assert "Of one customer" not in page.text
    page = Reading(buyer.get("/orders?status=delivered"))
    assert page.find("h2").text == "None is delivered"
    assert page.links()["All"] == "/orders"


def test_pages_of_orders(buyer: Browser, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [ordered(buyer, {part: 1}) for _ in range(3)]
    monkeypatch.setattr(orders, "ORDERS_A_PAGE", 2)
    page = Reading(buyer.get("/orders?status=placed"))
    assert "Back to the beginning" not in page.links()
    assert page.find("a", aria_current="page", href="/orders?status=placed").text == "Placed"
    page = Reading(buyer.get(page.links()["Older orders"]))
    assert [one.get("data-order") for one in page.all("li", class_="order-row")] == [str(numbers[0])]
    assert page.links()["Back to the beginning"] == "/orders?status=placed"
    assert "Older orders" not in page.links()


def test_a_cursor_that_is_none(regular: Browser) -> None:
    page = Reading(regular.get("/orders?after=nonsense"), 422)
    assert page.links()["To the newest orders"] == "/orders"


@pytest.mark.parametrize("way", ["", "/edit"])
@pytest.mark.parametrize("number", ["0", "x", "-1", "1.5", "99999999", "9" * 30, "%20", "1%2F2"])
def test_no_such_order(regular: Browser, number: str, way: str) -> None:
    assert regular.get(f"/orders/{number}{way}").status_code == 404


def test_somebody_elses_order(web: WebStage, buyer: Browser, part: str) -> None:
    number = ordered(buyer, {part: 1})
    stranger = web.customer(f"stranger-{part.lower()}")
    for path in (f"/orders/{number}", f"/orders/{number}/edit"):
        page = Reading(stranger.get(path), 404)
        assert ADDRESS.splitlines()[0] not in page.text
    assert stranger.submit(f"/orders/{number}/cancel").status_code == 404
    assert stranger.submit(f"/orders/{number}/edit", version="1", sku=part, quantity="9").status_code == 404
    assert stranger.submit(f"/orders/{number}/status", status="confirmed").status_code == 403
    assert web.client().get(f"/orders/{number}").headers["location"] == f"/login?next=/orders/{number}"
    assert order_of(buyer, number)["version"] == 1


# Cancelling


def test_cancelling(web: WebStage, regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 3})
    form = Reading(regular.get(f"/orders/{number}")).forms[f"/orders/{number}/cancel"]
    answer = regular.post(f"/orders/{number}/cancel", data={**form.fields, "reason": f"Found one {XSS}"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/orders/{number}")
    assert left(web, part) == 10
    answer = regular.get(f"/orders/{number}")
    assert "<script>alert" not in answer.text
    page = Reading(answer)
    assert page.find("li", aria_current="step").text.startswith("Cancelled")
    assert f"Found one {XSS}" in page.find("ol", class_="history").text
    assert page.forms.keys() == {"/logout"}
    assert not page.all("p", class_="delivery-code")
    assert "Edit the order" not in page.links()
    again = regular.post(f"/orders/{number}/cancel", data=form.fields)  # a second click
    assert again.status_code == 303
    assert left(web, part) == 10


def test_too_late_to_cancel(web: WebStage, regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 1})
    form = Reading(regular.get(f"/orders/{number}")).forms[f"/orders/{number}/cancel"]
    for status in (OrderStatus.CONFIRMED, OrderStatus.PACKED):
        advanced(web, number, status)
    page = Reading(regular.post(f"/orders/{number}/cancel", data={**form.fields, "reason": "late"}), 409)
    assert page.alert().startswith(f"Order {number} is packed:")
    assert "cannot be cancelled here any more" in page.text
    assert order_of(regular, number)["status"] == "packed"


def test_a_reason_too_long(regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 1})
    page = Reading(regular.submit(f"/orders/{number}/cancel", reason="y" * 501), 422)
    assert page.error("reason") == "Make it at most 500 characters."
    assert page.forms[f"/orders/{number}/cancel"].fields["reason"] == "y" * 501
    assert order_of(regular, number)["status"] == "placed"


# Editing


def edit_fields(page: Reading) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """(sku, quantity) of each line as the form has them, and the other fields."""
    skus = [one.get("value") for one in page.all("input", name="sku")]
    quantities = [one.get("value") for one in page.all("input", name="quantity")]
    form = next(form for action, form in page.forms.items() if action.endswith("/edit"))
    return list(zip(skus, quantities, strict=True)), {
        k: v for k, v in form.fields.items() if k not in ("sku", "quantity")
    }


def save(
    browser: Browser, number: int, lines: list[tuple[str, str]], fields: dict[str, str], **typed: str
) -> httpx.Response:
    data = {**fields, **typed, "sku": [sku for sku, _ in lines], "quantity": [text for _, text in lines]}
    return browser.post(f"/orders/{number}/edit", data=data)


def test_editing(web: WebStage, buyer: Browser, part: str) -> None:
    stock(web, "OUT-1")
    number = ordered(buyer, {part: 1, "OUT-1": 2})
    lines, fields = edit_fields(Reading(buyer.get(f"/orders/{number}/edit")))
    assert lines == [(part, "1"), ("OUT-1", "2")]
    assert (fields["version"], fields["address"]) == ("1", ADDRESS)
    answer = save(buyer, number, [(part, "4"), ("OUT-1", "0")], fields, address="New place")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/orders/{number}")
    found = order_of(buyer, number)
    assert [(line["sku"], line["quantity"]) for line in found["lines"]] == [(part, 4)]
    assert (found["address"], found["total"], found["version"]) == ("New place", 40_000, 2)
    assert (left(web, part), left(web, "OUT-1")) == (6, 10)


def test_the_basket_joins_an_order(web: WebStage, buyer: Browser, part: str) -> None:
    stock(web, "JOINS-1")
    number = ordered(buyer, {part: 1})
    assert "To add a part, put it into the basket first" in Reading(buyer.get(f"/orders/{number}/edit")).text
    fill(buyer, {"JOINS-1": 2, part: 1})
    lines, fields = edit_fields(Reading(buyer.get(f"/orders/{number}/edit")))
    assert "add_basket" not in fields
    assert save(buyer, number, lines, fields).status_code == 303
    assert len(order_of(buyer, number)["lines"]) == 1
    assert inside(buyer) == {"JOINS-1": 2, part: 1}
    assert save(buyer, number, lines, fields, add_basket="yes").status_code == 303
    found = order_of(buyer, number)
    assert [(line["sku"], line["quantity"]) for line in found["lines"]] == [(part, 2), ("JOINS-1", 2)]
    assert inside(buyer) == {}


def test_a_part_of_the_basket_that_is_not_there(web: WebStage, buyer: Browser, part: str) -> None:
    stock(web, "RARE-1", left=1)
    number = ordered(buyer, {part: 1})
    fill(buyer, {"RARE-1": 2})
    lines, fields = edit_fields(Reading(buyer.get(f"/orders/{number}/edit")))
    page = Reading(save(buyer, number, lines, fields, add_basket="yes"), 409)
    assert page.alert() == "Of RARE-1 there are only 1 left: take fewer."
    assert "checked" in page.find("input", name="add_basket").attributes
    fill(buyer, {"NEVER-1": 2})
    page = Reading(save(buyer, number, lines, fields, add_basket="yes"), 404)
    assert page.alert() == "There is no product NEVER-1."
    assert inside(buyer) == {"NEVER-1": 2}


@pytest.mark.parametrize("quantity", ["", "x", "-1", "1.5", "10001"])
def test_no_quantity(regular: Browser, part: str, quantity: str) -> None:
    number = ordered(regular, {part: 1})
    _, fields = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    page = Reading(save(regular, number, [(part, quantity)], fields, address="Kept"), 422)
    assert page.error("quantity") == "Write a whole number from 0 to 10,000; 0 takes it out."
    assert page.find("input", name="quantity").get("value") == quantity
    assert edit_fields(page)[1]["address"] == "Kept"
    assert order_of(regular, number)["version"] == 1


def test_more_than_there_is(regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 4})
    _, fields = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    page = Reading(save(regular, number, [(part, "11")], fields), 409)
    assert page.error("quantity") == "Only 10 are left for this order."
    assert save(regular, number, [(part, "10")], fields).status_code == 303


def test_what_is_not_sold_any_more_has_to_go(web: WebStage, regular: Browser, part: str) -> None:
    stock(web, "ENDS-1")
    number = ordered(regular, {part: 1, "ENDS-1": 1})
    stock(web, "ENDS-1", active=False)
    lines, fields = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    page = Reading(save(regular, number, lines, fields), 404)
    assert page.error("quantity") == "This is not sold any more: write 0 to take it out."


def test_nothing_left_in_an_order(regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 1})
    _, fields = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    page = Reading(save(regular, number, [(part, "0")], fields), 422)
    assert page.alert().startswith("Something has to stay in an order.")
    assert page.links()["Cancel it there"] == f"/orders/{number}"
    assert order_of(regular, number)["version"] == 1


def test_no_address_any_more(regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 1})
    lines, fields = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    page = Reading(save(regular, number, lines, fields, address=" \r\n "), 422)
    assert page.error("address") == "Write where it is to go."


def test_the_order_changed_meanwhile(regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 1})
    lines, stale = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    assert save(regular, number, [(part, "2")], stale, address="First window").status_code == 303
    page = Reading(save(regular, number, [(part, "3")], stale, address="Second window"), 409)
    assert page.alert().startswith("The order has changed since you opened this page.")
    lines, fields = edit_fields(page)
    assert lines == [(part, "3")]
    assert "In the order now: 2" in page.text
    assert "In the order now: First window" in page.text
    assert (fields["version"], fields["address"]) == ("2", "Second window")
    assert save(regular, number, lines, fields).status_code == 303
    assert order_of(regular, number)["lines"][0]["quantity"] == 3


@pytest.mark.parametrize("version", ["", "x", "0", "-5"])
def test_a_version_that_nobody_saw(regular: Browser, part: str, version: str) -> None:
    number = ordered(regular, {part: 1})
    lines, fields = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    page = Reading(save(regular, number, lines, fields, version=version), 422)
    assert page.alert()
    assert edit_fields(page)[1]["version"] == "1"


def test_too_late_to_edit(web: WebStage, regular: Browser, part: str) -> None:
    number = ordered(regular, {part: 1})
    _, fields = edit_fields(Reading(regular.get(f"/orders/{number}/edit")))
    advanced(web, number, OrderStatus.CONFIRMED)
    for answer in (regular.get(f"/orders/{number}/edit"), save(regular, number, [(part, "2")], fields)):
        page = Reading(answer, 409)
        assert page.alert().startswith("This order is confirmed by now, and cannot be edited any more.")
        assert page.find("h1").text == f"Order {number}"
    assert order_of(regular, number)["lines"][0]["quantity"] == 1


# Staff


def advanced(web: WebStage, number: int, status: OrderStatus, **more: str) -> None:
    """As the operator at the machine does it."""
    from securedelivery.service.orders import AdvanceCommand

    command = AdvanceCommand(None, number, status, **more)
    web.shop.database.writer.call(web.shop.orders.advance, command)


@pytest.fixture(scope="module")
def agent(web: WebStage) -> Browser:
    return web.staff("orders-agent", Role.AGENT)


@pytest.fixture(scope="module")
def courier(web: WebStage) -> Browser:
    return web.staff("orders-courier", Role.COURIER)


def test_staff_sees_all_and_finds_a_customer(web: WebStage, agent: Browser, buyer: Browser, part: str) -> None:
    number = ordered(buyer, {part: 1})
    name = str(buyer.get("/api/account").json()["username"])
    page = Reading(agent.get("/orders"))
    assert page.find("h1").text == "Orders"
    row = page.find("li", data_order=str(number))
    assert f"for {name}" in row.text
    page = Reading(agent.get(f"/orders?account={name}&status=placed"))
    assert page.find("h1").text == f"Orders of {name}"
    assert [one.get("data-order") for one in page.all("li", class_="order-row")] == [str(number)]
    assert page.links()["Packed"] == f"/orders?status=packed&account={name}"
    assert page.links()["All"] == f"/orders?account={name}"
    page = Reading(agent.get("/orders", params={"account": XSS}), 404)
    assert page.error("account").startswith(f"There is no customer {XSS}.")


def test_staff_of_a_shop_without_orders(web: WebStage, agent: Browser) -> None:
    page = Reading(agent.get("/orders?account=orders-agent"))
    assert "No orders yet" in page.text


def test_staff_sees_no_code_and_does_not_edit(agent: Browser, buyer: Browser, part: str) -> None:
    number = ordered(buyer, {part: 1})
    page = Reading(agent.get(f"/orders/{number}"))
    assert order_of(buyer, number)["delivery_code"] not in page.text
    assert not page.all("p", class_="delivery-code")
    assert "Edit the order" not in page.links()
    page = Reading(agent.get(f"/orders/{number}/edit"), 409)
    assert page.alert().startswith("Only buyer-")


def test_an_order_through_the_house(agent: Browser, courier: Browser, buyer: Browser, part: str) -> None:
    number = ordered(buyer, {part: 1})
    path = f"/orders/{number}/status"

    def offered() -> list[str]:
        page = Reading(agent.get(f"/orders/{number}"))
        return [one.get("value") for one in page.all("button", name="status")]

    def go(status: str, **more: str) -> httpx.Response:
        return agent.post(
            path, data={**Reading(agent.get(f"/orders/{number}")).forms[path].fields, "status": status, **more}
        )

    assert offered() == ["confirmed"]
    answer = go("confirmed", note=f"All here {XSS}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/orders/{number}")
    text = buyer.get(f"/orders/{number}").text
    assert "<script>alert" not in text
    assert "All here &#34;&gt;&lt;script&gt;" in text
    assert offered() == ["packed"]
    assert go("packed").status_code == 303
    assert offered() == ["out_for_delivery", "packed"]
    page = Reading(go("out_for_delivery"), 422)
    assert page.error("courier").endswith("Who delivers it? name a courier.")
    page = Reading(go("out_for_delivery", courier="nobody-like-that", note="Ring twice"), 422)
    assert "obody-like-that is no courier" in page.error("courier")
    assert page.find("input", name="courier").get("value") == "nobody-like-that"
    assert page.forms[path].fields["note"] == "Ring twice"
    assert go("out_for_delivery", courier="orders-courier").status_code == 303
    page = Reading(buyer.get(f"/orders/{number}"))
    assert "Courier: orders-courier" in page.text
    assert page.find("li", aria_current="step").text.startswith("Out for delivery")
    words = [one.text for one in Reading(agent.get(f"/orders/{number}")).all("button", name="status")]
    assert words == ["Came back undelivered", "Change the courier"]
    assert offered() == ["packed", "out_for_delivery"]  # an agent cannot deliver; the last changes the courier
    page = Reading(courier.get(f"/orders/{number}"))
    assert not page.all("button", name="status")  # couriers have a page of their own
    assert go("out_for_delivery", courier="orders-courier").status_code == 303  # nothing new
    page = Reading(go("returned"), 409)
    assert page.alert().startswith(f"Order {number} is out for delivery:")


def test_an_admin_says_how_it_was_delivered(web: WebStage, buyer: Browser, part: str) -> None:
    admin = web.staff(f"admin-{part.lower()}", Role.ADMIN)
    web.staff(f"courier-{part.lower()}", Role.COURIER)
    number = ordered(buyer, {part: 1})
    advanced(web, number, OrderStatus.CONFIRMED)
    advanced(web, number, OrderStatus.PACKED)
    advanced(web, number, OrderStatus.OUT_FOR_DELIVERY, courier=f"courier-{part.lower()}")
    path = f"/orders/{number}/status"
    fields = Reading(admin.get(f"/orders/{number}")).forms[path].fields
    assert "delivered" in [
        one.get("value") for one in Reading(admin.get(f"/orders/{number}")).all("button", name="status")
    ]
    page = Reading(admin.post(path, data={**fields, "status": "delivered"}), 422)
    assert "a note has to say how it was delivered" in page.error("note")
    assert admin.post(path, data={**fields, "status": "delivered", "note": "At the neighbour's"}).status_code == 303
    page = Reading(buyer.get(f"/orders/{number}"))
    assert not page.all("p", class_="delivery-code")
    assert "Something is missing or broken?" in page.text
    assert admin.post(path, data={**fields, "status": "returned"}).status_code == 303
    page = Reading(buyer.get(f"/orders/{number}"))
    assert page.find("li", aria_current="step").text.startswith("Returned")
    assert "has been put back" in page.text


@pytest.mark.parametrize("status", ["", "lost", "placed"])
def test_a_status_that_cannot_be(agent: Browser, regular: Browser, part: str, status: str) -> None:
    number = ordered(regular, {part: 1})
    answer = agent.submit(f"/orders/{number}/status", status=status)
    assert answer.status_code in (303, 409, 422)
    assert order_of(regular, number)["status"] == "placed"


def test_staff_and_an_order_that_is_none(agent: Browser) -> None:
    assert agent.submit("/orders/99999999/status", status="confirmed").status_code == 404


def test_staff_cancels(agent: Browser, buyer: Browser, part: str) -> None:
    number = ordered(buyer, {part: 1})
    form = Reading(agent.get(f"/orders/{number}")).forms[f"/orders/{number}/cancel"]
    assert agent.post(f"/orders/{number}/cancel", data={**form.fields, "reason": "No more of it"}).status_code == 303
    assert "No more of it" in Reading(buyer.get(f"/orders/{number}")).text


# The line of states


def entry(status: OrderStatus, minute: int, note: str | None = None) -> HistoryEntry:
    return HistoryEntry(status, Timestamp(f"2026-11-30T10:{minute:02}:00.000000Z"), "somebody", note)


def order_with(status: OrderStatus, *history: HistoryEntry) -> Order:
    at = Timestamp("2026-11-30T10:00:00.000000Z")
    numbers = {"subtotal": Cents(1), "discount": Cents(0), "total": Cents(1), "points_earned": 0, "points_redeemed": 0}
    return Order(
        order=OrderId(1), version=1, account="a", status=status, lines=[], currency="EUR", address="", courier=None,
        history=list(history), placed_at=at, changed_at=at, **numbers,
    )  # type: ignore[arg-type]  # fmt: skip


def test_the_line_has_when_each_state_began() -> None:
    order = order_with(
        OrderStatus.PACKED,
        entry(OrderStatus.PLACED, 0),
        entry(OrderStatus.PLACED, 1, "edited"),
        entry(OrderStatus.CONFIRMED, 2),
        entry(OrderStatus.PACKED, 3),
        entry(OrderStatus.PACKED, 4, "another courier"),
        entry(OrderStatus.OUT_FOR_DELIVERY, 5),
        entry(OrderStatus.PACKED, 6, "nobody at home"),
    )
    assert [(step.status, step.at and step.at[14:16], step.state) for step in steps(order)] == [
        (OrderStatus.PLACED, "00", "done"),
        (OrderStatus.CONFIRMED, "02", "done"),
        (OrderStatus.PACKED, "06", "now"),
        (OrderStatus.OUT_FOR_DELIVERY, None, "next"),
        (OrderStatus.DELIVERED, None, "next"),
    ]


def test_the_line_of_a_cancelled_order_ends_there() -> None:
    order = order_with(
        OrderStatus.CANCELLED,
        entry(OrderStatus.PLACED, 0),
        entry(OrderStatus.CONFIRMED, 2),
        entry(OrderStatus.CANCELLED, 3),
    )
    assert [(step.status, step.state) for step in steps(order)] == [
        (OrderStatus.PLACED, "done"),
        (OrderStatus.CONFIRMED, "done"),
        (OrderStatus.CANCELLED, "now"),
    ]


def test_the_line_of_an_order_whose_beginning_is_not_told() -> None:
    order = order_with(OrderStatus.RETURNED, entry(OrderStatus.RETURNED, 9))
    assert steps(order)[-1] == Step(OrderStatus.RETURNED, Timestamp("2026-11-30T10:09:00.000000Z"), "now")
    assert [step.at for step in steps(order)[1:-1]] == [None] * 4
