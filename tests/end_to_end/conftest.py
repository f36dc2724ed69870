import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from end_to_end.customers import Enter, ProfileOf, RingOf, StartServer, log_in
from end_to_end.server_process import ServerProcess, Settings, write_catalog
from wire_client import Address, Keyring, WireClient

from securedelivery.client import Profile

OPEN_FILES = 8_192


@pytest.fixture(scope="session", autouse=True)
def _open_files() -> Iterator[None]:
    """Room for floods of connections, here and in the servers, which inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def hang_up() -> None:
    """Close what tests left open, so that no server has to wait for it."""
    while WireClient.opened:
        WireClient.opened.pop().close()


@pytest.fixture(scope="session")
def authority() -> CertificateAuthority:
    """Nobody revokes anything here: what a test changes is an authority of its own."""
    return CertificateAuthority()


@pytest.fixture(scope="session")
def certs(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority.write(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="session")
def ring(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> RingOf:
    """Call it with a name for the keyring of that customer, with None for one without a certificate."""
    folder = tmp_path_factory.mktemp("clients")
    known: dict[str | None, Keyring] = {}

    def ring_of(who: str | None) -> Keyring:
        if who not in known:
            known[who] = Keyring.of(authority, None if who is None else authority.client(who), folder)
        return known[who]

    return ring_of


@pytest.fixture(scope="session")
def profile_of(authority: CertificateAuthority, certs: Path, tmp_path_factory: pytest.TempPathFactory) -> ProfileOf:
    """Call it with a server's address and a name for the profile of that customer, for the client library."""
    folder = tmp_path_factory.mktemp("profiles")

    def profile(address: Address, name: str) -> Profile:
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        if not certificate.exists():
            authority.client(name).write(certificate, key)
        return Profile(f"{address[0]}:{address[1]}", certs / "ca.crt", certificate, key, certs / "crl.pem")

    return profile


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory, certs: Path) -> Iterator[StartServer]:
    """Call it with settings, stock=..., certs=... for a server of the test's own, judged by its log at the end."""
    servers: list[ServerProcess] = []

    def start(
        settings: Settings | None = None, *, stock: dict[str, int] | None = None, **options: Any
    ) -> ServerProcess:
        folder = tmp_path_factory.mktemp("server")
        catalog = write_catalog(folder / "catalog.csv", stock) if stock else None
        servers.append(ServerProcess(folder, options.pop("certs", certs), settings, catalog=catalog, **options))
        return servers[-1].start()

    yield start
    hang_up()
    for server in servers:
        server.finish()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certs: Path) -> Iterator[ServerProcess]:
    """The server that the tests of a file share; each uses names of its own."""
    folder = tmp_path_factory.mktemp("server")
    catalog = write_catalog(folder / "catalog.csv", {"CPU-1": 10_000, "GPU-1": 10_000, "RAM-1": 10_000})
    with ServerProcess(folder, certs, catalog=catalog) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_connection_left() -> Iterator[None]:
    yield
    hang_up()


@pytest.fixture
def enter(ring: RingOf) -> Enter:
    """Call it with a server and a name: that customer's connection, logged in; the account is made where needed."""

    def logged_in(server: ServerProcess, name: str, **options: str) -> WireClient:
        return log_in(server, name, ring(name), **options)

    return logged_in


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures that tests recorded: they assert what must hold, and report how well it does."""
    figures = [
        f"{report.nodeid.rpartition('::')[2]}: "
        + ", ".join(f"{name} {value}" for name, value in report.user_properties)
        for report in terminalreporter.getreports("passed")
        if report.when == "call" and report.user_properties
    ]
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.write_line(line)
