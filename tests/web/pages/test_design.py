"""The look: what the stylesheet promises, and what every page has."""

import re
from pathlib import Path

import pytest
from web.pages.reading import Reading
from web.stage import Browser, WebStage

from securedelivery.model import Role
from securedelivery.web.rendering import STATIC

FIRST_PAGE = 150_000  # bytes, nothing of it compressed
TEXT, SHAPE = 4.5, 3.0  # WCAG 2.2 AA: text, and what shows where one types

STYLES = sorted(STATIC.glob("*.css"))
CSS = (STATIC / "shop.css").read_text()


def colours(dark: bool) -> dict[str, str]:
    light, _, rest = CSS.partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    return {**found, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", rest.partition("\n}\n")[0]))} if dark else found


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_contrast_is_what_wcag_says_it_is() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(dark: bool) -> None:
    found = colours(dark)
    assert found["page"] == ("#14181b" if dark else "#f2f4f3")
    on = {
        "page": ("ink", "soft", "accent", "accent-strong", "bad"),
        "card": ("ink", "soft", "accent", "accent-strong", "bad"),
        "well": ("ink", "soft"),
        "accent-tint": ("ink", "soft", "accent", "accent-strong"),
        "bad-tint": ("ink", "bad"),
        "accent": ("on-accent",),
        "accent-strong": ("on-accent",),
        "bad": ("card",),
    }
    for ground, names in on.items():
        for name in names:
            assert contrast(found[name], found[ground]) >= TEXT, (name, ground)
    for ground in ("page", "card"):
        assert contrast(found["edge"], found[ground]) >= SHAPE
        assert contrast(found["accent"], found[ground]) >= SHAPE


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_styles_take_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    assert "url(" not in text
    assert "@import" not in text


def test_one_scale_of_type() -> None:
    sizes = set(re.findall(r"font-size: ([^;]+);", CSS))
    assert len(sizes) > 3
    assert all(size.startswith("var(--text-") or re.fullmatch(r"[0-9.]+em", size) for size in sizes), sizes


def test_first_page_is_light(web: WebStage) -> None:
    browser = web.client()
    answer = browser.get("/")
    page = Reading(answer)
    linked = {one.get("href") for one in page.all("link")} | {one.get("src") for one in page.all("script")}
    seen, weight = set(), len(answer.content)
    while linked:
        address = linked.pop()
        seen.add(address)
        found = browser.get(address)
        assert found.status_code == 200, address
        weight += len(found.content)
        if "javascript" in found.headers["content-type"]:
            imported = {
                f"/static/{name}"
                for name in re.findall(r'from "\./([a-z-]+\.js)"|import "\./([a-z-]+\.js)"', found.text)
                for name in name
                if name
            }
            linked |= {one for one in imported if not any(one == known.partition("?")[0] for known in seen | linked)}
    weight += len(browser.get("/static/icons.svg").content)
    assert len(seen) > 3
    assert weight < FIRST_PAGE


def page_of(browser: Browser, path: str) -> tuple[Reading, str]:
    answer = browser.get(path)
    return Reading(answer, answer.status_code), answer.text


def test_every_page_has_its_frame_and_no_inline_thing(web: WebStage) -> None:
    browser = web.staff("frames", Role.ADMIN)
    number = browser.order(("RAM-1", 1), key="frames")["order"]
    browser.submit("/basket", sku="RAM-1", quantity="1")
    titles = set()
    for path in (
        "/",
        "/?q=ram",
        "/?q=nothing",
        "/products/RAM-1",
        "/basket",
        "/checkout",
        "/orders",
        f"/orders/{number}",
        f"/orders/{number}/edit",
        "/nowhere",
    ):
        page, text = page_of(browser, path)
        assert page.find("html").get("lang") == "en"
        assert page.links()["Skip to the content"] == f"#{page.find('main').get('id')}"
        assert len(page.all("h1")) == 1, path
        assert page.title.endswith(" · securedelivery")
        titles.add(page.title)
        ids = [one.get("id") for one in page.elements if "id" in one.attributes]
        assert len(ids) == len(set(ids)), path
        for one in page.elements:
            assert one.tag != "style", path
            assert one.tag != "script" or one.get("src"), path
            assert not any(name == "style" or name.startswith("on") for name in one.attributes), (path, one)
            for name in ("src", "href", "action"):
                assert not one.get(name).startswith(("http", "//", "javascript:", "data:")), (path, one)
        for form in page.all("form", method="post"):
            assert page.forms[form.get("action")].fields["csrf_token"] == browser.csrf, path
        named = {one.get("for") for one in page.all("label")}
        for field in [*page.all("input"), *page.all("select"), *page.all("textarea")]:
            hidden = field.get("type") in ("hidden", "checkbox")
            assert hidden or field.get("id") in named or field.get("aria-label"), (path, field)
        assert "{{" not in text
    assert len(titles) == 10


@pytest.mark.parametrize(
    ("role", "places"),
    [
        (None, ["/"]),
        (Role.CUSTOMER, ["/", "/orders", "/rewards", "/chat"]),
        (Role.COURIER, ["/", "/orders", "/rewards", "/chat", "/deliveries"]),
        (Role.AGENT, ["/", "/orders", "/inbox"]),
        (Role.ADMIN, ["/", "/orders", "/inbox", "/deliveries"]),
    ],
)
def test_each_role_has_its_ways(web: WebStage, role: Role | None, places: list[str]) -> None:
    browser = web.client() if role is None else web.staff(f"ways-{role}", role)
    text = browser.get("/basket").text
    inside = text.partition('<nav class="site-nav"')[2].partition("</nav>")[0]
    assert re.findall(r'href="([^"]+)"', inside) == places
    for place in places:
        page = Reading(browser.get(place))
        here = [one.get("href") for one in page.all("a", aria_current="page")]
        assert place in here
        assert set(here) == {place}


def test_who_is_logged_in_can_leave(web: WebStage) -> None:
    browser = web.customer("leaver")
    page = Reading(browser.get("/"))
    assert "Logged in as leaver" in page.text
    assert browser.post("/logout", data=page.forms["/logout"].fields).status_code == 303
    page = Reading(browser.get("/"))
    assert "/logout" not in page.forms
    assert page.links()["Log in"] == "/login"


def test_error_page_says_what_and_leads_on(web: WebStage) -> None:
    page = Reading(web.client().get("/no/such/page"), 404)
    assert page.find("h1").text == "There is nothing here"
    assert "There is no such page." in page.text
    assert page.links()["Look at the parts"] == "/"
    page = Reading(web.customer("lost-one").get("/inbox"), 403)
    assert page.find("h1").text == "This is not for you to open"
    assert page.links()["Your orders"] == "/orders"
