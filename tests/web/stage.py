"""A shop with a web door, in this process, on real sockets and a real database."""

import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
from certificate_authority import TRUST_DOMAIN, CertificateAuthority, Issued

from securedelivery.application import Running, Shop
from securedelivery.config import DatabaseSettings, ServerSettings, Settings
from securedelivery.model import Cents, Role
from securedelivery.service.catalog import ProductEntry
from securedelivery.store.engine import Database
from securedelivery.web.settings import WebSettings

PASSWORD = "correct horse 7"

PRODUCTS = (
    ProductEntry("GPU-1", "Graphics card", "16 GB", Cents(50_000), 5, True),
    ProductEntry("CPU-1", "Processor", "8 cores", Cents(20_000), 10, True),
    ProductEntry("RAM-1", "Memory", "32 GB", Cents(9_999), 100, True),
    ProductEntry("OLD-1", "Floppy drive", "3.5 inches", Cents(1_000), 1, False),
    ProductEntry("LAST-1", "The last of its kind", "one left", Cents(2_500), 1, True),
)


class WebStage:
    """url: of the web, by the name in the server's certificate. address: of the socket door."""

    def __init__(
        self,
        folder: Path,
        authority: CertificateAuthority,
        changes: Mapping[str, Any] | None = None,
        *,
        web: Mapping[str, Any] | None = None,
        before: Callable[[Path], object] = lambda _certs: None,
    ) -> None:
        """changes: whole sections of the settings; web: single ones of [web]. before: called before it starts."""
        self.folder = folder
        self.authority = authority
        self.certs = authority.write(folder / "certs")
        before(self.certs)
        settings = Settings(
            server=ServerSettings(
                listen="127.0.0.1:0",
                certs=str(self.certs),
                client_certificates="optional",
                trust_domain=TRUST_DOMAIN,
            ),
            database=DatabaseSettings(url=f"sqlite:///{folder}/shop.db"),
            web=WebSettings(**{"listen": "127.0.0.1:0", **(web or {})}),
        )
        self.settings = msgspec.structs.replace(settings, **(changes or {}))
        self._stack = ExitStack()
        # A server has a child make its database, before its first thread; here are threads of other stages.
        Database.open(self.settings.database.url).close()
        self.shop = self._stack.enter_context(Shop(self.settings, serving=True))
        for product in PRODUCTS:
            self.shop.catalog.put(None, product)
        try:
            self.running = Running(self.shop)
        except BaseException:
            self.close()
            raise
        self._stack.callback(self.running.stop)
        self.address = self.running.address
        assert self.running.web_address is not None
        self.port = self.running.web_address[1]
        self.url = f"https://localhost:{self.port}"
        self.ca = self.certs / "ca.crt"

    def close(self) -> None:
        self._stack.close()

    def tls(self, issued: Issued | None = None) -> ssl.SSLContext:
        """A browser's context that believes in this CA alone. issued: the client's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if issued is not None:
            certificate, key = self.folder / "client.crt", self.folder / "client.key"
            issued.write(certificate, key)
            context.load_cert_chain(certificate, key)
        return context

    def client(self, issued: Issued | None = None) -> "Browser":
        """Keeps cookies; close it, or leave it to close()."""
        browser = Browser(self.url, self.tls(issued))
        self._stack.callback(browser.close)
        return browser

    def customer(self, name: str, **details: str) -> "Browser":
        """With an account of that name, logged in."""
        browser = self.client()
        browser.join(name, **details)
        return browser

    def staff(self, name: str, role: Role) -> "Browser":
        """With an account of that role, logged in."""
        browser = self.customer(name)
        self.shop.accounts.set_role(None, name, role)
        return browser


class Browser(httpx.Client):
    """Sends back the CSRF token of the last answer of /api, and follows no redirect by itself."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(base_url=url, verify=context, timeout=20, trust_env=False)
        self.csrf = ""

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        if self.csrf and request.method not in ("GET", "HEAD") and "x-csrf-token" not in request.headers:
            request.headers["X-CSRF-Token"] = self.csrf
        response = super().send(request, **options)
        if request.url.path.startswith("/api/"):
            self.csrf = response.headers.get("x-csrf-token", "")
        return response

    def join(self, name: str, **details: str) -> dict[str, Any]:
        answer = self.post("/api/accounts", json={"username": name, "password": PASSWORD, **details})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def log_in(self, name: str) -> dict[str, Any]:
        answer = self.post("/api/session", json={"username": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def order(self, *lines: tuple[str, int], key: str, address: str = "12 Wharf Lane", **more: Any) -> dict[str, Any]:
        """Place an order over /api."""
        body = {"lines": [{"sku": sku, "quantity": count} for sku, count in lines], "address": address, **more}
        answer = self.post("/api/orders", json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def submit(self, path: str, **fields: str) -> httpx.Response:
        """A form of a page: with the CSRF token where somebody is logged in."""
        if self.csrf == "":
            self.get("/api/system")
        return self.post(path, data={"csrf_token": self.csrf, **fields})
