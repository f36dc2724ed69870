"""Who asks: sessions, certificates, CSRF, Origin."""

import sqlite3
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest
from certificate_authority import CertificateAuthority
from web.stage import PASSWORD, Browser, WebStage

from securedelivery.errors import StoreError
from securedelivery.model import Role, timestamp
from securedelivery.service import web_sessions

COOKIE = "__Host-session"


def whoami(browser: Browser) -> str | None:
    answer = browser.get("/api/account")
    assert answer.status_code in (200, 401)
    return answer.json().get("username")


def test_the_cookie_of_a_session(web: WebStage) -> None:
    answer = web.client().post("/api/accounts", json={"username": "cora", "password": PASSWORD})
    [morsel] = SimpleCookie(answer.headers["set-cookie"]).values()
    assert morsel.key == COOKIE
    assert len(morsel.value) == 43
    assert (morsel["path"], morsel["domain"], morsel["samesite"]) == ("/", "", "Lax")
    assert morsel["secure"]
    assert morsel["httponly"]
    assert morsel["max-age"] == "2592000"


def test_the_database_has_no_token(web: WebStage) -> None:
    dora = web.customer("dora")
    token = dora.cookies[COOKIE]
    web.shop.database.checkpoint()
    for file in Path(web.folder).glob("shop.db*"):
        assert token.encode() not in file.read_bytes()


def test_a_login_renews_the_session(web: WebStage) -> None:
    """A token that was there before it, planted by somebody perhaps, is worth nothing afterwards."""
    edda = web.customer("edda")
    before = edda.cookies[COOKIE]
    edda.log_in("edda")
    after = edda.cookies[COOKIE]
    assert after != before
    thief = web.client()
    thief.cookies.set(COOKIE, before)
    assert whoami(thief) is None
    assert whoami(edda) == "edda"


def test_logging_out_ends_it(web: WebStage) -> None:
    fenna = web.customer("fenna")
    token = fenna.cookies[COOKIE]
    answer = fenna.delete("/api/session")
    assert answer.json() == {}
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert "x-csrf-token" not in answer.headers
    assert COOKIE not in fenna.cookies
    fenna.cookies.set(COOKIE, token)
    assert whoami(fenna) is None


def test_another_password_ends_the_other_sessions_and_renews_this_one(web: WebStage) -> None:
    gesa = web.customer("gesa")
    elsewhere = web.client()
    elsewhere.log_in("gesa")
    before = gesa.cookies[COOKIE]
    body = {"old_password": PASSWORD, "new_password": "another horse 8"}
    assert gesa.put("/api/account/password", json=body).json() == {}
    assert gesa.cookies[COOKIE] != before
    assert whoami(gesa) == "gesa"
    gone = elsewhere.get("/api/account")
    assert gone.status_code == 401
    assert "set-cookie" not in gone.headers, "the browser may have another one by now, from another tab"


@pytest.mark.parametrize("end", ["disabled", "deleted", "reset"])
def test_what_ends_a_session_on_the_socket_ends_it_here(web: WebStage, end: str) -> None:
    name = f"hanna-{end}"
    hanna = web.customer(name)
    if end == "disabled":
        web.shop.accounts.disable(None, name, True)
    elif end == "reset":
        web.shop.accounts.reset_password(name, "another horse 9")
    else:
        assert hanna.request("DELETE", "/api/account", json={"password": PASSWORD}).json() == {}
    assert whoami(hanna) is None
    if end == "disabled":
        web.shop.accounts.disable(None, name, False)
        assert whoami(hanna) is None, "let in again, it has to log in again"


def test_a_role_changes_at_once(web: WebStage) -> None:
    ilse = web.customer("ilse")
    assert ilse.get("/api/chat/conversations").status_code == 403
    web.shop.accounts.set_role(None, "ilse", Role.AGENT)
    assert ilse.get("/api/chat/conversations").status_code == 200


@pytest.mark.parametrize(
    ("role", "life", "idle"),
    [(Role.CUSTOMER, web_sessions.LIFE, web_sessions.IDLE), (Role.COURIER, web_sessions.STAFF_LIFE, None)],
)
def test_a_session_ends_by_itself(web: WebStage, role: Role, life: timedelta, idle: timedelta | None) -> None:
    browser = web.staff(f"old-{role}", role)
    for column, age in (("opened_at", life), ("seen_at", idle)):
        if age is None:
            continue
        browser.log_in(f"old-{role}")
        _age(web, column, age - timedelta(minutes=1))
        assert whoami(browser) == f"old-{role}"
        browser.log_in(f"old-{role}")
        _age(web, column, age + timedelta(minutes=1))
        assert whoami(browser) is None


def _age(web: WebStage, column: str, age: timedelta) -> None:
    """Have every session be as old."""
    connection = sqlite3.connect(web.folder / "shop.db", isolation_level=None)
    then = timestamp(datetime.now(UTC) - age)
    connection.execute(f"UPDATE web_sessions SET {column} = ?", (then,))  # noqa: S608
    connection.close()


@pytest.mark.parametrize("cookie", ["", "x", "A" * 43, "logged-out", "ä", '"', "A" * 5_000])
def test_a_cookie_that_is_nobodys(web: WebStage, cookie: str) -> None:
    answer = web.client().get("/api/account", headers={"Cookie": f"{COOKIE}={cookie}".encode()})
    assert answer.status_code == 401


# CSRF


def test_without_the_token_nothing_is_changed(web: WebStage) -> None:
    jule = web.customer("jule")
    other = web.customer("jules-other")
    token = jule.csrf
    assert len(token) == 43
    order = {"lines": [{"sku": "RAM-1", "quantity": 1}], "address": "12 Wharf Lane"}
    for wrong in ("", "A" * 43, other.csrf, "ä".encode()):
        answer = jule.post("/api/orders", json=order, headers={"Idempotency-Key": "k", "X-CSRF-Token": wrong})
        assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden")
        assert "X-CSRF-Token" in answer.json()["detail"]
    assert jule.get("/api/orders").json()["items"] == []
    jule.csrf = token
    assert jule.order(("RAM-1", 1), key="k")


def test_a_new_session_has_a_new_token(web: WebStage) -> None:
    kaja = web.customer("kaja")
    before = kaja.csrf
    kaja.log_in("kaja")
    assert kaja.csrf not in ("", before)


def test_to_read_none_is_needed(web: WebStage) -> None:
    lisa = web.customer("lisa")
    assert lisa.get("/api/orders", headers={"X-CSRF-Token": "wrong"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_can_have_nothing_done(web: WebStage, headers: dict[str, str]) -> None:
    """Not even a login: whoever was logged in as somebody else would order for him."""
    answer = web.client().post("/api/session", json={"username": "mia", "password": PASSWORD}, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden")


def test_our_own_page_can(web: WebStage) -> None:
    nele = web.customer("nele")
    for headers in ({"Origin": web.url}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert nele.patch("/api/account", json={"name": "Nele"}, headers=headers).status_code == 200


def test_another_site_can_read_nothing(web: WebStage) -> None:
    answer = web.client().get("/api/catalog", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    asked = web.client().options("/api/orders", headers={"Origin": "https://evil.example"})
    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control-")]


# Certificates


def test_a_certificate_logs_in(web: WebStage, authority: CertificateAuthority) -> None:
    olga = web.client(authority.client("olga"))
    assert whoami(olga) is None, "it has no account yet"
    assert olga.csrf
    made = olga.post("/api/accounts", json={"username": "olga"})
    assert made.json()["certificate"].endswith("/account/olga")
    olga.cookies.clear()
    assert whoami(olga) == "olga"
    again = web.client(authority.client("olga"))
    assert whoami(again) == "olga"
    assert "set-cookie" not in again.get("/api/account").headers


def test_a_certificate_needs_the_csrf_token_as_a_cookie_does(web: WebStage, authority: CertificateAuthority) -> None:
    paula = web.client(authority.client("paula"))
    made = paula.post("/api/accounts", json={"username": "paula"})
    assert (made.status_code, made.json()["reason"]) == (403, "forbidden")
    assert paula.post("/api/accounts", json={"username": "paula"}).status_code == 201
    paula.cookies.clear()
    paula.get("/api/account")
    answer = paula.patch("/api/account", json={"name": "Paula"}, headers={"X-CSRF-Token": "A" * 43})
    assert answer.status_code == 403
    assert paula.patch("/api/account", json={"name": "Paula"}).json()["name"] == "Paula"


def test_a_certificate_is_for_its_own_name(web: WebStage, authority: CertificateAuthority) -> None:
    web.customer("quinn")
    rita = web.client(authority.client("rita"))
    rita.get("/api/system")
    answer = rita.post("/api/session", json={"username": "quinn", "password": PASSWORD})
    assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden")
    quinn = web.client()
    quinn.log_in("quinn")
    rita.cookies.set(COOKIE, quinn.cookies[COOKIE])
    assert whoami(rita) is None, "nor does another's cookie count beside it"


def test_who_logs_out_stays_out_until_the_next_login(web: WebStage, authority: CertificateAuthority) -> None:
    sara = web.client(authority.client("sara"))
    sara.get("/api/system")
    sara.post("/api/accounts", json={"username": "sara"})
    sara.delete("/api/session")
    assert sara.cookies[COOKIE] == "logged-out"
    assert whoami(sara) is None
    assert sara.post("/api/session/certificate").json()["username"] == "sara"
    assert whoami(sara) == "sara"


def test_an_account_that_needs_its_certificate_has_no_session_without(
    web: WebStage, authority: CertificateAuthority
) -> None:
    tilda = web.client(authority.client("tilda"))
    tilda.get("/api/system")
    tilda.post("/api/accounts", json={"username": "tilda", "password": PASSWORD})
    bare = web.client()
    bare.log_in("tilda")
    assert whoami(bare) == "tilda"
    web.shop.accounts.require_certificate("tilda", True)
    assert whoami(bare) is None
    assert whoami(tilda) == "tilda"


def test_one_login_a_connection_stands_in_the_audit(web: WebStage, authority: CertificateAuthority) -> None:
    ulla = web.client(authority.client("ulla"))
    ulla.get("/api/system")
    ulla.post("/api/accounts", json={"username": "ulla"})
    ulla.cookies.clear()
    for _ in range(3):
        assert whoami(ulla) == "ulla"
    found, _ = web.shop.audits.list(None, account="ulla", action="login")
    assert [record.detail["method"] for record in found] == ["certificate"]


def test_what_changes_an_account_reaches_its_certificate(web: WebStage, authority: CertificateAuthority) -> None:
    vera = web.client(authority.client("vera"))
    vera.get("/api/system")
    vera.post("/api/accounts", json={"username": "vera"})
    vera.cookies.clear()
    assert whoami(vera) == "vera"
    web.shop.accounts.disable(None, "vera", True)
    assert whoami(vera) is None
    web.shop.accounts.disable(None, "vera", False)
    assert whoami(vera) == "vera", "an account that is let in again is so by its certificate as well"


def test_a_certificate_that_names_no_account_is_none(web: WebStage, authority: CertificateAuthority) -> None:
    edge = web.client(authority.proxy("edge"))
    answer = edge.get("/api/account")
    assert answer.status_code == 401
    assert "x-csrf-token" not in answer.headers


def test_a_strangers_certificate_is_refused_by_tls(web: WebStage) -> None:
    stranger = web.client(CertificateAuthority().client("olga"))
    with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
        stranger.get("/api/system")


def test_what_a_certificate_has_opened_is_good_with_it_alone(web: WebStage, authority: CertificateAuthority) -> None:
    """Whoever has stolen the key, and takes a cookie with it, is out when it is revoked."""
    willa = web.client(authority.client("willa"))
    willa.get("/api/system")
    willa.post("/api/accounts", json={"username": "willa", "password": PASSWORD})
    thief = web.client()
    thief.cookies.set(COOKIE, willa.cookies[COOKIE])
    assert whoami(thief) is None
    assert whoami(willa) == "willa"
    thief.cookies.clear()
    thief.log_in("willa")
    assert whoami(thief) == "willa", "by password it is a session of its own"


def locked(web: WebStage) -> sqlite3.Connection:
    """Another program that keeps the database locked; close it."""
    other = sqlite3.connect(web.folder / "shop.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_logout_that_fails_can_be_tried_again(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    xaver = web.customer("xaver")
    monkeypatch.setattr(web.shop.database.writer, "_busy_seconds", 0.1)
    other = locked(web)
    failed = xaver.delete("/api/session")
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in failed.headers
    other.close()
    assert whoami(xaver) == "xaver"
    assert xaver.delete("/api/session").status_code == 200
    assert whoami(xaver) is None


def test_an_account_is_made_though_its_session_is_not(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that is put in: the disk is full just then."""

    def full(*_: object) -> str:
        raise StoreError("the disk is full")

    monkeypatch.setattr(web.shop.web_sessions, "open", full)
    browser = web.client()
    answer = browser.post("/api/accounts", json={"username": "yara-full", "password": PASSWORD})
    assert answer.status_code == 201
    assert "Max-Age=0" in answer.headers["set-cookie"]
    login = browser.post("/api/session", json={"username": "yara-full", "password": PASSWORD})
    assert login.status_code == 503
    monkeypatch.undo()
    assert browser.log_in("yara-full")["username"] == "yara-full"


def test_a_database_that_is_away_is_a_refusal_everywhere(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreError("the disk has gone")

    zita = web.customer("zita")
    monkeypatch.setattr(web.shop.web_sessions, "find", away)
    for path in ("/api/account", "/orders", "/nowhere", "/"):
        answer = zita.get(path)
        assert answer.headers["content-security-policy"]
        assert answer.status_code in ((404,) if path == "/nowhere" else (503,)), path
    assert zita.get("/orders").headers["retry-after"] == "1"
