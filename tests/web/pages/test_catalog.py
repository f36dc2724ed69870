"""Browsing and searching parts, and the page of one."""

import pytest
from web.pages.reading import Reading, Shown
from web.stage import WebStage

from securedelivery.model import Cents, Role
from securedelivery.service.catalog import ProductEntry
from securedelivery.web.pages import catalog
from securedelivery.web.pages.catalog import kind_of, path_of, specs

XSS = '<script>alert("x")</script>'


def put(web: WebStage, sku: str, name: str, description: str = "", *, price: int = 1_000, stock: int = 9) -> None:
    web.shop.catalog.put(None, ProductEntry(sku, name, description, Cents(price), stock, True))


def rows(page: Reading) -> dict[str, Shown]:
    """The parts of a list, by SKU."""
    return {one.get("id").removeprefix("part-"): one for one in page.all("li") if one.get("id").startswith("part-")}


def test_first_page_has_the_parts_by_kind(web: WebStage) -> None:
    page = Reading(web.client().get("/"))
    found = rows(page)
    assert {"GPU-1", "CPU-1", "RAM-1", "LAST-1"} <= found.keys()
    assert "OLD-1" not in found  # not sold
    assert found["RAM-1"].text == "Memory 32 GB EUR 99.99 In stock Add"
    assert "Only 5 left" in found["GPU-1"].text
    names = [one.text for one in page.all("h2") if one.get("class") == "kind-name"]
    assert names[:3] == ["Graphics cards", "Processors", "Memory"]
    assert names[-1] == "More parts"
    assert page.links()["Graphics cards1 part"] == "#graphics"
    assert page.links()["Memory"] == "/products/RAM-1"
    assert page.find("button", value="RAM-1").get("aria-label") == "Add Memory to the basket"
    assert page.find("button", value="RAM-1").get("form") == page.find("form", action="/basket").get("id")


def test_a_sold_out_part_cannot_be_added(web: WebStage) -> None:
    put(web, "FAN-0", "Fan of nobody", stock=0)
    page = Reading(web.client().get("/"))
    assert rows(page)["FAN-0"].text == "Fan of nobody EUR 10.00 Sold out"
    assert not page.all("button", value="FAN-0")
    page = Reading(web.client().get("/products/FAN-0"))
    assert "Sold out for now" in page.text
    assert "/basket" not in page.forms


def test_search(web: WebStage) -> None:
    page = Reading(web.client().get("/", params={"q": " graph 16 "}))
    assert list(rows(page)) == ["GPU-1"]
    assert page.find("h1").text == "Parts with “graph 16”"
    assert page.find("input", name="q", type="search").get("value") == "graph 16"
    assert "1 part" in page.find("p", role="status").text
    assert page.links()["All parts"] == "/"
    assert page.forms["/basket"].fields["q"] == "graph 16"


def test_nothing_found(web: WebStage) -> None:
    page = Reading(web.client().get("/?q=zeppelin"))
    assert rows(page) == {}
    assert page.find("h2").text == "Nothing has that in its name"
    assert page.links()["Look at all parts"] == "/"


def test_what_was_searched_is_only_text(web: WebStage) -> None:
    answer = web.client().get("/", params={"q": XSS + '" autofocus onfocus="alert(1)'})
    assert XSS not in answer.text
    assert "&lt;script&gt;" in answer.text
    page = Reading(answer)
    assert "autofocus" not in page.find("input", type="search").attributes


def test_a_search_too_long_is_said_beside_the_field(web: WebStage) -> None:
    page = Reading(web.client().get("/", params={"q": "x" * 201}), 422)
    assert page.error("q") == "Make it at most 200 characters."
    assert page.find("input", type="search").get("value") == "x" * 201


def test_a_cursor_that_is_none(web: WebStage) -> None:
    page = Reading(web.client().get("/?after=nonsense"), 422)
    assert page.alert()
    assert page.links()["To the beginning of the catalogue"] == "/"


def test_pages_of_parts(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = list(rows(Reading(web.client().get("/"))))
    monkeypatch.setattr(catalog, "PARTS_A_PAGE", 2)
    path, seen = "/", []
    while True:
        page = Reading(web.client().get(path))
        assert 1 <= len(rows(page)) <= 2
        seen += rows(page)
        if (path != "/") != ("Back to the beginning" in page.links()):
            pytest.fail(f"{path}: only later pages lead back")
        if "More parts" not in page.links():
            break
        path = page.links()["More parts"]
    assert sorted(seen) == sorted(everything)
    assert len(seen) == len(set(seen)) > 3


def test_pages_of_a_search_keep_the_words(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    put(web, "MON-1", "Quux & one")
    put(web, "MON-2", "Quux & two")
    monkeypatch.setattr(catalog, "PARTS_A_PAGE", 1)
    page = Reading(web.client().get("/", params={"q": "quux &"}))
    assert list(rows(page)) == ["MON-1"]
    assert "1 parts on this page" in page.text
    page = Reading(web.client().get(page.links()["More parts"]))
    assert list(rows(page)) == ["MON-2"]
    assert page.forms["/basket"].fields["after"]
    page = Reading(web.client().get(page.links()["Back to the beginning"]))
    assert list(rows(page)) == ["MON-1"]


def test_an_empty_shop(web: WebStage) -> None:
    sold = [one for one in web.shop.catalog.export() if one.active]
    for active in (False, True):
        for one in sold:
            web.shop.catalog.put(None, ProductEntry(one.sku, one.name, one.description, one.price, one.stock, active))
        page = Reading(web.client().get("/"))
        assert bool(rows(page)) is active
        assert ("The shelves are still empty" in page.text) is not active


def test_a_part(web: WebStage) -> None:
    put(web, "CPU-7", "AMD Ryzen 7 9800X3D", "8 cores, 16 threads, up to 5.2 GHz, socket AM5", price=47_900, stock=12)
    page = Reading(web.client().get("/products/CPU-7"))
    assert page.title == "AMD Ryzen 7 9800X3D · securedelivery"
    assert page.find("h1").text == "AMD Ryzen 7 9800X3D"
    main = page.find("main").text
    assert "Processors" in main
    assert "EUR 479.00" in main
    assert "In stock: 12" in main
    listed = page.find("ul", class_="specs")
    assert listed.text == "8 cores 16 threads Up to 5.2 GHz Socket AM5"
    assert page.forms["/basket"].fields == {
        "action": "add",
        "shown_at": "product",
        "sku": "CPU-7",
        "quantity": "1",
    }
    assert page.links()["← All parts"] == "/#processor"


def test_a_part_with_prose_or_nothing(web: WebStage) -> None:
    put(web, "KEY-1", "Keyboard", "One line.\nAnother, longer one.")
    assert Reading(web.client().get("/products/KEY-1")).find("p", class_="lines").text.startswith("One line.")
    put(web, "KEY-2", "Keyboard two")
    assert "has not written more" in Reading(web.client().get("/products/KEY-2")).text


def test_names_and_descriptions_are_only_text(web: WebStage) -> None:
    put(web, "X/<b>&\"'-1", XSS + " a", XSS + ", " + XSS)
    browser = web.client()
    answer = browser.get("/?q=script")
    assert XSS not in answer.text
    page = Reading(answer)
    assert page.links()[XSS + " a"] == path_of("X/<b>&\"'-1")
    answer = browser.get(page.links()[XSS + " a"])
    assert XSS not in answer.text
    page = Reading(answer)
    assert page.find("h1").text == XSS + " a"
    assert page.title == f"{XSS} a · securedelivery"


@pytest.mark.parametrize("sku", ["NONE-1", "x" * 65, "a%0Ab", "OLD-1", "%F0%9F%92%A9"])
def test_no_such_part(web: WebStage, sku: str) -> None:
    page = Reading(web.client().get(f"/products/{sku}"), 404)
    assert page.find("h1").text == "There is nothing here"
    assert page.links()["Look at the parts"] == "/"


def test_an_admin_buys_nothing_that_is_not_sold(web: WebStage) -> None:
    page = Reading(web.staff("shelves", Role.ADMIN).get("/products/OLD-1"), 404)
    assert "Floppy drive is not sold any more." in page.text


def test_kinds_come_from_the_first_letters() -> None:
    assert kind_of("CPU-AMD-1").name == "Processors"
    assert kind_of("cpu-x").name == "Processors"
    assert kind_of("CPU").name == "Processors"
    assert kind_of("CPUX-1").name == kind_of("").name == "More parts"


@pytest.mark.parametrize(
    ("description", "listed"),
    [
        ("8 cores, up to 5 GHz", ["8 cores", "Up to 5 GHz"]),
        ("one", []),
        ("", []),
        ("a, , b", []),
        ("first\nsecond, third", []),
        ("short, " + "x" * 61, []),
    ],
)
def test_a_description_that_is_a_list(description: str, listed: list[str]) -> None:
    assert specs(description) == listed
