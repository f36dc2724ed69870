"""The basket: a cookie, and the page that shows what is in it."""

import base64
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from web.pages.reading import Reading
from web.stage import Browser, WebStage

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Cents
from securedelivery.service.catalog import ProductEntry
from securedelivery.web.pages import basket

SKUS = st.text("ABCXYZ-019/<&", min_size=1, max_size=20)


def inside(browser: Browser) -> dict[str, int]:
    """What is in the basket by the cookie that the browser keeps."""
    return basket.decoded(browser.cookies.get(basket.COOKIE, ""))


def fill(browser: Browser, contents: dict[str, int]) -> None:
    browser.cookies.set(basket.COOKIE, basket.encoded(contents), domain="localhost.local")


def add(browser: Browser, sku: str, quantity: str = "1", **more: str) -> httpx.Response:
    return browser.submit("/basket", action="add", sku=sku, quantity=quantity, **more)


@given(st.dictionaries(SKUS, st.integers(1, 10_000), max_size=30))
def test_what_is_written_can_be_read(contents: dict[str, int]) -> None:
    assert basket.decoded(basket.encoded(contents)) == contents


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_what_nobody_wrote_is_nothing(junk: bytes) -> None:
    for text in (base64.urlsafe_b64encode(junk).decode(), junk.decode("latin-1")):
        found = basket.decoded(text)
        assert all(isinstance(sku, str) and 1 <= count <= 10_000 for sku, count in found.items())


FORGED = [
    [],
    "A",
    None,
    {"": 1},
    {"A" * 65: 1},
    *({"A": quantity} for quantity in (0, 10_001, -1, "1", 1.5, True, None)),
    {str(number): 1 for number in range(51)},
]


@pytest.mark.parametrize("value", FORGED)
def test_a_basket_that_cannot_be_is_nothing(value: object) -> None:
    assert basket.decoded(base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()) == {}


def test_a_cookie_too_long_is_nothing() -> None:
    long = {f"{number:02}-{'x' * 60}": 1 for number in range(40)}
    assert len(basket.encoded(long)) > basket.MAX_BYTES
    assert basket.decoded(basket.encoded(long)) == {}


def test_an_empty_basket_leads_on(web: WebStage) -> None:
    page = Reading(web.client().get("/basket"))
    assert page.find("h2").text == "Nothing in it yet"
    assert page.links()["Look at the parts"] == "/"
    assert not [one for one in page.all("a") if one.get("href") == "/checkout"]


def test_adding_from_the_list_comes_back_to_it(web: WebStage) -> None:
    browser = web.client()
    fields = {**Reading(browser.get("/?q=memory")).forms["/basket"].fields, "sku": "RAM-1"}
    answer = browser.post("/basket", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=memory&added=RAM-1")
    page = Reading(browser.get(answer.headers["location"]))
    assert page.find("div", role="status").text == "Memory is in your basket.See the basket"
    assert page.links()["See the basket"] == "/basket"
    assert page.links()["Basket 1 item"] == "/basket"
    assert inside(browser) == {"RAM-1": 1}


def test_a_link_alone_does_not_say_that_something_was_added(web: WebStage) -> None:
    browser = web.client()
    assert "is in your basket" not in Reading(browser.get("/?added=RAM-1")).text
    assert "in your basket" not in Reading(browser.get("/products/RAM-1?added=1")).text


def test_adding_from_the_page_of_a_part(web: WebStage) -> None:
    browser = web.client()
    for total in ("2", "4"):
        form = Reading(browser.get("/products/RAM-1")).forms["/basket"]
        answer = browser.post("/basket", data={**form.fields, "quantity": "2"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/products/RAM-1?added=1")
        page = Reading(browser.get(answer.headers["location"]))
        assert page.find("div", role="status").text == f"{total} in your basket.See the basket"
    page = Reading(browser.get("/products/RAM-1"))
    assert "4 in your basket already." in page.text
    assert page.links()["Basket 4 items"] == "/basket"


def test_the_cookie_is_kept_to_this_shop(web: WebStage) -> None:
    cookie = add(web.client(), "RAM-1").headers["set-cookie"]
    value, *rules = cookie.split("; ")
    assert value == f"__Host-basket={basket.encoded({'RAM-1': 1})}"
    assert set(rules) == {"Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=2592000"}


def test_what_is_in_it(web: WebStage) -> None:
    browser = web.client()
    add(browser, "RAM-1", "3")
    assert add(browser, "GPU-1").headers["location"] == "/basket"
    page = Reading(browser.get("/basket"))
    first, second = (one.text for one in page.all("li", class_="basket-line"))
    assert first.startswith("Memory EUR 99.99 each · RAM-1 EUR 299.97")
    assert second.startswith("Graphics card EUR 500.00 each · GPU-1 EUR 500.00")
    assert page.find("section", aria_labelledby="sum").text.startswith("Sum TotalEUR 799.97")
    assert page.links()["Go to the checkout"] == "/checkout"
    assert "You log in, or open an account, on the next page." in page.text


def test_changing_and_taking_out(web: WebStage) -> None:
    browser = web.client()
    fill(browser, {"RAM-1": 3, "GPU-1": 1, "CPU-1": 1})
    answer = browser.submit("/basket", action="set", sku="RAM-1", quantity="5")
    assert answer.headers["location"] == "/basket"
    browser.submit("/basket", action="remove", sku="GPU-1")
    browser.submit("/basket", action="set", sku="CPU-1", quantity="0")
    assert inside(browser) == {"RAM-1": 5}
    browser.submit("/basket", action="remove", sku="NOT-THERE")
    assert inside(browser) == {"RAM-1": 5}
    answer = browser.submit("/basket", action="remove", sku="RAM-1")
    assert answer.headers["set-cookie"].startswith("__Host-basket=; Max-Age=0; ")
    assert inside(browser) == {}


BAD = ["", "x", "1.5", "-1", "0", "10001", "1" * 30, "\u0661"]


@pytest.mark.parametrize("quantity", BAD)
def test_no_quantity_on_the_page_of_a_part(web: WebStage, quantity: str) -> None:
    browser = web.client()
    page = Reading(add(browser, "RAM-1", quantity, shown_at="product"), 422)
    assert page.error("quantity") == "Write how many you want: a whole number from 1 to 10,000."
    assert page.find("input", name="quantity").get("value") == quantity
    assert page.find("h1").text == "Memory"
    assert inside(browser) == {}


@pytest.mark.parametrize("quantity", [one for one in BAD if one != "0"])
def test_no_quantity_in_the_basket(web: WebStage, quantity: str) -> None:
    browser = web.client()
    fill(browser, {"RAM-1": 3, "GPU-1": 1})
    page = Reading(browser.submit("/basket", action="set", sku="RAM-1", quantity=quantity), 422)
    assert page.error("quantity") == "Write how many you want: a whole number from 1 to 10,000."
    assert [one.get("value") for one in page.all("input", name="quantity")] == [quantity, "1"]
    assert inside(browser) == {"RAM-1": 3, "GPU-1": 1}


def test_more_than_there_is(web: WebStage) -> None:
    browser = web.client()
    page = Reading(add(browser, "GPU-1", "6"), 422)
    assert page.error("quantity") == "Only 5 of these are left: take fewer."
    add(browser, "GPU-1", "4")
    page = Reading(add(browser, "GPU-1", "2"), 422)
    assert page.error("quantity") == "Only 5 of these are left, and 4 in your basket already."
    page = Reading(browser.submit("/basket", action="set", sku="GPU-1", quantity="6"), 422)
    assert page.error("quantity") == "Only 5 of these are left: take fewer."
    assert inside(browser) == {"GPU-1": 4}
    assert "Only 1 of these is left: take fewer." in Reading(add(browser, "LAST-1", "2"), 422).text


def test_what_sold_out_meanwhile_has_to_go_first(web: WebStage) -> None:
    entry = ProductEntry("FAN-1", "Fan", "", Cents(900), 3, True)
    web.shop.catalog.put(None, entry)
    browser = web.client()
    add(browser, "FAN-1", "3")
    for changes, words in (
        ({"stock": 2}, "Only 2 of these are left: take fewer."),
        ({"stock": 0}, "This is sold out for now."),
        ({"active": False}, "This is not sold any more. Take it out to go on."),
    ):
        fields = {"sku": "FAN-1", "name": "Fan", "description": "", "price": Cents(900), "stock": 3, "active": True}
        web.shop.catalog.put(None, ProductEntry(**{**fields, **changes}))  # type: ignore[arg-type]
        page = Reading(browser.get("/basket"))
        assert words in page.find("li", class_="basket-line").text
        assert "Mend what is marked before you order." in page.text
        assert "Go to the checkout" not in page.links()
    assert page.find("h2", class_="basket-line-name code").text == "FAN-1"
    browser.post("/basket", data=page.forms["/basket"].fields)  # the only form left takes it out
    assert inside(browser) == {}


@pytest.mark.parametrize("sku", ["NO-SUCH", "OLD-1"])
def test_what_the_shop_does_not_sell(web: WebStage, sku: str) -> None:
    browser = web.client()
    assert f"There is no product {sku}." in Reading(add(browser, sku), 404).text
    assert inside(browser) == {}


def test_no_part_at_all(web: WebStage) -> None:
    assert web.client().submit("/basket", action="add").status_code in (400, 404)


def test_a_full_basket(web: WebStage) -> None:
    browser = web.client()
    full = {f"GONE-{number}": 1 for number in range(basket.MAX_LINES)}
    fill(browser, full)
    page = Reading(add(browser, "RAM-1"), 409)
    assert page.alert().startswith("The basket is full.")
    assert len(page.all("li", class_="basket-line")) == basket.MAX_LINES
    assert inside(browser) == full
    fill(browser, dict.fromkeys(list(full)[1:], 1))
    assert add(browser, "RAM-1").status_code == 303


def test_a_basket_of_long_names_is_full_sooner(web: WebStage) -> None:
    browser = web.client()
    full = {f"{number:02}{'x' * 62}": 1 for number in range(32)}
    full["y"] = 1
    while len(basket.encoded(full)) <= basket.MAX_BYTES - 4:
        full[f"{full.popitem()[0]}y"] = 1
    fill(browser, full)
    page = Reading(add(browser, "RAM-1"), 409)
    assert page.alert().startswith("The basket is full.")
    assert len(full) < basket.MAX_LINES
    assert inside(browser) == full


def test_a_shop_that_cannot_answer_takes_nothing_for_sold(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise Refusal(Reason.UNAVAILABLE, "the database is not available: try again in a moment")

    browser = web.client()
    fill(browser, {"RAM-1": 1})
    monkeypatch.setattr(web.shop.catalog, "get", unavailable)
    page = Reading(browser.get("/basket"), 503)
    assert "try again in a moment" in page.text
    assert inside(browser) == {"RAM-1": 1}


def test_names_are_only_text(web: WebStage) -> None:
    attack = '"><script>alert(1)</script>'
    web.shop.catalog.put(None, ProductEntry(attack.replace(" ", ""), attack, attack, Cents(100), 5, True))
    browser = web.client()
    fill(browser, {attack: 1, "<img/src=x>": 1})
    answer = browser.get("/basket")
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    assert attack in Reading(answer).text


def test_nobody_else_changes_it(web: WebStage) -> None:
    browser = web.client()
    answer = browser.post("/basket", data={"sku": "RAM-1"}, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    browser = web.customer("basket-owner")
    assert browser.post("/basket", data={"sku": "RAM-1"}).status_code == 403
    assert browser.post("/basket", data={"sku": "RAM-1", "csrf_token": browser.csrf}).status_code == 303
    assert "Points come off on the next page." in Reading(browser.get("/basket")).text
