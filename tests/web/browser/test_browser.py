"""The harness itself: what it says it watches, it sees, and a certificate has to be good."""

from pathlib import Path

import pytest
from web.browser.chromium import Chromium, Error
from web.browser.conftest import Visit
from web.browser.process import WebProcess


def test_the_page_opens_with_the_ca(visit: Visit) -> None:
    somebody = visit()
    opened = somebody.go("/login")
    assert opened.status == 200
    security = opened.security_details()
    assert security["protocol"] == "TLS 1.3"
    assert security["issuer"] == "test CA"


@pytest.mark.usefixtures("chromium")
def test_without_the_ca_it_does_not_open(chromium: Chromium, tmp_path: Path, shop: WebProcess) -> None:
    with chromium.another(tmp_path / "other", None) as other:
        somebody = other.visitor(shop.site)
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            somebody.go("/api/system")


def test_what_must_not_happen_is_seen(chromium: Chromium, shop: WebProcess) -> None:
    somebody = chromium.visitor(shop.site)
    somebody.go("/login")
    assert somebody.complaints == []
    somebody.page.evaluate("alert('a dialog')")
    somebody.page.evaluate("console.error('an error')")
    somebody.page.evaluate("setTimeout(() => { throw new Error('a throw') })")
    somebody.page.evaluate(
        "() => { const one = document.createElement('script'); one.textContent = 'window.ran = 1';"
        " document.body.append(one); }"
    )
    assert somebody.page.evaluate("window.ran") is None
    somebody.go(shop.site.replace("127.0.0.1", "localhost") + "/api/system")  # another origin
    told = "\n".join(somebody.leave())
    for what in ("a dialog: a dialog", "console: an error", "thrown: a throw", "CSP: script-src", "asked for https"):
        assert what in told
