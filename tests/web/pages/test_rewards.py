"""Points, tiers, and the ledger."""

import pytest
from web.pages.reading import Reading
from web.stage import WebStage

from securedelivery.service.rewards import RewardRules
from securedelivery.web.pages import rewards


def test_nothing_yet(web: WebStage) -> None:
    page = Reading(web.customer("gerd").get("/rewards"))
    assert "0 points" in page.text
    assert "5 more orders to Silver" in page.text
    progress = page.find("progress")
    assert (progress.get("value"), progress.get("max")) == ("0", "5")
    assert "No points yet" in page.text
    assert len(page.all("table")) == 1, "the tiers alone"


def test_points_of_orders(web: WebStage) -> None:
    browser = web.customer("gitta", address="1 Lane")
    for number in range(6):
        browser.order(("RAM-1", 1), key=f"gitta {number}")
    page = Reading(browser.get("/rewards"))
    # Five orders of 99 points as bronze, one more as silver: 99 x 1.25.
    assert "618 points" in page.text
    assert "EUR 30.90" in page.text
    assert "9 more orders to Gold" in page.text
    progress = page.find("progress")
    assert (progress.get("value"), progress.get("max")) == ("1", "10")
    rows = [row.text for row in page.all("li", class_="order-row")]
    assert [row.split()[:4] for row in rows[:2]] == [
        ["Earned:", "order", "6", "+123"],
        ["Earned:", "order", "5", "+99"],
    ]
    assert len(rows) == 6


def test_the_ledger_has_pages(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "PAGE", 2)
    browser = web.customer("gustav", address="1 Lane")
    orders = [browser.order(("RAM-1", 1), key=f"gustav {number}")["order"] for number in range(3)]
    first = Reading(browser.get("/rewards"))
    assert [link for link in first.links().values() if link.startswith("/orders/")] == [
        f"/orders/{number}" for number in reversed(orders[1:])
    ]
    second = Reading(browser.get(first.links()["Older entries"]))
    assert f"/orders/{orders[0]}" in second.links().values()
    assert "Older entries" not in second.links()
    assert second.links()["Back to the beginning"] == "/rewards"


def test_a_cursor_that_is_none(web: WebStage) -> None:
    assert web.customer("gesine").get("/rewards?after=nonsense").status_code == 400


def test_progress_ends_at_the_top() -> None:
    rules = RewardRules()
    assert rewards._progress(rules, rules.standing(0, 40)) is None
    assert rewards._progress(rules, rules.standing(0, 39)) == (24, 25)
