"""Every mail in the real Chromium: nothing is cut, nothing is loaded, and everything can be read, light and dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from wireshark.browser import Browser, require_browser

from securedelivery.mail.composer import samples
from securedelivery.mail.links import Site
from securedelivery.mail.rendering import Templates

TEXTS = """
(() => {
  const number = text => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = number(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 0, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.data.replace(/\\s+/g, " ").trim();
    if (!text || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(number(style.color)), light(behind(element))].sort((a, b) => b - a);
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    const ratio = (one + 0.05) / (other + 0.05);
    found.push({text, ratio, size: parseFloat(style.fontSize), right: box.right, left: box.left});
  }
  return found;
})()
"""
SAMPLES = samples(Site("https://shop.example.org"))
PLAIN = samples(None)
HOSTILE = "Donaudampfschifffahrtsgesellschaft" * 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_browser()
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(tmp_path_factory.mktemp("mails"))
    templates = Templates(None, ZoneInfo("Europe/Berlin"))
    for name, values in SAMPLES.items():
        folder.joinpath(f"{name}.html").write_text(templates.render(name, values).html, "utf-8")
        long = {key: HOSTILE if key in ("shop", "customer") else value for key, value in values.items()}
        folder.joinpath(f"{name}-long.html").write_text(templates.render(name, long).html, "utf-8")
        folder.joinpath(f"{name}-plain.html").write_text(templates.render(name, PLAIN[name]).html, "utf-8")
    return folder


def texts(browser: Browser) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.value(TEXTS)
    assert len(found) > 4
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [each for name in SAMPLES for each in (name, f"{name}-plain")])
def test_everything_can_be_read(browser: Browser, pages: Path, name: str, scheme: str) -> None:
    browser.scheme(scheme)
    browser.open(pages / f"{name}.html", width=1_000, height=800)
    found = texts(browser)
    assert [one for one in found if one["ratio"] < 4.5] == []  # WCAG 2.2, AA
    assert {one["size"] for one in found} <= {14, 16, 24}
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(242, 244, 243)", "dark": "rgb(20, 24, 27)"}[scheme]


@pytest.mark.parametrize("width", [320, 360, 480, 600, 1_000])
@pytest.mark.parametrize("name", [each for name in SAMPLES for each in (name, f"{name}-long", f"{name}-plain")])
def test_nothing_is_cut(browser: Browser, pages: Path, name: str, width: int) -> None:
    browser.scheme("light")
    browser.open(pages / f"{name}.html", width=width, height=800)
    assert browser.value("document.scrollingElement.scrollWidth") == width
    for one in texts(browser):
        assert one["left"] >= 0
        assert one["right"] <= width
    assert browser.value("document.querySelector('.card').offsetWidth") <= 600


@pytest.mark.parametrize("name", SAMPLES)
def test_it_holds_where_style_is_taken_out(browser: Browser, pages: Path, name: str) -> None:
    """As some mail programs do: then it is light, and whole, for whoever has dark mode too."""
    browser.scheme("dark")
    browser.open(pages / f"{name}.html", width=320, height=800)
    browser.value("document.querySelectorAll('style, meta').forEach(one => one.remove())")
    assert browser.value("document.scrollingElement.scrollWidth") == 320
    assert [one for one in texts(browser) if one["ratio"] < 4.5] == []


@pytest.mark.parametrize("name", SAMPLES)
def test_only_the_preheader_is_hidden(browser: Browser, pages: Path, name: str) -> None:
    browser.open(pages / f"{name}.html", width=360, height=800)
    first = browser.value("document.body.firstElementChild.innerText || document.body.firstElementChild.textContent")
    assert first.strip()
    hidden = "[...document.body.querySelectorAll('*')].filter(one => !one.checkVisibility()).length"
    assert browser.value(hidden) == 1


def test_nothing_is_loaded_and_nothing_complains(browser: Browser, pages: Path) -> None:
    for name in SAMPLES:
        browser.open(pages / f"{name}.html")
    assert {one for one in browser.requests if not one.startswith(pages.as_uri())} == set()
    assert browser.complaints == []
