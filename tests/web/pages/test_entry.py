"""Logging in, joining, logging out: by forms alone."""

import pytest
from certificate_authority import CertificateAuthority
from web.pages.reading import Reading
from web.stage import PASSWORD, Browser, WebStage

from securedelivery.model import Role
from securedelivery.web.pages.entry import local_path

ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example/",
    "\\\\evil.example/",
    "/\t/evil.example/",
    "/\n/evil.example/",
    "/ /evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/" + "a" * 2_000,
]


def whoami(browser: Browser) -> str | None:
    name: str | None = browser.get("/api/account").json().get("username")
    return name


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_path_of_another_site_is_none(path: str) -> None:
    assert local_path(path) is None


@pytest.mark.parametrize("path", ["/", "/orders/17", "/chat?before=3#m2", "/products/a//b", "/a%5Cb"])
def test_a_path_of_this_site(path: str) -> None:
    assert local_path(path) == path


def test_logging_in(web: WebStage) -> None:
    web.customer("nora")
    browser = web.client()
    form = Reading(browser.get("/login")).forms["/login"]
    assert form.fields.keys() == {"username", "password"}
    answer = browser.post("/login", data={**form.fields, "username": "nora", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert whoami(browser) == "nora"
    assert browser.get("/login").headers["location"] == "/"
    assert browser.get("/join").headers["location"] == "/"


def test_where_somebody_was_on_the_way_to(web: WebStage) -> None:
    web.customer("nele")
    browser = web.client()
    sent = browser.get("/rewards?after=x")
    assert sent.headers["location"] == "/login?next=/rewards%3Fafter%3Dx"
    page = Reading(browser.get(sent.headers["location"]))
    form = page.forms["/login"]
    assert form.fields["next"] == "/rewards?after=x"
    assert "/join?next=/rewards%3Fafter%3Dx" in {one.get("href") for one in page.all("a")}
    wrong = browser.post("/login", data={**form.fields, "username": "nele", "password": "wrong wrong"})
    form = Reading(wrong, 401).forms["/login"]
    assert form.fields["next"] == "/rewards?after=x"
    answer = browser.post("/login", data={**form.fields, "password": PASSWORD})
    assert answer.headers["location"] == "/rewards?after=x"


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nobody_is_led_to_another_site(web: WebStage, path: str) -> None:
    browser = web.client()
    page = Reading(browser.get("/login", params={"next": path}))
    assert "next" not in page.forms["/login"].fields
    name = f"nadia-{ELSEWHERE.index(path)}"
    web.shop.accounts.create(name, PASSWORD, identity=None, remote="192.0.2.7")
    answer = browser.submit("/login", username=name, password=PASSWORD, next=path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("role", "place"), [(Role.AGENT, "/inbox"), (Role.ADMIN, "/inbox"), (Role.COURIER, "/deliveries")]
)
def test_staff_begins_at_its_desk(web: WebStage, role: Role, place: str) -> None:
    web.staff(f"nina-{role}", role)
    browser = web.client()
    answer = browser.submit("/login", username=f"nina-{role}", password=PASSWORD)
    assert answer.headers["location"] == place


def test_a_wrong_password_says_so_and_keeps_the_name(web: WebStage) -> None:
    web.customer("niko")
    browser = web.client()
    page = Reading(browser.submit("/login", username="niko", password="no such horse"), 401)
    assert "Wrong name or password" in page.alert()
    form = page.forms["/login"]
    assert form.fields["username"] == "niko"
    assert form.fields["password"] == ""
    assert whoami(browser) is None


def test_joining(web: WebStage) -> None:
    browser = web.client()
    form = Reading(browser.get("/join?next=/checkout")).forms["/join"]
    typed = {
        "username": "oda",
        "password": PASSWORD,
        "name": "Oda O.",
        "email": "oda@shop.example",
        "address": "1 A\r\n2 B",
    }
    answer = browser.post("/join", data={**form.fields, **typed})
    assert (answer.status_code, answer.headers["location"]) == (303, "/checkout")
    account = browser.get("/api/account").json()
    assert (account["username"], account["name"], account["email"], account["address"]) == (
        "oda",
        "Oda O.",
        "oda@shop.example",
        "1 A\n2 B",
    )


def test_a_name_is_enough(web: WebStage) -> None:
    browser = web.client()
    assert browser.submit("/join", username="olga", password=PASSWORD).status_code == 303
    assert browser.get("/api/account").json()["email"] is None


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("username", "Olli", "3 to 32"),
        ("password", "short", "at least 8 characters"),
        ("password", "", "at least 8 characters"),
        ("password", "password", "common"),
        ("email", "nobody", "name@example.org"),
    ],
)
def test_what_is_wrong_stands_beside_the_field(web: WebStage, field: str, typed: str, said: str) -> None:
    browser = web.client()
    fields = {"username": "olli", "password": PASSWORD, "name": "Olli", "email": "olli@shop.example", field: typed}
    page = Reading(browser.submit("/join", **fields), 422)
    assert said in page.error(field)
    kept = page.forms["/join"].fields
    assert {name: kept[name] for name in ("username", "name", "email")} == {
        name: fields[name] for name in ("username", "name", "email")
    }
    assert kept["password"] == "", "a password is not sent back"


def test_a_taken_name(web: WebStage) -> None:
    web.customer("otto")
    page = Reading(web.client().submit("/join", username="otto", password=PASSWORD), 409)
    assert "otto is taken" in page.text


def test_logging_out(web: WebStage) -> None:
    browser = web.customer("paula")
    answer = browser.submit("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?out")
    assert "You are logged out" in Reading(browser.get("/login?out")).text
    assert whoami(browser) is None
    assert browser.post("/logout").headers["location"] == "/login?out", "twice does no harm"


def test_no_page_of_another_site_logs_anybody_out(web: WebStage) -> None:
    browser = web.customer("petra")
    browser.csrf = ""
    assert browser.post("/logout").status_code == 403
    assert browser.get("/logout").status_code == 405
    assert whoami(browser) == "petra"


# Certificates


def test_a_certificate_without_an_account(web: WebStage, authority: CertificateAuthority) -> None:
    browser = web.client(authority.client("quinn"))
    page = Reading(browser.get("/login"))
    answer = browser.post("/login/certificate", data=page.forms["/login/certificate"].fields)
    page = Reading(answer, 401)
    assert "No account is bound to this certificate" in page.alert()
    join = Reading(browser.get(page.links()["Create the account quinn"]))
    form = join.forms["/join"]
    assert form.fields["username"] == "quinn"
    answer = browser.post("/join", data={**form.fields, "name": "Quinn"})
    assert answer.status_code == 303
    account = browser.get("/api/account").json()
    assert (account["username"], account["has_password"]) == ("quinn", False)
    assert account["certificate"].endswith("/quinn")


def test_a_certificate_is_for_its_own_name(web: WebStage, authority: CertificateAuthority) -> None:
    browser = web.client(authority.client("ruth"))
    form = Reading(browser.get("/join")).forms["/join"]
    page = Reading(browser.post("/join", data={**form.fields, "username": "rita"}), 403)
    assert "for ruth alone" in page.alert()


def test_back_by_certificate_after_logging_out(web: WebStage, authority: CertificateAuthority) -> None:
    browser = web.client(authority.client("sina"))
    form = Reading(browser.get("/join")).forms["/join"]
    assert browser.post("/join", data=form.fields).status_code == 303
    browser.submit("/logout")
    assert whoami(browser) is None
    form = Reading(browser.get("/login?next=/rewards")).forms["/login/certificate"]
    answer = browser.post("/login/certificate", data=form.fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/rewards")
    assert whoami(browser) == "sina"


def test_without_a_certificate_there_is_no_such_form(web: WebStage) -> None:
    browser = web.client()
    page = Reading(browser.get("/login"))
    assert "/login/certificate" not in page.forms
    assert Reading(browser.post("/login/certificate"), 401).alert()
