"""`securedelivery` as people run it: a process, an empty home folder, a real server."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import commands
import pytest
from certificate_authority import CertificateAuthority
from commands import Process
from end_to_end.server_process import ServerProcess

from securedelivery.client import Client, Profile

SECONDS = 60.0

CATALOG = """\
sku,name,description,price,stock,active
CPU-1,A small processor,Six cores,99.00,50,1
CPU_2,A larger processor,Eight cores,1234.50,50,1
GPU-1,A graphics card,Sixteen gigabytes,2500.00,3,1
OLD-1,What was sold once,Gone,5.00,1,0
"""


@dataclass(frozen=True)
class Done:
    """What one command did."""

    stdout: str
    stderr: str
    code: int


@dataclass
class Shell:
    """Somebody's computer: a home folder and an environment."""

    home: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, given: str = "", **variables: str) -> Done:
        environment = {**self.environment, **variables}
        done = commands.run(arguments, given, seconds=SECONDS, environment=environment, folder=self.home)
        assert "Traceback" not in done.stderr
        return Done(done.stdout, done.stderr, done.returncode)

    def start(self, *arguments: str, **variables: str) -> Process:
        return commands.start(arguments, environment={**self.environment, **variables}, folder=self.home)


def clean_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SECUREDELIVERY_", "XDG_"))}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        kept.pop(name, None)
    return {**kept, "HOME": str(home), "TZ": "UTC", "TERM": "xterm", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Nothing is known here yet."""
    home = tmp_path / "home"
    home.mkdir()
    return Shell(home, clean_environment(home))


@dataclass(frozen=True)
class Shop:
    ca: CertificateAuthority
    folder: Path
    required: str
    optional: str
    server: ServerProcess
    """The one that requires certificates."""

    def certificate(self, name: str) -> Path:
        """NAME.crt, with NAME.key beside it."""
        path = self.folder / f"{name}.crt"
        if not path.exists():
            self.ca.client(name).write(path, path.with_suffix(".key"))
        return path

    @contextlib.contextmanager
    def enter(self, name: str, role: str) -> Iterator[Client]:
        """Somebody of the staff, logged in at the server that requires certificates; an account is made."""
        self.server.admin("account", "create", name, "--role", role, "--if-missing")
        certificate = self.certificate(name)
        profile = Profile(self.required, self.folder / "ca.crt", certificate, certificate.with_suffix(".key"))
        with Client(profile) as client:
            client.login_certificate()
            yield client


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two servers: one that requires certificates, and one that does not."""
    ca = CertificateAuthority()
    folder = tmp_path_factory.mktemp("shop")
    certs = ca.write(folder / "certs")
    (folder / "catalog.csv").write_text(CATALOG)
    with (
        _server(folder / "required", certs, "required") as required,
        _server(folder / "optional", certs, "optional") as optional,
    ):
        addresses = [f"{host}:{port}" for host, port in (required.address, optional.address)]
        yield Shop(ca, certs, *addresses, required)


def _server(folder: Path, certs: Path, policy: str) -> ServerProcess:
    folder.mkdir()
    settings = {"server": {"client_certificates": policy}}
    return ServerProcess(folder, certs, settings, catalog=certs.parent / "catalog.csv")


@pytest.fixture
def customer(shell: Shell, shop: Shop) -> Callable[[str], Shell]:
    """A shell with the profile of a customer with that certificate, without an account."""

    def make(name: str) -> Shell:
        shell.environment |= {
            "SECUREDELIVERY_SERVER": shop.required,
            "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
            "SECUREDELIVERY_CERT": str(shop.certificate(name)),
            "SECUREDELIVERY_CRL": str(shop.folder / "crl.pem"),
        }
        return shell

    return make


Person = Callable[..., Shell]


@pytest.fixture
def person(tmp_path: Path, shop: Shop) -> Person:
    """Somebody's computer, with the profile of an account that there is. role: None for a customer."""

    def make(name: str, role: str | None = None, *, address: str = "1 Main Street") -> Shell:
        home = tmp_path / name
        home.mkdir()
        profile = {
            "SECUREDELIVERY_SERVER": shop.required,
            "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
            "SECUREDELIVERY_CERT": str(shop.certificate(name)),
        }
        shell = Shell(home, clean_environment(home) | profile)
        if role is None:
            assert shell("account", "create", "--address", address).code == 0
        else:
            shop.server.admin("account", "create", name, "--role", role)
        return shell

    return make


def said(done: Done, **replaced: str) -> tuple[str, str, int]:
    """stdout, stderr, exit code, each NAME in the place of what is given for it."""
    changes = {this: name.upper() for name, this in replaced.items()}
    return settled(done.stdout, changes), settled(done.stderr, changes), done.code


def fails(message: str, hint: str, code: int) -> tuple[str, str, int]:
    """What said() gives of a command that fails."""
    return "", f"error: {message}\nhint: {hint}\n", code


def settled(text: str, replaced: Mapping[str, str]) -> str:
    """Without what differs from run to run."""
    for this, that in replaced.items():
        text = text.replace(this, that)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "AT-SOME-MINUTE--", text)
    text = re.sub(r"^(Order +)\d+", r"\1NUMBER", text)
    text = re.sub(r"(Delivery code  )\d{6}", r"\1CODE", text)
    text = re.sub(r"--after \S+", "--after CURSOR", text)
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "KEY", text)
