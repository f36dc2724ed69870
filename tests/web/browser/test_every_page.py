"""Every page, for everybody whom it is for: it can be used by all, it stays within itself, and it is light."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from web.browser.chromium import Axe, Chromium, Visitor, require_browser
from web.browser.conftest import ADDRESS
from web.browser.process import MailChoice, WebProcess, cookies
from web.browser.steps import advance

import securedelivery
from securedelivery.web.pages import all_pages

SAMPLE = Path(securedelivery.__file__).parent / "data" / "catalog.csv"
SKU = "CPU-AMD-9700X"
FIRST_PAGE_BYTES = 150_000
SERIOUS = ("serious", "critical")
WIDTHS = (320, 390, 1_280)

PAGES = [
    *[("", path) for path in ("/", "/?q=ryzen", "/?q=typewriter", f"/products/{SKU}", "/login", "/join", "/api/docs")],
    *[("", path) for path in ("/mail/off?token=old", "{way_out}", "/no-such-page", "/basket")],
    *[("nina", path) for path in ("/", f"/products/{SKU}", "/basket", "/checkout", "/orders", "/orders?status=placed")],
    *[("nina", f"/orders/{{{order}}}") for order in ("placed", "carried", "cancelled")],
    ("nina", "/orders/{placed}/edit"),
    *[("nina", path) for path in ("/rewards", "/chat", "/account", "/account/delete", "/inbox")],
    *[("newt", path) for path in ("/basket", "/orders", "/rewards", "/chat")],
    *[("anke", path) for path in ("/inbox", "/inbox?tab=mine", "/inbox?tab=answered", "/inbox/{conversation}")],
    *[("anke", path) for path in ("/orders", "/orders/{placed}", "/orders/{carried}", "/account")],
    *[("cord", path) for path in ("/deliveries", "/orders")],
    *[("adam", path) for path in ("/orders", "/inbox", "/deliveries")],
]  # fmt: skip
ELSEWHERE = {"/account/export", "/api/openapi.json"}  # files, and no pages
REFUSED = {("", "/no-such-page"): 404, ("", "/mail/off?token=old"): 404, ("nina", "/inbox"): 403}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority) -> Iterator[WebProcess]:
    """With the catalog that comes with the product."""
    require_browser()
    with WebProcess(tmp_path_factory.mktemp("shop"), authority, catalog=SAMPLE) as process:
        yield process


@pytest.fixture(scope="module")
def numbers(shop: WebProcess) -> dict[str, int | str]:
    """What there is to be seen: orders in several states, and a conversation."""
    nina = shop.customer("nina", address=ADDRESS, name="Nina Ross", email="nina@post.example")
    shop.customer("newt").close()
    staff = {name: shop.staff(name, role) for name, role in (("anke", "agent"), ("cord", "courier"), ("adam", "admin"))}
    found: dict[str, int | str] = {
        name: nina.order((SKU, 1), key=name)["order"] for name in ("placed", "carried", "cancelled")
    }
    found["way_out"] = shop.way_out("nina", MailChoice.SUMMARIES)
    nina.delete(f"/api/orders/{found['cancelled']}").raise_for_status()
    for status, more in (("confirmed", {}), ("packed", {}), ("out_for_delivery", {"courier": "cord"})):
        advance(staff["anke"], found["carried"], status, **more)
    asked = nina.post("/api/chat/messages", json={"text": "Where is it?", "message_key": "k"}).json()
    found["conversation"] = asked["conversation"]
    answer = {"text": "On its way.", "message_key": "k", "conversation": asked["conversation"]}
    staff["anke"].post("/api/chat/messages", json=answer).raise_for_status()
    for api in (nina, *staff.values()):
        api.close()
    return found


@pytest.fixture(scope="module")
def people(shop: WebProcess, chromium: Chromium, numbers: dict[str, int | str]) -> dict[str, Visitor]:
    """One browser for each, through all their pages; who buys has something in the basket."""
    found = {}
    for name in dict.fromkeys(who for who, _ in PAGES):
        found[name] = chromium.visitor(shop.site, reduced_motion="reduce")  # colours that are on their way are none
        with shop.api() as api:
            if name:
                api.log_in(name)
            if name == "nina":
                fields = {"action": "add", "sku": SKU, "quantity": "2"}
                assert api.submit("/basket", **fields).status_code == 303
            found[name].context.add_cookies(cookies(api, shop.site))
    return found


@pytest.mark.parametrize(("who", "path"), PAGES)
def test_page(people: dict[str, Visitor], numbers: dict[str, int | str], who: str, path: str) -> None:
    visitor = people[who]
    page = visitor.page
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1_280, "height": 900})
    opened = visitor.go(path.format(**numbers))
    assert opened.status == REFUSED.get((who, path), 200)
    assert page.locator("h1").count() == 1
    assert page.title().strip()
    assert page.locator("html").get_attribute("lang") == "en"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{width} pixels are too few for it"
    assert serious(page) == []
    page.set_viewport_size({"width": 390, "height": 900})
    page.emulate_media(color_scheme="dark")
    assert serious(page, "color-contrast", "link-in-text-block") == []
    assert visitor.complaints == []


def serious(page: object, *rules: str) -> list[str]:
    """What axe finds that shuts somebody out. rules: only these; none: all that it has."""
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['impact']}: {one['id']}, {one['help']}: {node['html'][:300]} {node['any'][:1]}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def test_every_page_is_looked_at() -> None:
    patterns = {page.path for page in all_pages() if "GET" in page.verbs} - ELSEWHERE
    looked_at = {path.partition("?")[0] for _, path in PAGES}
    known = {"{placed}": "{order}", "{carried}": "{order}", "{cancelled}": "{order}", SKU: "{sku:path}"}
    for concrete, pattern in known.items():
        looked_at = {path.replace(concrete, pattern) for path in looked_at}
    assert patterns - looked_at == set()


def test_the_first_page_is_light(chromium: Chromium, shop: WebProcess) -> None:
    """With all that it loads, headers included, for somebody who has never been here."""
    somebody = chromium.visitor(shop.site)
    session = somebody.context.new_cdp_session(somebody.page)
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    session.send("Network.enable")
    somebody.page.goto("/", wait_until="networkidle")
    assert somebody.page.get_by_role("listitem").count() > 40
    assert 4 <= len(sizes) < 12
    assert sum(sizes) < FIRST_PAGE_BYTES
    assert somebody.leave() == []
