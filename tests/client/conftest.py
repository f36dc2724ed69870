import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from client.scripted_server import Listener, RawScript, Script, customer_script, load_security

from securedelivery.client import Client, Profile
from securedelivery.transport.tls import ServerSecurity


@pytest.fixture(scope="session")
def ca() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture(scope="session")
def template(ca: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ca.write(tmp_path_factory.mktemp("certs"))
    ca.client("alice").write(folder / "alice.crt", folder / "alice.key")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """ca.crt crl.pem server.crt server.key alice.crt alice.key; this test's own to break."""
    return shutil.copytree(template, tmp_path / "certs")


@pytest.fixture(scope="session")
def security(template: Path) -> ServerSecurity:
    return load_security(template)


@pytest.fixture
def profile(template: Path) -> Callable[[str], Profile]:
    """Alice's, for a server."""

    def make(server: str) -> Profile:
        folder = template
        return Profile(server, folder / "ca.crt", folder / "alice.crt", folder / "alice.key", folder / "crl.pem")

    return make


Connect = Callable[..., Client]


@pytest.fixture
def connect(profile: Callable[[str], Profile]) -> Iterator[Connect]:
    """Clients of alice that are closed at the end."""
    clients: list[Client] = []

    def make(server: str, **options: object) -> Client:
        clients.append(Client(profile(server), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def scripted(security: ServerSecurity) -> Iterator[Callable[..., Listener]]:
    """Starts a server with a script for each connection: functions of a Customer."""
    listeners: list[Listener] = []

    def start(*scripts: Script) -> Listener:
        raw: list[RawScript] = [customer_script(security, script) for script in scripts]
        listener = Listener(*raw)
        listener.__enter__()
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        listener.__exit__(None, None, None)
