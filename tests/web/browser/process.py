"""The service as a process, with its web door: started, killed, and started again where it was."""

import re
import ssl
from pathlib import Path
from typing import Any, Self

import httpx
from certificate_authority import CertificateAuthority
from end_to_end.server_process import ServerProcess
from end_to_end.server_process import Settings as Sections
from web.stage import PASSWORD
from web.stage import Browser as Api

from securedelivery.application import Shop
from securedelivery.config import DatabaseSettings, Settings
from securedelivery.service.opt_out import MailChoice, token
from securedelivery.store.accounts import by_username

CATALOG = """\
sku,name,description,price,stock,active
CPU-1,Processor,"8 cores, 16 threads",200.00,1000,1
GPU-1,Graphics card,16 GB of memory,500.00,1000,1
RAM-1,Memory,32 GB in two modules,99.99,1000,1
LAST-1,The last of its kind,One left,25.00,1,1
OLD-1,Floppy drive,3.5 inches,10.00,1,0
"""
LENIENT = {"creations": {"burst": 10_000, "seconds": 1}, "address": {"burst": 10_000, "seconds": 1}}


class WebProcess(ServerProcess):
    """web_port: where the web is, the same after each start. site: its address, without a slash at its end."""

    def __init__(
        self,
        folder: Path,
        authority: CertificateAuthority,
        settings: Sections | None = None,
        *,
        catalog: str | Path = CATALOG,
        **options: Any,
    ) -> None:
        self.authority = authority
        self.web_port = 0
        if isinstance(catalog, str):
            path = folder / "catalog.csv"
            path.write_text(catalog)
            catalog = path
        everything = {
            "server": {"client_certificates": "optional"},
            "accounts": {"logins": LENIENT},
            **(settings or {}),
        }
        super().__init__(folder, authority.write(folder / "certs"), everything, catalog=catalog, real=True, **options)

    def start(self, *, port: int = 0) -> Self:
        self.flags = ["--web", f"127.0.0.1:{self.web_port}"]
        super().start(port=port)
        line = self.process.stdout.readline()
        ready = re.fullmatch(r"web on (https://127\.0\.0\.1:(\d+))\n", line)
        assert ready is not None, f"it said {line!r} instead of `web on https://HOST:PORT`, and\n{self.log.text}"
        self.site, self.web_port = ready[1], int(ready[2])
        return self

    def restart(self) -> None:
        """SIGKILL, and again, where it was."""
        port = self.address[1]
        self.kill()
        self.start(port=port)

    def api(self) -> Api:
        """For what a test needs to have happened beside the browser; close it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certs / "ca.crt")
        return Api(self.site, context)

    def customer(self, username: str, **details: str) -> Api:
        """With an account of that name, logged in; the password is PASSWORD."""
        api = self.api()
        answer = api.post("/api/accounts", json={"username": username, "password": PASSWORD, **details})
        assert answer.status_code == 201, answer.text
        return api

    def staff(self, username: str, role: str) -> Api:
        """With an account of that role, logged in by password."""
        api = self.customer(username)
        self.admin("account", "set-role", username, role)
        api.log_in(username)
        return api

    def way_out(self, username: str, choice: MailChoice) -> str:
        """The path to which a mail of that kind leads whoever wants no more of them."""
        settings = Settings(database=DatabaseSettings(url=self.url))
        with Shop(settings, create=False) as shop, shop.database.read() as tx:
            account = by_username(tx, username)
            assert account is not None
            return f"/mail/off?token={token(shop.database.vault, account, choice)}"


def cookies(api: httpx.Client, url: str) -> list[dict[str, Any]]:
    """What a browser has to have to be logged in as well: for BrowserContext.add_cookies()."""
    return [
        {"name": one.name, "value": one.value, "url": url, "secure": True, "httpOnly": True, "sameSite": "Lax"}
        for one in api.cookies.jar
    ]


__all__ = ["PASSWORD", "Api", "MailChoice", "WebProcess", "cookies"]
