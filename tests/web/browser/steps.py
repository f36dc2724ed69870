"""What people do on the pages, in words that the tests share. page: Playwright's."""

import re
from typing import Any

from web.browser.chromium import expect
from web.browser.process import Api

ORDER = re.compile(r"/orders/(\d+)")


def add(page: Any, sku: str) -> None:
    """Put one of it into the basket, on its own page."""
    page.goto(f"/products/{sku}")
    with page.expect_navigation():
        page.get_by_role("main").locator("form[action='/basket']").get_by_role("button").first.click()


def check_out(page: Any, *skus: str) -> None:
    """As far as the form that places the order."""
    for sku in skus:
        add(page, sku)
    page.goto("/checkout")


def place_button(page: Any) -> Any:
    return page.get_by_role("button", name=re.compile("place", re.IGNORECASE))


def confirmed(page: Any) -> int:
    """The number of the order that the page shows, once it has been placed."""
    page.wait_for_url(ORDER)
    found = ORDER.search(page.url)
    assert found is not None
    expect(page.locator("h1")).to_contain_text(found[1])
    return int(found[1])


def order(api: Api, number: int) -> dict[str, Any]:
    """As the shop has it."""
    answer = api.get(f"/api/orders/{number}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def orders(api: Api) -> list[dict[str, Any]]:
    """All of a customer, newest first."""
    found: list[dict[str, Any]] = api.get("/api/orders?limit=200").json()["items"]
    return found


def advance(api: Api, number: int, status: str, **more: str) -> None:
    """By somebody who may."""
    answer = api.post(f"/api/orders/{number}/status", json={"status": status, **more})
    assert answer.status_code == 200, answer.text


def say(page: Any, text: str) -> None:
    """In the chat."""
    page.locator("form[data-chat-form] [name=text]").fill(text)
    page.locator("form[data-chat-form]").get_by_role("button", name=re.compile("send", re.IGNORECASE)).click()


def said(page: Any) -> list[str]:
    """The texts of the chat as they stand on the page, what is still on its way included."""
    found: list[str] = page.locator("[data-chat] .message-text").all_inner_texts()
    return found


def tab_to(page: Any, target: Any, most: int = 80) -> None:
    """Press Tab until it is there, and see that whoever looks can tell where that is."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            break
    else:
        raise AssertionError(f"Tab does not come to {target} on {page.url}")
    ring = target.evaluate(
        "element => { const style = getComputedStyle(element); return element.matches(':focus-visible')"
        " && (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 || style.boxShadow !== 'none'); }"
    )
    assert ring, f"nothing shows where the focus is: {target}"
