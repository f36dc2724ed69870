"""Ordering in a browser: from the search to the confirmation, and what can be done with an order afterwards."""

import re
from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from end_to_end.customers import log_in
from web.browser import steps
from web.browser.chromium import expect
from web.browser.conftest import ADDRESS, Staff, Visit
from web.browser.process import Api, WebProcess
from wire_client import Keyring

JAVASCRIPT = pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])


def test_from_the_search_to_the_confirmation(visit: Visit, shop: WebProcess, name: str) -> None:
    customer = visit(name)
    page = customer.page
    page.goto("/")
    search = page.get_by_role("searchbox")
    search.fill("memory")
    search.press("Enter")
    page.wait_for_url("**/?q=memory*")
    expect(page.get_by_role("main")).not_to_contain_text("Processor")
    page.get_by_role("link", name="Memory").first.click()
    expect(page.locator("h1")).to_have_text("Memory")
    steps.add(page, "RAM-1")
    page.goto("/basket")
    quantity = page.locator("main [name=quantity]").first
    quantity.fill("2")
    quantity.press("Enter")
    expect(page.get_by_role("main")).to_contain_text("199.98")
    page.get_by_role("link", name=re.compile("check ?out", re.IGNORECASE)).click()
    expect(page.locator("[name=address]")).to_have_value(ADDRESS)
    page.locator("[name=address]").fill("7 Dock Street\nHull")
    steps.place_button(page).click()
    number = steps.confirmed(page)
    expect(page.get_by_role("main")).to_contain_text("199.98")
    expect(page.locator("[aria-current=step]")).to_contain_text("Placed")
    with shop.api() as api:
        api.log_in(name)
        (placed,) = steps.orders(api)
        assert placed["order"] == number
        assert placed["address"] == "7 Dock Street\nHull"
        assert [(line["sku"], line["quantity"]) for line in placed["lines"]] == [("RAM-1", 2)]
        assert placed["total"] == 19_998
    page.goto("/basket")
    expect(page.locator("main [name=quantity]")).to_have_count(0)


def test_who_is_not_logged_in_keeps_the_basket_through_the_login(visit: Visit, api: Api, name: str) -> None:
    page = visit().page
    steps.add(page, "CPU-1")
    page.goto("/checkout")
    page.wait_for_url(re.compile(r"/login\?next="))
    page.locator("[name=username]").fill(name)
    page.locator("[name=password]").fill("correct horse 7")
    page.locator("[name=password]").press("Enter")
    page.wait_for_url("**/checkout")
    expect(page.get_by_role("main")).to_contain_text("Processor")
    steps.place_button(page).click()
    assert steps.order(api, steps.confirmed(page))["lines"][0]["sku"] == "CPU-1"


@JAVASCRIPT
def test_order_edit_and_cancel(visit: Visit, shop: WebProcess, name: str, javascript: bool) -> None:
    page = visit(name, java_script_enabled=javascript).page
    steps.check_out(page, "CPU-1", "RAM-1")
    steps.place_button(page).click()
    number = steps.confirmed(page)
    with shop.api() as api:
        api.log_in(name)
        assert steps.order(api, number)["total"] == 29_999
        page.get_by_role("main").get_by_role("link", name=re.compile("edit|change", re.IGNORECASE)).first.click()
        page.wait_for_url(f"**/orders/{number}/edit")
        page.locator("[name=address]").fill("8 Dock Street, Hull")
        quantities = page.locator("main [name=quantity]")
        quantities.nth(0).fill("3")
        quantities.nth(1).fill("0")
        page.get_by_role("main").get_by_role("button", name=re.compile("save|change", re.IGNORECASE)).first.click()
        page.wait_for_url(f"**/orders/{number}")
        expect(page.get_by_role("main")).to_contain_text("600.00")
        edited = steps.order(api, number)
        assert (edited["version"], edited["address"]) == (2, "8 Dock Street, Hull")
        assert [(line["sku"], line["quantity"]) for line in edited["lines"]] == [("CPU-1", 3)]
        cancel(page, "changed my mind")
        expect(page.get_by_role("main")).to_contain_text("Cancelled")
        assert steps.order(api, number)["status"] == "cancelled"
        assert steps.order(api, number)["history"][-1]["note"] == "changed my mind"


def cancel(page: Any, reason: str) -> None:
    form = page.locator("form[action$='/cancel']")
    form.locator("[name=reason]").fill(reason)
    form.get_by_role("button").click()


@JAVASCRIPT
def test_a_double_click_is_one_order(visit: Visit, shop: WebProcess, name: str, javascript: bool) -> None:
    page = visit(name, java_script_enabled=javascript).page
    steps.check_out(page, "CPU-1")
    steps.place_button(page).dblclick(no_wait_after=True)
    number = steps.confirmed(page)
    page.go_back()
    if steps.place_button(page).is_visible():  # the form as it was sent
        steps.place_button(page).click()
        assert steps.confirmed(page) == number
    with shop.api() as api:
        api.log_in(name)
        assert [one["order"] for one in steps.orders(api)] == [number]


def test_the_keyboard_is_enough(visit: Visit, shop: WebProcess, name: str) -> None:
    page = visit(name).page
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"  # past what every page has
    steps.tab_to(page, page.get_by_role("searchbox"))
    page.keyboard.type("graphics")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=graphics*")
    steps.tab_to(page, page.get_by_role("link", name="Graphics card").first)
    page.keyboard.press("Enter")
    page.wait_for_url("**/products/GPU-1")
    steps.tab_to(page, page.locator("main form[action='/basket'] button").first)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("added"))
    steps.tab_to(page, page.get_by_role("link", name="See the basket"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/basket")
    steps.tab_to(page, page.get_by_role("link", name=re.compile("check ?out", re.IGNORECASE)))
    page.keyboard.press("Enter")
    page.wait_for_url("**/checkout")
    steps.tab_to(page, page.locator("[name=address]"))
    page.keyboard.press("Control+A")
    page.keyboard.type("9 Dock Street")
    steps.tab_to(page, steps.place_button(page))
    page.keyboard.press("Enter")
    number = steps.confirmed(page)
    with shop.api() as api:
        api.log_in(name)
        placed = steps.order(api, number)
    assert (placed["address"], placed["lines"][0]["sku"]) == ("9 Dock Street", "GPU-1")


def test_the_line_of_states_moves_by_itself(
    visit: Visit, shop: WebProcess, authority: CertificateAuthority, api: Api, name: str
) -> None:
    """While an agent advances the order by the socket door, and a courier gives the code."""
    number = api.order(("CPU-1", 1), key="lines")["order"]
    page = visit(name, new=False).page
    page.goto(f"/orders/{number}")
    page.evaluate("window.sameAsBefore = true")
    line = page.locator("[aria-current=step]")
    expect(line).to_contain_text("Placed")
    rings = {}
    for who, role in (("sarah", "agent"), ("kurt", "courier")):
        shop.create_account(who, role)
        rings[who] = Keyring.of(authority, authority.client(who), shop.folder)
    with log_in(shop, "sarah", rings["sarah"]) as sarah, log_in(shop, "kurt", rings["kurt"]) as kurt:
        for status, more in (("confirmed", {}), ("packed", {}), ("out_for_delivery", {"courier": "kurt"})):
            sarah.call("order.advance", order=number, status=status, **more)
            expect(line).to_contain_text(status.replace("_", " ").capitalize())
        code = steps.order(api, number)["delivery_code"]
        expect(page.get_by_role("main")).to_contain_text(code)
        kurt.call("delivery.confirm", order=number, code=code)
        expect(line).to_contain_text("Delivered")
        expect(page.get_by_role("main")).not_to_contain_text(code)
    expect(page.locator("form[action$='/cancel']")).to_have_count(0)
    assert page.evaluate("window.sameAsBefore") is True


def test_a_courier_delivers(visit: Visit, staff: Staff, shop: WebProcess, api: Api, name: str) -> None:
    """And the page of the customer follows."""
    number = api.order(("RAM-1", 1), key="carry")["order"]
    courier, agent = staff("karl", "courier").page, staff("simone", "agent").page
    with shop.api() as simone:
        simone.log_in("simone")
        steps.advance(simone, number, "confirmed")
        steps.advance(simone, number, "packed")
    agent.goto(f"/orders/{number}")
    agent.locator("[name=courier]").fill("karl")
    agent.get_by_role("button", name="Out for delivery").click()
    expect(agent.locator("[aria-current=step]")).to_contain_text("Out for delivery")
    page = visit(name, new=False).page
    page.goto(f"/orders/{number}")
    code = steps.order(api, number)["delivery_code"]
    expect(page.get_by_role("main")).to_contain_text(code)
    courier.goto("/deliveries")
    confirm = courier.locator(f"form[action='/deliveries/{number}/confirm']")
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    confirm.locator("[name=code]").fill(wrong)
    confirm.get_by_role("button").click()
    expect(courier.get_by_role("main")).to_contain_text("4 of 5 tries are left")
    confirm.locator("[name=code]").fill(code)
    confirm.get_by_role("button").click()
    expect(page.locator("[aria-current=step]")).to_contain_text("Delivered")
    assert steps.order(api, number)["status"] == "delivered"
