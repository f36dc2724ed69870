"""Templates: the operator's before ours, and what is wrong with one said at start, with file, line and remedy."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securedelivery.errors import ConfigurationError
from securedelivery.mail import receipts, rendering
from securedelivery.mail.composer import samples
from securedelivery.mail.links import Links, Site
from securedelivery.mail.rendering import Rendered, Templates
from securedelivery.model import MailKind, Order, OrderStatus, Timestamp

BERLIN = ZoneInfo("Europe/Berlin")
HOME = "https://shop.example.org"
SAMPLES = samples(None)
LINKED = samples(Site(HOME))
BOTH = {name: SAMPLES[name] for name in SAMPLES} | {f"{name}, with links": LINKED[name] for name in LINKED}
"""By the template's name and what is different."""

HOSTILE = "<script>alert(1)</script><img src=x onerror=\"alert('2')\">&amp;{{ 7 * 7 }}{% raw %}</td>"


def templates(folder: Path | None = None, zone: str = "Europe/Berlin") -> Templates:
    return Templates(folder, ZoneInfo(zone))


def render(what: str, values: Mapping[str, Any] | None = None) -> Rendered:
    """what: of BOTH. values: others than those."""
    return templates().render(what.partition(",")[0], BOTH[what] if values is None else values)


def refused(folder: Path, samples: Mapping[str, Mapping[str, Any]] = SAMPLES) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refusal:
        templates(folder).check(samples)
    assert refusal.value.key == "mail.templates"
    assert refusal.value.hint
    return refusal.value


def test_all_of_ours_can_be_used() -> None:
    for values in (SAMPLES, LINKED):
        templates().check(values)
        assert set(values) == {*MailKind, "test"}


@pytest.mark.parametrize("what", BOTH)
def test_plain_text_fits_its_columns(what: str) -> None:
    mail = render(what)
    assert "\n" not in mail.subject
    assert mail.text.endswith("\n")
    assert "\n\n\n" not in mail.text
    too_long = [line for line in mail.text.split("\n") if len(line) > rendering.WIDTH]
    assert [line for line in too_long if not line.startswith(f"  {HOME}/mail/off?token=")] == []
    assert [line for line in mail.text.split("\n") if line != line.rstrip() and line != "-- "] == []


def test_a_file_of_the_operators_goes_before_ours(tmp_path: Path) -> None:
    (tmp_path / "order_placed.txt.j2").write_text("Danke für {{ order.order }}\n\n{{ shop }}\n", "utf-8")
    mail = templates(tmp_path).render("order_placed", SAMPLES["order_placed"])
    assert (mail.subject, mail.text) == ("Danke für 17", "Parts & Co\n")
    assert "Thank you, we have your order 17" in mail.html
    (tmp_path / "layout.html.j2").write_text("<p>Ours</p>{% block content %}{% endblock %}", "utf-8")
    assert templates(tmp_path).render("order_placed", SAMPLES["order_placed"]).html.startswith("<p>Ours</p>")
    templates(tmp_path).check(SAMPLES)


def test_what_was_checked_is_what_is_sent(tmp_path: Path) -> None:
    own = tmp_path / "test.txt.j2"
    own.write_text("One\n\nText\n", "utf-8")
    mine = templates(tmp_path)
    mine.check(SAMPLES)
    own.write_text("{{ broken", "utf-8")
    assert mine.render("test", SAMPLES["test"]).subject == "One"


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("order_placed.html.j2", "<p>\n{% if %}</p>", "line 2: Expected an expression"),
        ("order_placed.html.j2", "<p>\n{{ order.order </p>", "line 2: "),
        ("order_placed.html.j2", "<p>\n\n{{ custmer }}</p>", "line 3: 'custmer' is undefined"),
        ("order_placed.html.j2", "{{ order.nothing }}", "line 1: 'securedelivery.model.Order object' has no attribute"),
        ("order_placed.html.j2", "{{ order.delivery_code }}", "this is not for mail"),
        ("order_placed.html.j2", "\n{% extends 'layuot.html.j2' %}", "line 2: there is no template layuot.html.j2"),
        ("order_placed.html.j2", "\n{{ 1 // 0 }}", "line 2: ZeroDivisionError: "),
        ("order_placed.html.j2", "\n{{ order.order | nosuch }}", "line 2: No filter named 'nosuch'"),
        ("order_placed.txt.j2", "\n\nText\n", "its first line, the subject, is empty"),
        ("order_placed.txt.j2", "Subject\nText\n", "line 2: it has to be empty"),
        ("parts.html.j2", "{% macro paragraph() %}\n{{ caller() ~ gone }}{% endmacro %}", "line 2: 'gone' is undef"),
        ("layout.html.j2", "<p>\n{{ shopp }}</p>", "line 2: 'shopp' is undefined"),
        ("parts.txt.j2", "{% macro %}", "line 1: "),
    ],
)  # fmt: skip
def test_broken_ones_are_told(tmp_path: Path, file: str, text: str, told: str) -> None:
    (tmp_path / file).write_text(text, "utf-8")
    error = refused(tmp_path)
    assert str(error).startswith(f"mail.templates: {file} in {tmp_path}: ")
    assert told in str(error)
    assert "mend it" in error.hint


@pytest.mark.parametrize("file", ["order_placed.html.j2", "layout.html.j2", "parts.txt.j2"])
def test_other_encodings_are_told(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes("Größe\n\n".encode("latin-1"))
    assert str(refused(tmp_path)) == f"mail.templates: {file} in {tmp_path}: it is not UTF-8"


UNREADABLE = """
import os, sys
from pathlib import Path
from zoneinfo import ZoneInfo
from securedelivery.errors import ConfigurationError
from securedelivery.mail.composer import samples
from securedelivery.mail.rendering import Templates
Templates(None, ZoneInfo("UTC")).check(samples(None))
was = os.getuid()
if was == 0:
    os.setgroups([])
    os.setresuid(65534, 65534, 0)
try:
    Templates(Path(sys.argv[1]), ZoneInfo("UTC")).check(samples(None))
except ConfigurationError as error:
    print(error, error.hint, sep="\\n")
os.setresuid(was, was, was)  # whoever measures coverage writes at the end
"""


def told_to_somebody_else(folder: Path) -> str:
    """Root may read everything, so that another user has to try."""
    command = [sys.executable, "-c", UNREADABLE, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.stdout


def test_what_cannot_be_read_is_told() -> None:
    with tempfile.TemporaryDirectory(prefix="templates-") as name:  # pytest's own folders let nobody else in
        above, folder = Path(name), Path(name) / "templates"
        own = folder / "test.txt.j2"
        above.chmod(0o755)
        folder.mkdir(mode=0o755)
        own.write_text("One\n\nText\n", "utf-8")
        own.chmod(0o644)
        assert told_to_somebody_else(folder) == ""
        own.chmod(0)
        assert f"test.txt.j2 in {folder}: it cannot be read: Permission denied\n" in told_to_somebody_else(folder)
        folder.chmod(0)
        assert f"{folder} cannot be read\nlet the server's user read it" in told_to_somebody_else(folder)
        folder.chmod(0o755)
        above.chmod(0)
        assert f"there is no folder {folder}\n" in told_to_somebody_else(folder)
        above.chmod(0o755)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert str(refused(tmp_path / "gone")) == f"mail.templates: there is no folder {tmp_path / 'gone'}"


def test_a_missing_variable_of_ours_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"^mail.templates: test.txt.j2: line \d+: 'route' is undefined$"):
        templates().render("test", {"shop": "Bits", "at": "2026-11-30T17:45:00.000000Z", "links": None})
    with pytest.raises(ConfigurationError, match=r"^mail.templates: nothing.txt.j2: there is no template"):
        templates().render("nothing", {})


class Page(HTMLParser):
    """Every element that is opened is closed. said: the words."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said = ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def hostile(value: Any) -> Any:
    """The same with every text replaced, but times, numbers in words, addresses of ours, and what templates ask for."""
    if isinstance(value, OrderStatus | Links):
        return value
    if isinstance(value, str) and (value[:4].isdecimal() or len(value) <= 3 or value.startswith(HOME)):
        return value
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, Mapping):
        return {key: hostile(one) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(hostile(one) for one in value)
    if isinstance(value, msgspec.Struct):
        fields = {name: hostile(getattr(value, name)) for name in value.__struct_fields__}
        return type(value)(**fields)
    return value


@pytest.mark.parametrize("what", BOTH)
def test_whatever_is_put_in_is_text(what: str) -> None:
    usual, page = (Page(render(what, values).html) for values in (BOTH[what], hostile(BOTH[what])))
    tags = {tag for tag, _ in usual.elements}
    assert {tag for tag, _ in page.elements} <= tags | {"br"}
    assert HOSTILE in page.said
    for _, attributes in page.elements:
        assert not {one for one in attributes if one.startswith("on")} | {"src"} & set(attributes)
        assert str(attributes.get("href", HOME)).startswith(HOME)
        assert not [value for value in attributes.values() if "alert" in (value or "")]


@pytest.mark.parametrize("what", BOTH)
def test_pages_need_nothing_else(what: str) -> None:
    html = render(what).html
    page = Page(html)
    assert html.startswith('<!DOCTYPE html>\n<html lang="en"')
    assert not {"script", "link", "img", "iframe", "form", "base", "object", "svg"} & {tag for tag, _ in page.elements}
    assert "url(" not in html
    assert "@import" not in html
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert bool(links) == ("links" in what)
    assert html.replace(HOME, "").count("://") == 1  # the name of the language, which nobody fetches
    assert [tag for tag, _ in page.elements if tag == "h1"] == ["h1"]
    for tag, attributes in page.elements:
        if tag == "table":
            heads = attributes.get("role") == "presentation" or "<th" in html
            assert heads
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in page.elements
    assert len(html.encode()) < 102_000  # where Gmail cuts


def test_what_has_no_place_in_text_goes() -> None:
    values = {"shop": "A\0B\x1bC\u202eD\ud800E\r\nF", "route": "r\u2028s"}
    mail = templates().render("test", {**SAMPLES["test"], **values})
    for text in (mail.text, mail.html):
        assert not set("\0\x1b\u202e\ud800\r\u2028") & set(text)
    assert mail.subject == "Test mail of ABCDE"


def test_times() -> None:
    summer = Timestamp("2026-07-01T22:30:00.000000Z")
    assert rendering.moment(BERLIN, summer) == "2 July 2026, 00:30 CEST"
    assert rendering.day(BERLIN, summer) == "2 July 2026"
    assert rendering.moment(ZoneInfo("UTC"), summer) == "1 July 2026, 22:30 UTC"


@settings(deadline=None)
@given(st.text(max_size=300))
def test_prose(text: str) -> None:
    lines = rendering.prose(text).split("\n")
    assert lines.pop() == ""
    assert " ".join(lines).split() == text.split()
    assert all(len(line) <= rendering.WIDTH or len(line.split()) == 1 for line in lines)


def test_an_order_without_a_code_has_none_in_its_sample() -> None:
    for values in receipts.samples(None).values():
        order = values["order"]
        assert isinstance(order, Order)
        assert order.delivery_code is msgspec.UNSET


@pytest.mark.parametrize("what", [what for what in BOTH if "links" in what])
def test_links_are_in_text_and_page(what: str) -> None:
    """All that there are for the mail, in both; in plain text each on a line where a mail program finds it."""
    mail = render(what)
    lines = [line.split()[-1] for line in mail.text.split("\n") if "://" in line]
    on_page = {attributes["href"] for tag, attributes in Page(mail.html).elements if tag == "a"}
    expected = {
        "test": {"/"},
        "operator_summary": {"/orders"},
        "customer_summary": {"/orders", "/account#mail", "/mail/off"},
        "missed_chat": {"/chat", "/account#mail", "/mail/off"},
        "order_placed": {"/orders/17", "/account#mail", "/mail/off"},
    }.get(what.partition(",")[0], {"/orders/17", "/chat", "/account#mail", "/mail/off"})
    assert {line.removeprefix(HOME).partition("?")[0] for line in lines} == expected
    of_orders = {f"{HOME}/orders/{number}" for number in (11, 17, 23)} if "customer_summary" in what else set()
    assert on_page == set(lines) | of_orders
    assert "securedelivery order" not in mail.text + Page(mail.html).said
    assert "account update" not in mail.text + Page(mail.html).said


def test_without_a_web_page_there_is_no_link() -> None:
    for name, values in SAMPLES.items():
        mail = templates().render(name, values)
        assert "://" not in mail.text
        assert not [tag for tag, _ in Page(mail.html).elements if tag == "a"]


@pytest.mark.parametrize("values", [SAMPLES, LINKED])
def test_templates_from_before_there_were_links_can_be_used(
    tmp_path: Path, values: Mapping[str, Mapping[str, Any]]
) -> None:
    """Any copy of what there was, beside any of ours: so much of an interface they are."""
    old = Path(__file__).with_name("templates_before_links")
    names = sorted(one.name for one in old.iterdir())
    assert len(names) == 9
    for name in names:
        own = tmp_path / name
        own.mkdir()
        (own / name).write_bytes((old / name).read_bytes())
        templates(own).check(values)
    templates(old).check(values)
