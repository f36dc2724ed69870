"""Browsers, the shop that they visit, and people who use them.

Playwright's loop runs on the test's thread from its start to its end: so it lives as long as a file of tests, and not
through others that have loops of their own.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from web.browser.chromium import Chromium, Visitor, require_browser
from web.browser.process import Api, WebProcess, cookies

ADDRESS = "12 Wharf Lane, Hull"
_NUMBERS = itertools.count(1)

Visit = Callable[..., Visitor]
Staff = Callable[[str, str], Visitor]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority) -> Iterator[WebProcess]:
    """The shop that the tests of a file share; each has customers of its own."""
    require_browser()
    with WebProcess(tmp_path_factory.mktemp("shop"), authority) as process:
        yield process


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory, shop: WebProcess) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium"), shop.certs / "ca.crt") as chromium:
        yield chromium


@pytest.fixture
def visit(chromium: Chromium, shop: WebProcess) -> Iterator[Visit]:
    """Call it for somebody with a browser of their own. name: of an account that there is, or with new=True of one that
    is made; None: nobody that the shop knows. url: where the shop is for them. More: options of the browser's context.

    At the test's end each visitor is asked what went wrong: see Visitor.
    """

    def come(name: str | None = None, *, new: bool = True, url: str = "", **options: Any) -> Visitor:
        visitor = chromium.visitor(url or shop.site, **options)
        if name is None:
            return visitor
        with shop.api() as api:
            api.join(name, address=ADDRESS) if new else api.log_in(name)
            visitor.who = name
            visitor.context.add_cookies(cookies(api, visitor.url))
        return visitor

    yield come
    chromium.finish_visits()


@pytest.fixture
def staff(visit: Visit, shop: WebProcess) -> Staff:
    """Call it with a name and a role for somebody who works here."""

    def come(name: str, role: str) -> Visitor:
        shop.staff(name, role).close()
        return visit(name, new=False)

    return come


@pytest.fixture
def name() -> str:
    """Of nobody yet."""
    return f"visitor{next(_NUMBERS)}"


@pytest.fixture
def api(shop: WebProcess, name: str) -> Iterator[Api]:
    """The customer of that name, with an account, beside the browser."""
    api = shop.customer(name, address=ADDRESS)
    yield api
    api.close()
