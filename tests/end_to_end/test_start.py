"""How it starts, and how it does not."""

import subprocess
import sys
from pathlib import Path

import pytest
from certificate_authority import DAY, CertificateAuthority
from end_to_end.customers import StartServer
from end_to_end.server_process import environment

SECONDS = 30


@pytest.fixture
def command(authority: CertificateAuthority, tmp_path: Path) -> list[str]:
    certs = authority.write(tmp_path / "certs")
    serve = [sys.executable, "-m", "securedelivery", "serve", "--listen", "127.0.0.1:0", "--certs", str(certs)]
    return [*serve, "--database", f"sqlite:///{tmp_path}/shop.db"]


def test_where_nobody_can_be_told_that_it_listens_it_ends_instead_of_staying_half_alive(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), timeout=SECONDS, check=False
        )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_ends_it_too(command: list[str]) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()) as process:
        process.stdout.close()
        assert process.wait(SECONDS) == 141


def test_the_end_of_its_own_certificate_is_in_the_log(
    start_server: StartServer, authority: CertificateAuthority, tmp_path: Path
) -> None:
    server = start_server(certs=authority.write(tmp_path / "certs"))
    for life, words in (
        ({"start": -9 * DAY, "end": -DAY}, "the server's certificate has ended"),
        ({"start": DAY, "end": 9 * DAY}, "the server's certificate is not valid yet"),
        ({"start": -9 * DAY, "end": 3 * DAY}, "the server's certificate ends soon"),
    ):
        issued = authority.server(**life)
        for name in ("server.crt", "server.key"):
            (server.certs / f"{name}.new").unlink(missing_ok=True)
        issued.write(server.certs / "server.crt.new", server.certs / "server.key.new")
        for name in ("server.crt", "server.key"):
            (server.certs / f"{name}.new").replace(server.certs / name)
        server.log.wait_for(words)


def test_a_catalog_is_filled_once(start_server: StartServer) -> None:
    server = start_server(stock={"CPU-1": 5})
    server.stop()
    server.catalog.write_text(server.catalog.read_text().replace(",5,", ",500,"))
    server.start()
    assert "CPU-1" in server.admin("catalog", "list")
    assert "500" not in server.admin("catalog", "list")
