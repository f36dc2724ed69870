"""Debian's Chromium under Playwright, which trusts our CA because its NSS store does, and nothing else of ours.

    with Chromium(folder, ca) as chromium:
        visitor = chromium.visitor(url)     # somebody with a browser of their own
        visitor.go("/basket")
        visitor.page                        # Playwright's Page
        chromium.finish_visits()            # asserts that nothing went wrong, see Visitor

Certificate errors are never ignored: without the CA in the store no page opens (test_browser.py looks).
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from certificate_authority import Issued
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
from end_to_end.requirements import missing, require

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Error, expect, sync_playwright
except ImportError as error:
    MISSING: str | None = error.name
    Axe = Error = expect = sync_playwright = None  # require_browser() comes first
else:
    MISSING = None

__all__ = ["Axe", "Chromium", "Error", "Visitor", "expect", "require_browser"]

ARGUMENTS = (
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
    "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
)  # fmt: skip
PATIENCE_MS = 15_000
LAUNCH_MS = 60_000
VIOLATIONS = "addEventListener('securitypolicyviolation', event => console.error('CSP: ' + event.violatedDirective));"
_OWN_PAGE_REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (4\d\d) ")
_DATA = ("data:", "blob:", "about:")


if expect is not None:
    expect.set_options(PATIENCE_MS)


def require_browser() -> str:
    """Chromium's path; else the test is skipped, or fails where everything is required."""
    if MISSING is not None:
        missing(f"{MISSING} is not installed; pip install '.[test]' brings it")
    if shutil.which("certutil") is None:
        missing("certutil is not installed; on Debian: apt-get install libnss3-tools")
    return require("chromium")


def home_that_trusts(folder: Path, ca: Path, issued: Issued | None = None) -> Path:
    """A home folder with an NSS store of its own. issued: a client's certificate with its key, to be in it too."""
    store = folder / "home" / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = ("-d", f"sql:{store}")
    _run("certutil", "-N", *database, "--empty-password")
    _run("certutil", "-A", *database, "-t", "C,,", "-n", "the shop's CA", "-i", str(ca))
    if issued is not None:
        bundle = folder / "client.p12"
        bundle.write_bytes(
            pkcs12.serialize_key_and_certificates(b"client", issued.key, issued.certificate, None, NoEncryption())
        )
        _run("pk12util", "-i", str(bundle), *database, "-W", "", "-K", "")
    return folder / "home"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"


class Chromium:
    """A context manager. ca: None, and it trusts nobody of ours.

    issued: a client's certificate that it presents, without asking, to the site `url`.
    """

    def __init__(
        self, folder: Path, ca: Path | None, issued: Issued | None = None, url: str = "", playwright: Any = None
    ) -> None:
        self._path = require_browser()
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._home = folder / "empty" if ca is None else home_that_trusts(folder, ca, issued)
        self._issued, self._url = issued, url
        self._playwright, self._borrowed = playwright, playwright is not None
        self._visitors: list[Visitor] = []

    def another(self, folder: Path, ca: Path | None, issued: Issued | None = None, url: str = "") -> "Chromium":
        """Another process with another store; there can be one Playwright only."""
        return Chromium(folder, ca, issued, url, self._playwright)

    def __enter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SECUREDELIVERY_", "XDG_"))}
        options: dict[str, Any] = {
            "executable_path": self._path,
            "args": ARGUMENTS,
            "timeout": LAUNCH_MS,
            "chromium_sandbox": os.geteuid() != 0,
            "env": kept | {"HOME": str(self._home)},
        }
        if not self._borrowed:
            self._playwright = sync_playwright().start()
        try:
            if self._issued is None:
                self._browser = self._playwright.chromium.launch(**options)
            else:
                self._persistent = self._playwright.chromium.launch_persistent_context(
                    self._profile(), base_url=self._url, **options
                )
        except BaseException:
            self._end_playwright()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for visitor in self._visitors:
            visitor.leave()
        if self._issued is None:
            self._browser.close()
        self._end_playwright()

    def _end_playwright(self) -> None:
        if not self._borrowed:
            self._playwright.stop()

    def visitor(self, url: str, **options: Any) -> "Visitor":
        """Somebody with a browser of their own: no cookie is shared. options: of Playwright's Browser.new_context()."""
        if self._issued is None:
            context = self._browser.new_context(base_url=url, locale="en-GB", timezone_id="UTC", **options)
        else:
            assert not options
            context = self._persistent
        visitor = Visitor(context, url)
        self._visitors.append(visitor)
        return visitor

    def finish_visits(self) -> None:
        """Close every visitor, and have each say what went wrong."""
        visitors, self._visitors = self._visitors, []
        complaints = [f"{one.who}: {what}" for one in visitors for what in one.leave()]
        assert not complaints, "\n".join(complaints)

    def _profile(self) -> str:
        """A profile with the choice that its user would make when asked which certificate to present."""
        folder = self._folder / "profile"
        choice = {f"{self._url},*": {"setting": {"filters": [{}]}}}
        exceptions = {"exceptions": {"auto_select_certificate": choice}}
        (folder / "Default").mkdir(parents=True)
        (folder / "Default" / "Preferences").write_text(json.dumps({"profile": {"content_settings": exceptions}}))
        return str(folder)


class Visitor:
    """page: the first one. What must not happen on any page is collected, and told at the end: dialogs, errors in the
    console or thrown, violations of the Content-Security-Policy, requests to other origins, answers of 5xx.

    forgiven: patterns of complaints that a test expects. requests: every address that was asked for.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.who = "somebody"
        self.context = context
        self.url = url
        self.forgiven: list[str] = []
        self.requests: list[str] = []
        self.origins = {url, url.replace("https:", "wss:")}
        self._complaints: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", lambda error: self._complain(f"thrown: {error.error}"))
        context.on("dialog", self._dialog)
        context.on("request", self._request)
        context.on("response", self._response)
        self._refused: set[str] = set()
        self.page = context.new_page()
        self.page.on("websocket", lambda socket: self._asked(socket.url))

    def go(self, path: str) -> Any:
        """Open a page of the shop; returns Playwright's Response."""
        return self.page.goto(path)

    def leave(self) -> list[str]:
        """Close everything; returns the complaints."""
        if self.context is not None:
            self.context.close()
            self.context = None
        return self.complaints

    @property
    def complaints(self) -> list[str]:
        return [one for one in self._complaints if not any(re.search(known, one) for known in self.forgiven)]

    def _complain(self, what: str) -> None:
        self._complaints.append(what)

    def _console(self, message: Any) -> None:
        if message.type not in ("error", "warning"):
            return
        refused = _OWN_PAGE_REFUSED.match(message.text)
        if refused and message.location["url"] in self._refused:
            return  # a form that is shown again, with its errors
        self._complain(f"console: {message.text} ({message.location['url']})")

    def _dialog(self, dialog: Any) -> None:
        self._complain(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        self._asked(request.url)

    def _asked(self, address: str) -> None:
        self.requests.append(address)
        parts = urlsplit(address)
        if not address.startswith(_DATA) and f"{parts.scheme}://{parts.netloc}" not in self.origins:
            self._complain(f"asked for {address}")

    def _response(self, response: Any) -> None:
        if response.status >= 500:
            self._complain(f"{response.status} of {response.url}")
        elif response.status >= 400 and response.request.is_navigation_request():
            self._refused.add(response.url)
