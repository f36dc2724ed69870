"""What people type comes to other people's pages and mails as they typed it, and as nothing else."""

import re
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest
from certificate_authority import CertificateAuthority
from end_to_end.mailing import body, section
from mail.smtp_server import MailHost
from web.browser import steps
from web.browser.chromium import Visitor, expect, require_browser
from web.browser.conftest import Visit
from web.browser.process import PASSWORD, Api, WebProcess

from securedelivery.mail.composer import samples
from securedelivery.mail.links import Site
from securedelivery.mail.rendering import Templates

NASTY = "\"'></textarea></title><script>xss=1;alert(1)</script><img src=x onerror=alert(2)>{{7*7}}&lt;b&gt; ${1}"
SHORT = "\"'><svg/onload=alert(3)>&lt;i&gt;"
SHOP = "Parts & <b>Co</b>"
INJECTED = """() => [...document.querySelectorAll("*")].filter(one =>
    one.matches("script:not([src]), img, svg[onload], iframe, object, b, i, [style], [srcdoc], [href^='javascript:' i]")
    || one.getAttributeNames().some(name => name.startsWith("on"))).map(one => one.outerHTML)"""
SHOWN = """() => [document.title, document.body.textContent,
    ...[...document.querySelectorAll("input, textarea")].map(one => one.value)].join("\\n")"""
IN_MAIL = """() => [...document.querySelectorAll("script, svg, iframe, object, form, b, i")]
    .concat([...document.querySelectorAll("img:not([src^='cid:'])")]).map(one => one.outerHTML)"""


def nasty(field: str) -> str:
    """Another for each field, so that one cannot stand for the other."""
    return f"{field} {NASTY}"


@pytest.fixture(scope="module")
def mail_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailHost]:
    with MailHost(tmp_path_factory.mktemp("mail")) as host:
        yield host


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority, mail_host: MailHost
) -> Iterator[WebProcess]:
    """It sends receipts, and its own name is not harmless either."""
    require_browser()
    folder = tmp_path_factory.mktemp("shop")
    settings = {"shop": {"name": SHOP}, "mail.receipts": section(mail_host.server(), folder)}
    with WebProcess(folder, authority, settings) as process:
        yield process


SKU = f"S{SHORT}"
ORDERS = ("open", "live", "cancelled", "refused", "carried")


@pytest.fixture(scope="module")
def numbers(shop: WebProcess) -> dict[str, int]:
    """Orders and a conversation into which everybody has typed the worst."""
    admin, agent, courier = (
        shop.staff(name, role) for name, role in (("anton", "admin"), ("agda", "agent"), ("corin", "courier"))
    )
    product = {
        "name": nasty("product"),
        "description": nasty("description"),
        "price": 10_000,
        "stock": 100,
        "active": True,
    }
    put(admin, f"/api/catalog/{quote(SKU, safe='')}", **product)
    customer = shop.customer("hilda", name=nasty("name"), email="hilda@post.example", address=nasty("address"))
    found = {}
    for name in ORDERS:
        found[name] = customer.order((SKU, 2), key=f"key {name}", address=nasty(f"to {name}"))["order"]
    customer.request("DELETE", f"/api/orders/{found['cancelled']}", json={"reason": nasty("reason")}).raise_for_status()
    why = {"reason": nasty("refusal")}
    agent.request("DELETE", f"/api/orders/{found['refused']}", json=why).raise_for_status()
    steps.advance(agent, found["carried"], "confirmed", note=nasty("note of the agent"))
    steps.advance(agent, found["carried"], "packed")
    steps.advance(agent, found["carried"], "out_for_delivery", courier="corin")
    steps.advance(courier, found["carried"], "packed", note=nasty("note of the courier"))
    steps.advance(courier, found["carried"], "out_for_delivery")
    asked = customer.post("/api/chat/messages", json={"text": nasty("question"), "message_key": nasty("k")}).json()
    found["conversation"] = asked["conversation"]
    answer = {"text": nasty("answer"), "message_key": nasty("k"), "conversation": asked["conversation"]}
    agent.post("/api/chat/messages", json=answer).raise_for_status()
    for api in (admin, agent, courier, customer):
        api.close()
    return found


def put(api: Api, path: str, **body: object) -> None:
    answer = api.put(path, json=body)
    assert answer.status_code == 200, answer.text


PRODUCT = f"/products/{quote(SKU, safe='')}"
SEES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "hilda": {
        "/": ("product", "description"),
        PRODUCT: ("product", "description"),
        "/basket": ("product",),
        "/checkout": ("product", "address"),
        "/orders": (),
        "/orders/{open}": ("product", "to open"),
        "/orders/{open}/edit": ("product", "to open"),
        "/orders/{cancelled}": ("product", "to cancelled", "reason"),
        "/orders/{refused}": ("refusal",),
        "/orders/{carried}": ("product", "to carried", "note of the agent", "note of the courier"),
        "/rewards": (),
        "/chat": ("question", "answer"),
        "/account": ("name", "address"),
        "/account/delete": (),
    },
    "agda": {
        "/inbox?tab=mine": (),
        "/inbox/{conversation}": ("question", "answer"),
        "/orders": (),
        "/orders/{carried}": ("product", "to carried", "note of the agent", "note of the courier"),
        "/orders/{cancelled}": ("reason",),
    },
    "corin": {
        "/deliveries": ("product", "to carried"),
        "/orders/{carried}": ("product", "to carried", "note of the agent"),
    },
    "anton": {"/": ("product",), "/orders/{open}": ("product", "to open")},
}


def is_clean(visitor: Visitor, *typed: str) -> None:
    """All of that can be read on the page, and none of it has become a part of the page."""
    page = visitor.page
    shown = re.sub(r"\s+", " ", page.evaluate(SHOWN))
    for text in (SHOP, *typed):
        assert re.sub(r"\s+", " ", text) in shown
    assert page.evaluate(INJECTED) == []
    assert page.evaluate("window.xss") is None
    assert visitor.complaints == []


@pytest.mark.parametrize("who", SEES)
def test_on_pages(visit: Visit, numbers: dict[str, int], who: str) -> None:
    visitor = visit(who, new=False)
    if who == "hilda":
        visitor.go(PRODUCT)
        with visitor.page.expect_navigation():
            visitor.page.locator("form[action='/basket']").get_by_role("button").first.click()
    for path, fields in SEES[who].items():
        assert visitor.go(path.format(**numbers)).status == 200
        is_clean(visitor, *map(nasty, fields))


def test_as_it_comes_by_websocket(visit: Visit, numbers: dict[str, int]) -> None:
    """What scripts put on the page is put there as text, too."""
    customer, agent = visit("hilda", new=False), visit("agda", new=False)
    customer.go("/chat")
    agent.go("/inbox/{conversation}".format(**numbers))
    for visitor in (customer, agent):
        expect(visitor.page.locator("[data-live-state]").first).to_contain_text("Connected")
    steps.say(customer.page, nasty("live question"))
    expect(agent.page.locator("[data-chat]")).to_contain_text("live question")
    steps.say(agent.page, nasty("live answer"))
    expect(customer.page.locator("[data-chat]")).to_contain_text("live answer")
    expect(agent.page.locator(".message-pending")).to_have_count(0)
    for visitor in (customer, agent):
        is_clean(visitor, nasty("live question"), nasty("live answer"))


def test_as_an_order_changes_by_itself(visit: Visit, numbers: dict[str, int], shop: WebProcess) -> None:
    customer = visit("hilda", new=False)
    customer.go("/orders/{live}".format(**numbers))
    with shop.api() as agent:
        agent.log_in("agda")
        steps.advance(agent, numbers["live"], "confirmed", note=nasty("late note"))
    expect(customer.page.locator("[aria-current=step]")).to_contain_text("Confirmed")
    is_clean(customer, nasty("late note"))


@pytest.mark.parametrize(
    ("who", "path", "texts"),
    [
        ("", "/?{q}", {"q": NASTY}),
        ("", "/?{q}", {"q": "memory", "after": NASTY}),
        ("", f"/products/{quote(NASTY, safe='')}", {}),
        ("", f"/{quote(NASTY, safe='')}", {}),
        ("", "/login?{q}", {"next": f"/{NASTY}"}),
        ("", "/join?{q}", {"next": f"//evil.example/{NASTY}"}),
        ("", "/mail/off?{q}", {"token": NASTY}),
        ("hilda", "/orders?{q}", {"status": NASTY, "after": NASTY}),
        ("hilda", f"/orders/{quote(NASTY, safe='')}", {}),
        ("agda", "/orders?{q}", {"account": NASTY}),
        ("agda", "/inbox?{q}", {"tab": NASTY, "after": NASTY}),
        ("agda", f"/inbox/{quote(NASTY, safe='')}", {}),
        ("corin", "/deliveries?{q}", {"after": NASTY}),
    ],
)
def test_in_an_address(visit: Visit, numbers: dict[str, int], who: str, path: str, texts: dict[str, str]) -> None:
    visitor = visit(who or None, new=False)
    opened = visitor.go(path.format(q=urlencode(texts)))
    assert opened.status < 500
    searched = [texts["q"]] if texts.keys() == {"q"} else []
    is_clean(visitor, *searched)
    assert visitor.page.url.startswith(visitor.url)


@pytest.mark.parametrize(
    ("who", "path", "fields"),
    [
        ("", "/login", {"username": NASTY, "password": PASSWORD}),
        ("", "/join", {"username": NASTY, "name": NASTY, "email": NASTY, "address": NASTY, "password": "no"}),
        ("hilda", "/checkout", {"address": NASTY, "redeem_points": NASTY}),
        ("hilda", "/orders/{open}/edit", {"quantity": NASTY, "address": NASTY}),
        ("hilda", "/account", {"email": NASTY, "name": NASTY}),
        ("agda", "/orders/{carried}", {"courier": NASTY, "note": NASTY}),
        ("agda", "/inbox/{conversation}", {"agent": NASTY}),
        ("corin", "/deliveries", {"code": NASTY}),
    ],
)
def test_in_a_form_that_is_shown_again(
    visit: Visit, numbers: dict[str, int], who: str, path: str, fields: dict[str, str]
) -> None:
    """What was typed stands in the fields again, beside what is wrong with it."""
    visitor = visit(who or None, new=False)
    page = visitor.page
    if path == "/checkout":
        steps.add(page, quote(SKU, safe=""))
    visitor.go(path.format(**numbers))
    form = page.locator(f"main form[method=post]:has([name={next(iter(fields))}])").first
    for name, text in fields.items():
        form.locator(f"[name={name}]").first.evaluate("(field, text) => { field.value = text; }", text)
    with page.expect_navigation():
        form.evaluate("form => { form.noValidate = true; form.requestSubmit(); }")
    is_clean(visitor, NASTY)


# Mails


def rendered(visitor: Visitor, html: str) -> str:
    """Show a mail as a browser does that forbids it nothing; what can be read in it."""
    visitor.go("/login")
    blank = visitor.context.new_page()
    blank.set_content(html)
    assert blank.evaluate(IN_MAIL) == []
    assert blank.evaluate("window.xss") is None
    text: str = re.sub(r"\s+", " ", blank.evaluate("document.body.textContent"))
    blank.close()
    assert visitor.complaints == []
    return text


def test_in_mails_of_orders(visit: Visit, numbers: dict[str, int], mail_host: MailHost) -> None:
    visitor = visit()
    mails: list[EmailMessage] = [received.message for received in mail_host.wait(len(ORDERS) + 2)]
    for mail in mails:
        text = rendered(visitor, body(mail, "html"))
        for field in ("name", "product"):
            assert re.sub(r"\s+", " ", nasty(field)) in text
        assert SHOP in text
    texts = [rendered(visitor, body(mail, "html")) for mail in mails]
    assert any(nasty("to open").strip() in text for text in texts)
    assert any(nasty("refusal").strip() in text for text in texts)


@pytest.mark.parametrize("name", samples(None))
def test_in_every_kind_of_mail(visit: Visit, name: str) -> None:
    """Whatever words a mail is given, they are words in it."""
    given = samples(Site("https://shop.example.org"))[name]
    replaced: list[str] = []
    mail = Templates(None, ZoneInfo("Europe/Berlin")).render(name, hostile(given, replaced))
    assert replaced
    text = rendered(visit(), mail.html)
    assert re.sub(r"\s+", " ", NASTY).strip() in text


def hostile(value: Any, replaced: list[str]) -> Any:
    """The same, with the worst in the place of everything that people have written."""
    if isinstance(value, Mapping):
        return {key: hostile(one, replaced) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [hostile(one, replaced) for one in value]
    if type(value) is str and re.search(r"[A-Za-z]+ ", value):
        replaced.append(value)
        return NASTY
    return value


def test_what_would_be_seen_is_seen(visit: Visit, tmp_path: Path) -> None:
    """The checks themselves, on a page that is not safe."""
    visitor = visit()
    visitor.go("/login")
    visitor.page.evaluate("html => document.querySelector('main').innerHTML = html", f"<p>{NASTY}</p>")
    assert visitor.page.evaluate(INJECTED) != []
    assert visitor.page.evaluate(IN_MAIL) != []
    assert visitor.complaints != []  # its handler is stopped by the policy, which says so
    visitor.forgiven.append("")
