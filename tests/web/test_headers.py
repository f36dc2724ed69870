"""What every answer tells the browser: one test for each security header, and for each flag of a cookie."""

import re
import ssl
from collections.abc import Callable
from http.cookies import Morsel, SimpleCookie

import httpx
import pytest
from web.stage import PASSWORD, Browser, WebStage

from securedelivery.web.rendering import STATIC, static

YEAR = 31_536_000
SCRIPT = next(iter(sorted(STATIC.glob("*.js")))).name

KINDS: dict[str, Callable[[Browser], httpx.Response]] = {
    "page": lambda browser: browser.get("/"),
    "page without login": lambda browser: browser.get("/login"),
    "page that is not there": lambda browser: browser.get("/no-such-page"),
    "page that wants a login": lambda browser: browser.get("/orders"),
    "page of another verb": lambda browser: browser.delete("/basket"),
    "form from elsewhere": lambda browser: browser.post("/basket", headers={"Origin": "https://evil.example"}),
    "form that is too large": lambda browser: browser.post("/basket", content=b"a=" + 70_000 * b"a"),
    "answer of the API": lambda browser: browser.get("/api/system"),
    "problem": lambda browser: browser.get("/api/account"),
    "path of the API that is not there": lambda browser: browser.get("/api/nothing"),
    "reference of the API": lambda browser: browser.get("/api/docs"),
    "OpenAPI document": lambda browser: browser.get("/api/openapi.json"),
    "script": lambda browser: browser.get(static(SCRIPT)),
    "style": lambda browser: browser.get(static("shop.css")),
    "file that is not there": lambda browser: browser.get("/static/none.js"),
    "way out of the folder": lambda browser: browser.get("/static/..%2fapp.py"),
}
STATUS = {
    "page": 200, "page without login": 200, "page that is not there": 404, "page that wants a login": 303,
    "page of another verb": 405, "form from elsewhere": 403, "form that is too large": 413, "answer of the API": 200,
    "problem": 401, "path of the API that is not there": 404, "reference of the API": 200, "OpenAPI document": 200,
    "script": 200, "style": 200, "file that is not there": 404, "way out of the folder": 404,
}  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def answer(request: pytest.FixtureRequest, web: WebStage) -> httpx.Response:
    """One of each kind of answer, for a browser that is not logged in."""
    found = KINDS[request.param](web.client())
    assert found.status_code == STATUS[request.param], found.text
    return found


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    """The Content-Security-Policy: sources by directive."""
    (header,) = answer.headers.get_list("content-security-policy")
    directives = [one.split() for one in header.split(";")]
    assert len({one[0] for one in directives}) == len(directives)
    return {name: sources for name, *sources in directives}


def test_strict_transport_security(answer: httpx.Response) -> None:
    (header,) = answer.headers.get_list("strict-transport-security")
    age = re.match(r"max-age=(\d+)", header)
    assert age is not None
    assert int(age[1]) >= YEAR
    assert "includesubdomains" not in header.lower()


def test_content_security_policy_allows_nothing_that_it_does_not_name(answer: httpx.Response) -> None:
    assert policy(answer)["default-src"] == ["'none'"]


@pytest.mark.parametrize("directive", ["script-src", "style-src", "connect-src", "form-action"])
def test_content_security_policy_allows_its_own_alone(answer: httpx.Response, directive: str) -> None:
    assert policy(answer)[directive] == ["'self'"]


def test_content_security_policy_allows_pictures_within_the_page(answer: httpx.Response) -> None:
    assert policy(answer)["img-src"] == ["'self'", "data:"]


@pytest.mark.parametrize("directive", ["base-uri", "frame-ancestors"])
def test_content_security_policy_denies_what_has_no_default(answer: httpx.Response, directive: str) -> None:
    assert policy(answer)[directive] == ["'none'"]


def test_content_security_policy_has_no_hole(answer: httpx.Response) -> None:
    for sources in policy(answer).values():
        for source in sources:
            assert source in ("'self'", "'none'", "data:")
    assert "data:" not in policy(answer)["script-src"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ],
)
def test_header(answer: httpx.Response, header: str, value: str) -> None:
    assert answer.headers.get_list(header) == [value]


def test_permissions_policy_allows_no_device(answer: httpx.Response) -> None:
    (header,) = answer.headers.get_list("permissions-policy")
    features = [one.strip() for one in header.split(",")]
    assert {"camera=()", "geolocation=()", "microphone=()"} <= set(features)
    assert all(one.endswith("=()") for one in features)


def test_nobody_else_may_read_it(answer: httpx.Response) -> None:
    assert [name for name in answer.headers if name.startswith("access-control-")] == []


def test_it_does_not_say_what_it_runs_on(answer: httpx.Response) -> None:
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers
    if answer.request.url.path not in ("/api/docs", "/api/openapi.json"):
        assert not re.search(r"uvicorn|starlette|python", answer.text.lower())


def test_it_has_one_type_and_says_which(answer: httpx.Response) -> None:
    if answer.status_code == 303:
        assert answer.content == b""
    else:
        (kind,) = answer.headers.get_list("content-type")
        if kind.startswith("text/"):
            assert kind.endswith("charset=utf-8")


def test_only_files_with_a_version_are_kept(answer: httpx.Response) -> None:
    (header,) = answer.headers.get_list("cache-control")
    if answer.request.url.params.get("v"):
        assert header == "public, max-age=31536000, immutable"
    elif answer.request.url.path == "/api/openapi.json":  # the same for everybody
        assert "immutable" not in header
    else:
        assert header == "no-store"


def test_a_file_without_its_version_is_asked_for_again(web: WebStage) -> None:
    assert web.client().get(f"/static/{SCRIPT}").headers["cache-control"] == "no-cache"


def test_an_answer_to_somebody_is_not_kept(web: WebStage) -> None:
    agatha = web.customer("agatha", address="12 Wharf Lane")
    for path in ("/", "/account", "/orders", "/api/account", "/api/orders", "/account/export"):
        found = agatha.get(path)
        assert (path, found.status_code, found.headers["cache-control"]) == (path, 200, "no-store")


def test_scripts_are_scripts(web: WebStage) -> None:
    """With nosniff, a module of another type does not run."""
    browser = web.client()
    kinds = {path.suffix: browser.get(static(path.name)).headers["content-type"] for path in STATIC.iterdir()}
    assert kinds[".js"].partition(";")[0] in ("text/javascript", "application/javascript")
    assert kinds[".css"].partition(";")[0] == "text/css"


@pytest.mark.parametrize("path", ["/", "/login", "/join", "/basket", "/products/CPU-1", "/no-such-page", "/api/docs"])
def test_no_page_has_what_the_policy_would_stop(web: WebStage, path: str) -> None:
    """Nothing inline, and nothing of another origin."""
    text = web.client().get(path).text
    assert re.search(r"<!doctype html>", text, re.IGNORECASE)
    assert re.findall(r"<script(?![^>]*\ssrc=)[^>]*>", text) == []
    assert re.findall(r"<style\b", text) == []
    assert re.findall(r"<[^>]+\sstyle=", text) == []
    assert re.findall(r"<[^>]+\son[a-z]+\s*=", text) == []
    assert re.findall(r"javascript:", text, re.IGNORECASE) == []
    assert re.findall(r"<(?:script|link|img|source|iframe)[^>]+(?:src|href)=[\"'](?:https?:)?//", text) == []


def test_it_speaks_tls_1_3_alone(web: WebStage) -> None:
    context = web.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Browser(web.url, context) as old, pytest.raises(httpx.ConnectError):
        old.get("/")
    with Browser(web.url, web.tls()) as current:
        assert current.get("/").status_code == 200


def test_nothing_is_said_in_clear(web: WebStage) -> None:
    with Browser(web.url.replace("https:", "http:"), web.tls()) as clear, pytest.raises(httpx.HTTPError):
        clear.get("/")


# Cookies


def of_session(browser: Browser) -> httpx.Response:
    return browser.post("/api/accounts", json={"username": "agnes", "password": PASSWORD})


def of_login(browser: Browser) -> httpx.Response:
    return browser.post("/api/session", json={"username": "amelia", "password": PASSWORD})


def of_login_page(browser: Browser) -> httpx.Response:
    return browser.post("/login", data={"username": "amelia", "password": PASSWORD})


def of_logout(browser: Browser) -> httpx.Response:
    browser.log_in("amelia")
    return browser.delete("/api/session")


def of_logout_page(browser: Browser) -> httpx.Response:
    browser.log_in("amelia")
    return browser.submit("/logout")


def of_basket(browser: Browser) -> httpx.Response:
    return browser.post("/basket", data={"sku": "CPU-1", "quantity": "1", "action": "add"})


SETTERS = {
    "__Host-session": [of_session, of_login, of_login_page, of_logout, of_logout_page],
    "__Host-basket": [of_basket],
}


@pytest.fixture(
    scope="module",
    params=[(name, way) for name, ways in SETTERS.items() for way in ways],
    ids=lambda one: one[1].__name__,
)
def cookie(request: pytest.FixtureRequest, web: WebStage) -> "Morsel[str]":
    name, way = request.param
    with web.client() as first:
        first.post("/api/accounts", json={"username": "amelia", "password": PASSWORD})  # 409 from the second time on
    answer = way(web.client())
    assert answer.status_code < 400, answer.text
    headers = [one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{name}=")]
    assert len(headers) == 1, answer.headers
    found: Morsel[str] = SimpleCookie(headers[0])[name]
    return found


def test_a_cookie_is_sent_over_tls_alone(cookie: "Morsel[str]") -> None:
    assert cookie["secure"] is True


def test_a_cookie_is_for_no_script(cookie: "Morsel[str]") -> None:
    assert cookie["httponly"] is True


def test_a_cookie_does_not_come_with_what_other_sites_post(cookie: "Morsel[str]") -> None:
    assert cookie["samesite"].lower() == "lax"


def test_a_cookie_is_for_the_whole_host(cookie: "Morsel[str]") -> None:
    """Which its prefix has the browser insist on, so that no other host of the domain can set it."""
    assert cookie.key.startswith("__Host-")
    assert cookie["path"] == "/"


def test_a_cookie_is_for_this_host_alone(cookie: "Morsel[str]") -> None:
    assert cookie["domain"] == ""


def test_a_cookie_of_a_session_cannot_be_guessed(web: WebStage) -> None:
    values = set()
    for _ in range(3):
        with web.client() as browser:
            browser.post("/api/accounts", json={"username": "amelia", "password": PASSWORD})
            values.add(SimpleCookie(of_login(browser).headers["set-cookie"])["__Host-session"].value)
    assert len(values) == 3
    assert all(len(value) >= 43 for value in values)  # 256 bits


def test_logging_out_takes_the_cookie_back(web: WebStage) -> None:
    with web.client() as browser:
        browser.post("/api/accounts", json={"username": "amelia", "password": PASSWORD})
        taken = SimpleCookie(of_logout(browser).headers["set-cookie"])["__Host-session"]
    assert taken.value == ""
    assert taken["max-age"] == "0"
