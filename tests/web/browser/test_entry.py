"""Logging in and out: by password, by the certificate that the browser has, and not at all."""

import re
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from web.browser.chromium import Chromium, expect
from web.browser.conftest import Visit
from web.browser.process import PASSWORD, Api, MailChoice, WebProcess


def logged_out(page: Any) -> Any:
    """What stands on every page for who is not logged in."""
    return page.get_by_role("banner").get_by_role("link", name="Log in")


def test_an_account_is_opened_and_left_and_entered_again(visit: Visit, name: str) -> None:
    page = visit().page
    page.goto("/join")
    page.locator("[name=username]").fill(name)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[name=password]").press("Enter")
    expect(page.get_by_role("contentinfo")).to_contain_text(f"Logged in as {name}")
    page.get_by_role("button", name="Log out").click()
    expect(logged_out(page)).to_be_visible()
    page.goto("/orders")
    page.wait_for_url(re.compile(r"/login\?next=.*orders"))
    page.locator("[name=username]").fill(name)
    page.locator("[name=password]").fill("not this one")
    page.locator("[name=password]").press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("[name=username]")).to_have_value(name)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[name=password]").press("Enter")
    page.wait_for_url("**/orders")
    assert page.evaluate("document.cookie").find("session") < 0


def test_logging_out_logs_out_every_page(visit: Visit, api: Api, name: str) -> None:
    """The cookie is worth nothing any more, wherever it was copied to; another page that is open says so."""
    somebody = visit(name, new=False)
    (cookie,) = [one for one in somebody.context.cookies() if one["name"] == "__Host-session"]
    page, other = somebody.page, somebody.context.new_page()
    other.goto("/chat")
    expect(other.get_by_text("Connected")).to_be_attached()
    page.goto("/account")
    page.get_by_role("button", name="Log out").click()
    expect(logged_out(page)).to_be_visible()
    expect(other.get_by_text("You are logged out")).to_be_attached()
    thief = visit()
    thief.context.add_cookies([cookie])
    thief.go("/account")
    assert "/login" in thief.page.url


def test_a_certificate_logs_in(
    chromium: Chromium, shop: WebProcess, authority: CertificateAuthority, tmp_path: Path
) -> None:
    shop.create_account("wilma", "customer")
    with chromium.another(tmp_path / "wilma", shop.certs / "ca.crt", authority.client("wilma"), shop.site) as own:
        somebody = own.visitor(shop.site)
        page = somebody.page
        page.goto("/account")
        expect(page.get_by_role("contentinfo")).to_contain_text("Logged in as wilma")
        page.get_by_role("button", name="Log out").click()
        expect(logged_out(page)).to_be_visible()
        page.goto("/orders")
        page.wait_for_url(re.compile(r"/login\?next=.*orders"))  # who has logged out stays out, certificate or not
        page.locator("form[action='/login/certificate']").get_by_role("button").click()
        page.wait_for_url("**/orders")
        expect(page.get_by_role("contentinfo")).to_contain_text("Logged in as wilma")
        own.finish_visits()


def test_without_a_certificate_nothing_is_said_of_one(visit: Visit) -> None:
    page = visit().page
    page.goto("/login")
    expect(page.locator("form[action='/login/certificate']")).to_have_count(0)


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
def test_a_mail_leads_to_its_own_end(visit: Visit, shop: WebProcess, api: Api, name: str, javascript: bool) -> None:
    """For whoever holds it, logged in or not; but only by the button, for programs follow links, too."""

    def wanted() -> dict[str, bool]:
        found: dict[str, bool] = api.get("/api/account").json()["mail"]
        return found

    page = visit(java_script_enabled=javascript).page
    page.goto(shop.way_out(name, MailChoice.SUMMARIES))
    assert wanted() == {"receipts": True, "summaries": True, "missed_chat": True}
    page.get_by_role("main").get_by_role("button").click()
    expect(page.locator("h1")).to_have_text("No more monthly summaries")
    assert wanted() == {"receipts": True, "summaries": False, "missed_chat": True}


def test_an_account_is_deleted(visit: Visit, shop: WebProcess, name: str) -> None:
    page = visit(name).page
    page.goto("/account")
    page.get_by_role("link", name="Delete the account").click()
    page.locator("[name=password]").fill("not this one")
    delete = page.get_by_role("button", name="Delete the account")
    delete.click()
    expect(page.get_by_role("main")).to_contain_text("password")
    page.locator("[name=password]").fill(PASSWORD)
    delete.click()
    expect(page.locator("h1")).to_have_text("Your account is deleted")
    expect(logged_out(page)).to_be_visible()
    with shop.api() as api:
        assert api.post("/api/session", json={"username": name, "password": PASSWORD}).status_code == 401
