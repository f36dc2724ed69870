"""lesson.html: one page that needs nothing else, says what the story says, and looks right in a real browser."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from wireshark.browser import Browser, require_browser
from wireshark.told import exhibits, parts, story

from securedelivery.wireshark.lesson import page
from securedelivery.wireshark.story import LAYERS, Act, Exhibit, Layer, Part, Question, Said, Scene, Story, Strip, Table
from securedelivery.wireshark.story.hexadecimal import packets, runs

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=\"alert('2')\">&amp;{{ 7 * 7 }}"


class Reader(HTMLParser):
    """Checks the nesting and notes what it reads. elements: name and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.hex: list[str] = []
        self.said: list[str] = []
        self.style = ""
        self._in_hex = False
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "code" and ("class", "hex") in attrs:
            self.hex.append("")
            self._in_hex = True
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> in line {self.getpos()[0]}"
        self._in_hex = self._in_hex and tag != "code"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.said.append(data)
        if self._in_hex:
            self.hex[-1] += data

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


@pytest.fixture(scope="module")
def html() -> str:
    return page(story())


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    return Reader(html)


def test_it_refers_to_nothing_elsewhere(html: str, read: Reader) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {
        tag for tag, _ in read.elements
    }
    for name in ("src", "srcset", "style", "action", "onload", "onerror", "onclick"):
        assert read.attributes(name) == []
    assert "://" not in re.sub(r"spiffe://shop\.example", "", html)
    assert "@import" not in read.style
    assert set(re.findall(r"url\([^)]*\)", read.style)) == {"url(#hatch)", "url(#slots)"}
    targets = {link for name in ("href", "xlink:href") for link in read.attributes(name)}
    assert targets
    assert all(link.startswith("#") for link in targets)


def test_its_policy_allows_its_own_style_and_nothing_else(read: Reader) -> None:
    (policy,) = [one["content"] for tag, one in read.elements if one.get("http-equiv") == "Content-Security-Policy"]
    digest = b64encode(sha256(read.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "unsafe" not in policy


def test_names_within_the_page(read: Reader) -> None:
    names = read.attributes("id")
    assert len(names) == len(set(names))
    assert {link.removeprefix("#") for link in read.attributes("href")} <= set(names)
    for labels in read.attributes("aria-labelledby"):
        assert set(labels.split()) <= set(names)
    assert [one for tag, one in read.elements if tag == "html"] == [{"lang": "en"}]
    assert len([tag for tag, _ in read.elements if tag == "h1"]) == 1
    assert {f"act-{number}" for number in range(1, 9)} <= set(names)


def test_headings_skip_no_level(read: Reader) -> None:
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    for before, level in pairwise(levels):
        assert level <= before + 1 or (before, level) == (2, 4)  # the exhibits of an act's first scene


def test_bytes_are_those_of_the_exhibits(read: Reader) -> None:
    assert len(read.hex) == len(parts())
    for shown, part in zip(read.hex, parts(), strict=True):
        expected = [
            f"… {run.left_out:,} byte{'' if run.left_out == 1 else 's'} more …" if run.left_out else run.hex
            for run in runs(part, 96)
        ]
        assert shown.split() == " ".join(expected).split()


def test_each_layer_is_named_beside_its_colour(html: str) -> None:
    chips = re.findall(r'<span class="chip ([\w-]+)">([^<]+)</span>', html)
    assert len(chips) == len(parts()) + len(LAYERS)
    assert all(LAYERS[Layer(name)][0] == text for name, text in chips)
    assert html.count('<span class="state">closed</span>') == 1 + sum(part.sealed for part in parts())


def test_everything_is_told(read: Reader) -> None:
    text = read.text
    for act in story().acts:
        assert act.title in text
        assert " ".join(act.gist.split()) in text
        for one in act.questions:
            assert text.count(one.answer) == 2  # on the screen under the question, in print at the end
    for one in exhibits():
        for said in one.verdicts:
            assert " ".join(said.words.split()) in text


def test_only_what_is_in_packets_is_said_to_be_in_the_files(read: Reader) -> None:
    shown = exhibits()
    computed = [packets(one.packets) for one in shown if one.computed]
    assert len(computed) == 2
    assert read.text.count(" in all three files") == len(shown) - len(computed)
    for where in computed:
        assert f"Computed, in none of the files; belongs to {where} " in read.text


def hostile() -> Story:
    """Every text is an attack."""
    part = Part(Layer.MESSAGE, HOSTILE, b"<b>", reads=f"{HOSTILE}\n{HOSTILE}")
    said = Said(HOSTILE, HOSTILE)
    exhibit = Exhibit(HOSTILE, 1, (1,), 1, HOSTILE, HOSTILE, (Strip(HOSTILE, (part,), wire=False),), HOSTILE, (said,))
    flipped = Part(Layer.TLS, HOSTILE, b"\x01", bit=7, sealed=True, reads=HOSTILE)
    other = msgspec.structs.replace(
        exhibit, strips=(Strip("", (flipped,), wire=False),), verdicts=(said, said), accepted=True
    )
    table = Table(HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, HOSTILE),), (1,), HOSTILE)
    scene = Scene(HOSTILE, (HOSTILE,), (table, exhibit, other))
    act = Act(1, HOSTILE, HOSTILE, 2, (scene,), HOSTILE, (Question(HOSTILE, HOSTILE),), HOSTILE)
    return Story((act,), ((HOSTILE, HOSTILE, HOSTILE),), 1, 1, 1, 0.1)


def test_hostile_text_stays_text() -> None:
    read = Reader(page(hostile()))
    assert not {"script", "img"} & {tag for tag, _ in read.elements}
    assert read.attributes("onerror") == []
    assert read.text.count("{{ 7 * 7 }}") > 20
    assert "<script>alert(1)</script>" in read.text


def test_a_page_without_much_is_a_page() -> None:
    empty = Strip("", (Part(Layer.TLS, "nothing", b""),), wire=False)
    exhibit = Exhibit("one", 1, (1,), 1, "a", "b", (empty,))
    table = Table("t", ("a",), ())
    act = Act(1, "an act", "nobody", 0, (Scene("", (), (exhibit, table)),), "gist", (), "")
    assert "an act" in Reader(page(Story((act,), (), 1, 1, 1, 0.1))).text


# Colours


def _colours(css: str) -> Iterator[dict[str, str]]:
    """The variables of the light scheme, the dark one, and print."""
    for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL):
        yield dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block))


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, section 1.4.3."""

    def luminance(colour: str) -> float:
        digits = colour.removeprefix("#")
        if len(digits) == 3:
            digits = "".join(digit * 2 for digit in digits)
        channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_enough_in_every_scheme(read: Reader) -> None:
    schemes = list(_colours(read.style))
    assert len(schemes) == 3
    for colours in schemes:
        pairs = [(layer, f"{layer}-ink") for layer in map(str, Layer)]
        pairs += [("paper", "ink"), ("card", "ink"), ("paper", "soft"), ("card", "soft"), ("paper", "accent")]
        pairs += [("no-tint", "ink"), ("yes-tint", "ink"), ("no", "paper"), ("card", "no"), ("card", "accent")]
        for ground, ink in pairs:
            assert _contrast(colours[ground], colours[ink]) >= 4.5, (ground, ink)
        for layer in map(str, Layer):
            assert _contrast(colours["card"], colours[f"{layer}-line"]) >= 2, layer  # ribbons have their names below


# The real browser


@pytest.fixture(scope="module")
def lesson(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_browser()
    path = tmp_path_factory.mktemp("lesson") / "lesson.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(lesson: Path) -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1920])
def test_no_width_scrolls_sideways(browser: Browser, lesson: Path, width: int) -> None:
    browser.open(lesson, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    watched = "[...document.querySelectorAll('.hex, pre, .head, svg.onion, h1, h2')]"
    assert browser.value(f"{watched}.filter(e => e.getBoundingClientRect().right > innerWidth).length") == 0


def test_the_browser_asks_for_nothing_and_complains_of_nothing(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    assert set(browser.requests) == {lesson.as_uri()}
    assert browser.complaints == []
    assert browser.value("document.compatMode") == "CSS1Compat"
    assert browser.value("document.scripts.length") == 0
    assert (
        browser.value("getComputedStyle(document.querySelector('.hex')).borderLeftStyle") == "solid"
    )  # the style counts


def test_the_policy_stops_a_script(browser: Browser, tmp_path: Path, html: str) -> None:
    """Even if there were a hole in the escaping."""
    path = tmp_path / "attacked.html"
    path.write_text(html.replace("</h1>", "</h1><script>document.title = 'attacked'</script>", 1), encoding="utf-8")
    seen = len(browser.complaints)
    browser.open(path)
    assert browser.value("document.title") != "attacked"
    assert len(browser.complaints) > seen
    browser.events.clear()


def test_questions_open_by_keyboard(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    answer = "document.querySelector('.questions details p').checkVisibility()"
    assert browser.value(answer) is False
    browser.value("document.querySelector('.questions summary').focus()")
    for kind in ("keyDown", "keyUp"):
        browser("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert browser.value(answer) is True
    assert browser.value("getComputedStyle(document.querySelector('.answers')).display") == "none"


def test_dark_and_light(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.scheme("light")
    assert browser.value(ground) == "rgb(255, 255, 255)"
    browser.scheme("dark")
    assert browser.value(ground) == "rgb(20, 22, 27)"
    browser.scheme("light")


def test_in_print_the_answers_stand_at_the_end(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    browser.media("print")
    assert browser.value("getComputedStyle(document.querySelector('.answers')).display") == "block"
    assert browser.value("getComputedStyle(document.querySelector('.act')).breakBefore") == "page"
    assert browser.value("getComputedStyle(document.querySelector('.skip')).display") == "none"
    browser.media("")
    document = browser.printed()
    assert document.startswith(b"%PDF-")
    boxes = {tuple(map(float, found.split())) for found in re.findall(rb"/MediaBox \[([^\]]*)\]", document)}
    assert {(round(width), round(height)) for _, _, width, height in boxes} == {(595, 842)}  # A4
    assert 20 <= document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") <= 45


def test_pictures_of_it_show_something(browser: Browser, lesson: Path) -> None:
    browser.open(lesson, width=800)
    clip = {"x": 0.0, "y": 0.0, "width": 800.0, "height": 600.0}
    assert len(browser.picture(clip=clip)) > 10_000
