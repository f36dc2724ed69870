"""The page to which mails link: what a person sees there, what a mail provider's POST does, and what neither can."""

import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from web.stage import Browser, WebStage

from securedelivery.mail.links import Site
from securedelivery.model import OrderId
from securedelivery.service import opt_out
from securedelivery.service.opt_out import MailChoice
from securedelivery.store import accounts, audit

WORDS = {
    MailChoice.RECEIPTS: "mail about your orders",
    MailChoice.SUMMARIES: "monthly summaries",
    MailChoice.MISSED_CHAT: "mail about missed chat",
}
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


class Seen(HTMLParser):
    """A page as a person has it. forms: those of its content; buttons: their words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.said = ""
        self.links: list[str] = []
        self.forms: list[dict[str, str | None]] = []
        self.buttons: list[str] = []
        self._open: list[str] = []
        self.feed(html.partition("<main")[2].partition("</main>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        if tag == "form":
            self.forms.append(dict(attrs))
        if tag == "button":
            self.buttons.append("")
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data
        if self._open and self._open[-1] == "button":
            self.buttons[-1] += data


@pytest.fixture
def provider(web: WebStage) -> Iterator[httpx.Client]:
    """A mail provider's program: no cookies, no certificate, no Origin."""
    with httpx.Client(base_url=web.url, verify=web.tls(), timeout=20, trust_env=False) as client:
        yield client


def token(web: WebStage, name: str, choice: MailChoice = MailChoice.SUMMARIES) -> str:
    with web.shop.database.read() as tx:
        row = accounts.by_username(tx, name)
    assert row is not None
    return opt_out.token(web.shop.database.vault, row, choice)


def wanted(web: WebStage, name: str) -> set[str]:
    mail = web.shop.accounts.named(name).mail
    return {choice.value for choice in MailChoice if getattr(mail, choice)}


def changes(web: WebStage, name: str) -> list[str | None]:
    """Of the audit, about the mail of the account."""
    with web.shop.database.read() as tx:
        row = accounts.by_username(tx, name)
        assert row is not None
        rows = audit.of_account(tx, row.id, 0, 1_000)
    return [one.entry.detail for one in rows if one.entry.action == "account.mail_changed"]


@pytest.mark.parametrize("choice", MailChoice)
def test_a_person_clicks(web: WebStage, choice: MailChoice) -> None:
    name = f"paula-{choice.value.replace('_', '-')}"
    web.customer(name)
    visitor = web.client()
    address = f"/mail/off?token={token(web, name, choice)}"
    page = visitor.get(address)
    assert page.status_code == 200
    seen = Seen(page.text)
    assert f"No more {WORDS[choice]}?" in seen.said
    assert "Nothing has changed yet" in seen.said
    assert name not in page.text  # nothing of whoever the mail was for
    assert (seen.forms, seen.buttons) == ([{"method": "post", "action": address}], [f"No more {WORDS[choice]}"])
    assert wanted(web, name) == set(MailChoice)
    done = visitor.post(str(seen.forms[0]["action"]), headers={"Origin": web.url, "Sec-Fetch-Site": "same-origin"})
    assert done.status_code == 200
    after = Seen(done.text)
    assert f"No more {WORDS[choice]}" in after.said
    assert (after.forms, after.links) == ([], ["/account#mail"])
    assert wanted(web, name) == set(MailChoice) - {choice}
    assert changes(web, name) == [f'{{"by":"mail link","{choice}":false}}']


def test_following_the_link_changes_nothing(web: WebStage, provider: httpx.Client) -> None:
    web.customer("quentin")
    address = f"/mail/off?token={token(web, 'quentin')}"
    for verb in ("GET", "HEAD", "GET", "OPTIONS", "PUT", "DELETE", "PATCH"):
        answer = provider.request(verb, address)
        assert answer.status_code in ((200,) if verb in ("GET", "HEAD") else (405, 204, 200))
    assert wanted(web, "quentin") == set(MailChoice)
    assert changes(web, "quentin") == []


POSTS: dict[str, dict[str, Any]] = {
    "urlencoded": {"data": ONE_CLICK},
    "multipart": {"files": {"List-Unsubscribe": (None, "One-Click")}},  # RFC 8058 has either
    "empty": {"content": b""},
    "webmail": {"data": ONE_CLICK, "headers": {"Origin": "https://mail.example", "Sec-Fetch-Site": "cross-site"}},
    "nowhere": {"data": ONE_CLICK, "headers": {"Origin": "null"}},
    "old-cookie": {"data": ONE_CLICK, "headers": {"Cookie": "__Host-session=" + "a" * 43}},
}


@pytest.mark.parametrize("way", POSTS)
def test_a_provider_posts(web: WebStage, provider: httpx.Client, way: str) -> None:
    web.customer(f"rosa-{way}")
    answer = provider.post(f"/mail/off?token={token(web, f'rosa-{way}')}", **POSTS[way])
    assert answer.status_code == 200  # RFC 8058: not a redirect
    assert wanted(web, f"rosa-{way}") == {"receipts", "missed_chat"}


def test_twice_is_once(web: WebStage, provider: httpx.Client) -> None:
    web.customer("simon")
    address = f"/mail/off?token={token(web, 'simon')}"
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: provider.post(address, data=ONE_CLICK).status_code, range(12)))
    assert answers == [200] * 12
    assert len(changes(web, "simon")) == 1
    assert "No more monthly summaries?" not in Seen(provider.get(address).text).said
    assert "No more monthly summaries" in Seen(provider.get(address).text).said


def test_whoever_is_logged_in_needs_no_more(web: WebStage) -> None:
    """And it is the link that counts: another customer's mail, opened in this browser, is that customer's."""
    browser: Browser = web.customer("theo")
    web.customer("ute")
    address = f"/mail/off?token={token(web, 'ute')}"
    assert "monthly summaries" in browser.get(address).text
    browser.csrf = ""
    assert browser.post(address).status_code == 200
    assert wanted(web, "ute") == {"receipts", "missed_chat"}
    assert wanted(web, "theo") == set(MailChoice)
    assert browser.get("/api/account").status_code == 200  # logged in as before


@pytest.fixture(scope="module")
def vera(web: WebStage) -> str:
    """The token of somebody who goes on getting all mail."""
    web.customer("vera")
    return token(web, "vera")


WRONG = ["", "?token=", "?token=abc", "?token={cut}", "?token={of}x", "?other={of}", "?token=%00%ff<script>", "?{of}"]


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_what_is_no_link(web: WebStage, provider: httpx.Client, vera: str, what: str, verb: str) -> None:
    answer = provider.request(verb, "/mail/off" + what.format(cut=vera[:-1], of=vera))
    assert answer.status_code == 404
    seen = Seen(answer.text)
    assert "This link ends no mail" in seen.said
    assert (seen.forms, seen.links) == ([], ["/account#mail"])
    assert "script>" not in answer.text.partition("<main")[2]
    assert wanted(web, "vera") == set(MailChoice)


def test_of_a_deleted_account(web: WebStage, provider: httpx.Client) -> None:
    browser = web.customer("willi")
    address = f"/mail/off?token={token(web, 'willi')}"
    assert browser.request("DELETE", "/api/account", json={"password": "correct horse 7"}).status_code == 200
    assert [provider.get(address).status_code, provider.post(address).status_code] == [404, 404]


def test_the_page_tells_nobody_of_its_address(web: WebStage, provider: httpx.Client) -> None:
    web.customer("xenia")
    for address in (f"/mail/off?token={token(web, 'xenia')}", "/mail/off?token=wrong"):
        for answer in (provider.get(address), provider.post(address)):
            assert answer.headers["Referrer-Policy"] == "same-origin", "no other site learns of the link"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert "set-cookie" not in answer.headers


def test_no_log_has_the_link(
    web: WebStage, provider: httpx.Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    web.customer("yann")
    text = token(web, "yann")
    provider.get(f"/mail/off?token={text}")
    provider.post(f"/mail/off?token={text}")
    provider.post(f"/mail/off?token={text[:-1]}")
    told = "".join(capfd.readouterr()) + caplog.text
    assert not re.search(re.escape(text[:-1]), told)


def test_where_the_links_of_mails_lead_there_is_a_page(web: WebStage, provider: httpx.Client) -> None:
    """Some for whoever logs in, or has placed that order; none is a path that the web does not have."""
    browser = web.customer("zeno")
    order = browser.order(("CPU-1", 1), key="zeno 1")["order"]
    links = Site(web.url).links(order=OrderId(order), token=token(web, "zeno"))
    answers = {name: browser.get(str(address)).status_code for name, address in links._asdict().items()}
    assert answers == dict.fromkeys(links._fields, 200)
    assert provider.get(str(links.order)).status_code == 303


def test_while_the_database_is_locked(web: WebStage, provider: httpx.Client) -> None:
    """The provider is told to come again, and a person too."""
    web.customer("zita")
    address = f"/mail/off?token={token(web, 'zita')}"
    with closing(sqlite3.connect(web.folder / "shop.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = provider.post(address, data=ONE_CLICK)
        other.execute("ROLLBACK")
    assert answer.status_code == 503
    assert wanted(web, "zita") == set(MailChoice)
    assert provider.post(address, data=ONE_CLICK).status_code == 200
