"""One's own account: profile, password, mail, certificate, export, the end."""

from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from web.pages.reading import Reading
from web.stage import PASSWORD, Browser, WebStage

from securedelivery.errors import Reason, Refusal
from securedelivery.web.desk import Desk
from securedelivery.web.visits import Visit

NEW = "another horse 8"


def customer(web: WebStage, username: str, **details: str) -> Browser:
    browser = web.client()
    answer = browser.post("/api/accounts", json={"username": username, "password": PASSWORD, **details})
    assert answer.status_code == 201, answer.text
    return browser


def enter(browser: Browser, path: str, **fields: str) -> None:
    assert browser.submit(path, **fields).status_code == 303
    browser.csrf = ""  # it was that of whoever was there before


def test_what_is_known_is_shown(web: WebStage) -> None:
    browser = customer(web, "alma", name="Alma A.", email="alma@shop.example", address="1 Lane\n2 Town")
    page = Reading(browser.get("/account"))
    fields = page.forms["/account"].fields
    assert (fields["name"], fields["email"], fields["address"]) == ("Alma A.", "alma@shop.example", "1 Lane\n2 Town")
    assert page.forms["/account/mail"].fields.keys() == {"csrf_token", "receipts", "summaries", "missed_chat"}
    assert "alma" in page.text
    assert page.links()["Download everything (JSON)"] == "/account/export"


def test_only_for_those_who_are_logged_in(web: WebStage) -> None:
    browser = web.client()
    for path in ("/account", "/account/export", "/account/delete"):
        assert browser.get(path).headers["location"] == f"/login?next={path}"
    assert browser.post("/account", data={"name": "X"}).headers["location"] == "/login"


def test_the_profile(web: WebStage) -> None:
    browser = customer(web, "anke", name="Anke", email="anke@shop.example", address="1 Lane")
    answer = browser.submit("/account", name="Anke B.", email="", address="2 Lane\r\nTown")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?done=profile#profile")
    account = browser.get("/api/account").json()
    assert (account["name"], account["email"], account["address"]) == ("Anke B.", None, "2 Lane\nTown")
    assert "Saved." in Reading(browser.get("/account?done=profile")).text
    assert "Saved." not in Reading(browser.get("/account?done=nonsense")).text


def test_what_a_form_leaves_out_stays(web: WebStage) -> None:
    browser = customer(web, "anja", name="Anja", email="anja@shop.example")
    assert browser.submit("/account", name="Anja C.").status_code == 303
    assert browser.get("/api/account").json()["email"] == "anja@shop.example"


def test_a_wrong_address_of_mail_stays_typed(web: WebStage) -> None:
    browser = web.customer("arno", email="arno@shop.example")
    page = Reading(browser.submit("/account", name="Arno", email="nowhere", address="9 Lane"), 422)
    assert "name@example.org" in page.error("email")
    fields = page.forms["/account"].fields
    assert (fields["name"], fields["email"], fields["address"]) == ("Arno", "nowhere", "9 Lane")
    assert browser.get("/api/account").json()["email"] == "arno@shop.example"


def test_which_mails_are_wanted(web: WebStage) -> None:
    browser = web.customer("axel", email="axel@shop.example")
    answer = browser.submit("/account/mail", summaries="on")
    assert answer.headers["location"] == "/account?done=mail#mail"
    assert browser.get("/api/account").json()["mail"] == {"receipts": False, "summaries": True, "missed_chat": False}
    assert Reading(browser.get("/account")).forms["/account/mail"].fields.keys() == {"csrf_token", "summaries"}


def test_another_password(web: WebStage) -> None:
    browser = web.customer("bert")
    elsewhere = web.client()
    elsewhere.log_in("bert")
    answer = browser.submit("/account/password", old_password=PASSWORD, new_password=NEW)
    assert answer.headers["location"] == "/account?done=password#password"
    assert "new password" in Reading(browser.get("/account?done=password")).text
    assert elsewhere.get("/account").status_code == 303, "logged out everywhere else"
    assert web.client().submit("/login", username="bert", password=NEW).status_code == 303


@pytest.mark.parametrize(
    ("old", "new", "status", "said"),
    [
        ("wrong wrong", NEW, 401, "not the account's password"),
        (PASSWORD, "short", 422, "at least 8 characters"),
        (PASSWORD, "password", 422, "common"),
        ("", NEW, 401, "not the account's password"),
    ],
)
def test_a_password_that_does_not_do(web: WebStage, old: str, new: str, status: int, said: str) -> None:
    name = f"bea-{status}-{len(old)}-{len(new)}"
    browser = web.customer(name)
    page = Reading(browser.submit("/account/password", old_password=old, new_password=new), status)
    assert said in (page.error("old_password" if status == 401 else "new_password"))
    assert page.forms["/account/password"].fields["new_password"] == ""


def test_a_certificate_is_bound(web: WebStage, authority: CertificateAuthority) -> None:
    web.customer("carl")
    browser = web.client(authority.client("carl"))
    enter(browser, "/login", username="carl", password=PASSWORD)
    assert "/account/certificate" in Reading(browser.get("/account")).forms
    answer = browser.submit("/account/certificate")
    assert answer.headers["location"] == "/account?done=certificate#certificate"
    assert browser.get("/api/account").json()["certificate"].endswith("/account/carl")
    assert "/account/certificate" not in Reading(browser.get("/account")).forms, "it is"


def test_without_a_certificate_there_is_none_to_bind(web: WebStage) -> None:
    browser = web.customer("cleo")
    assert "/account/certificate" not in Reading(browser.get("/account")).forms
    assert "no certificate to bind" in Reading(browser.submit("/account/certificate"), 403).alert()


def test_without_a_password_none_is_asked_for(web: WebStage, authority: CertificateAuthority) -> None:
    browser = web.client(authority.client("dina"))
    enter(browser, "/join", username="dina")
    assert "old_password" not in Reading(browser.get("/account")).forms["/account/password"].fields
    assert "password" not in Reading(browser.get("/account/delete")).forms["/account/delete"].fields
    assert browser.submit("/account/password", new_password=NEW).status_code == 303
    assert browser.get("/api/account").json()["has_password"]


# Export


def test_everything_in_one_file(web: WebStage) -> None:
    browser = web.customer("emil", email="emil@shop.example", address="3 Lane")
    orders = [browser.order(("RAM-1", 1), key=f"emil {number}")["order"] for number in range(30)]
    browser.submit("/chat", text="Hello?", message_key="emil 1")
    answer = browser.get("/account/export")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"].startswith('attachment; filename="')
    assert answer.headers["content-disposition"].endswith('-emil.json"')
    found = answer.json()
    assert found["complete"] is True
    kinds = [item["kind"] for item in found["items"]]
    assert kinds.count("account") == kinds.count("message") == 1
    assert [item["order"]["order"] for item in found["items"] if item["kind"] == "order"] == orders
    pages = browser.get("/api/account/export").json()
    assert pages["next"] is not None, "it is more than one page"
    assert found["items"][:10] == pages["items"][:10]


def test_an_export_that_cannot_go_on_says_so(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = web.customer("edna", address="4 Lane")
    for number in range(30):
        browser.order(("RAM-1", 1), key=f"edna {number}")
    call = Desk.call

    async def fail_later(desk: Desk, visit: Visit, method: str, params: Any = None, kind: Any = None) -> Any:
        if method == "account.export" and params["after"] is not None:
            raise Refusal(Reason.UNAVAILABLE, "the database is not available")
        return await call(desk, visit, method, params, kind)

    monkeypatch.setattr(Desk, "call", fail_later)
    found = browser.get("/account/export").json()
    assert (found["complete"], found["reason"]) == (False, "the database is not available")
    assert found["items"]


# The end


def test_deleting(web: WebStage) -> None:
    browser = customer(web, "finn", name="Finn")
    page = Reading(browser.get("/account/delete"))
    for word in ("for ever", "accounting", "name"):
        assert word in page.text
    wrong = Reading(browser.submit("/account/delete", password="wrong wrong"), 401)
    assert "not the account's password" in wrong.error("password")
    answer = browser.submit("/account/delete", password=PASSWORD)
    page = Reading(answer)
    assert "deleted" in page.text
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert browser.get("/account").status_code == 303
    assert web.client().submit("/login", username="finn", password=PASSWORD).status_code == 401


def test_not_while_an_order_is_on_its_way(web: WebStage) -> None:
    browser = web.customer("frida", address="5 Lane")
    browser.order(("RAM-1", 1), key="frida 1")
    page = Reading(browser.submit("/account/delete", password=PASSWORD), 409)
    assert "An order is still on its way" in page.alert()
    assert page.links()["Your orders"] == "/orders"
    assert browser.get("/account").status_code == 200
