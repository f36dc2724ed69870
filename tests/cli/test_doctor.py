"""Transcripts of `securedelivery doctor`."""

import json
import re
import shutil
from pathlib import Path

import pytest
from cli.conftest import Done, Shell, Shop
from cli.terminal_driver import Terminal

LINE = re.compile(r"(ok|--|!!)  \S.*|    \S.*")


@pytest.fixture
def certs(shop: Shop, tmp_path: Path) -> Path:
    """A copy of the certificates, to do something to."""
    folder = Path(shutil.copytree(shop.folder, tmp_path / "certs", ignore=shutil.ignore_patterns("[!csl]*.*")))
    folder.chmod(0o755)
    (folder / "trust-domain").write_text("shop.test\n")
    return folder


def doctor(shell: Shell, certs: Path, *arguments: str) -> Done:
    return shell("doctor", "--certs", str(certs), "--listen", "127.0.0.1:0", *arguments)


def test_all_is_well(shell: Shell, certs: Path) -> None:
    assert shell("admin", "account", "create", "ada").code == 0
    before = {path.name for path in shell.home.iterdir()}
    done = doctor(shell, certs)
    assert (done.stderr, done.code) == ("", 0)
    lines = done.stdout.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert lines[0] == "ok  settings: no file, the defaults"
    assert not [line for line in lines if line.startswith("!!")]
    for words in (
        f"ok  CA {certs}/ca.crt: until ", f"ok  server certificate {certs}/server.crt: until ",
        "ok  it is for localhost, 127.0.0.1; its key fits", f"ok  revocation list {certs}/crl.pem (0 revoked, made ",
        f"ok  private key {certs}/server.key: its owner alone can read it", "ok  schema: revision ",
        f"ok  database {shell.home}/securedelivery.db: whole",
        f"ok  key {shell.home}/securedelivery.db.key: opens the database; keep a copy of it, apart from the backups",
        "ok  listen 127.0.0.1:0: any port that is free", "ok  clock: ",
    ):  # fmt: skip
        assert words in done.stdout
    assert {path.name for path in shell.home.iterdir()} == before


def test_what_is_wrong_comes_with_what_to_do(shell: Shell, certs: Path) -> None:
    (certs / "crl.pem").unlink()
    (certs / "server.key").chmod(0o644)
    done = doctor(shell, certs)
    assert (done.stderr, done.code) == ("", 1)
    lines = done.stdout.splitlines()
    wrong = [(line, lines[at + 1]) for at, line in enumerate(lines) if line.startswith("!!")]
    assert wrong == [
        (
            f"!!  there is no revocation list {certs}/crl.pem: every client certificate is refused",
            f"    ./gen_certs.sh --dir {certs} crl",
        ),
        (
            f"!!  {certs}/server.key can be read by others: take it for stolen",
            f"    chmod go= {certs}/server.key; then renew what it belongs to, and revoke what it was",
        ),
    ]
    assert f"--  there is no database {shell.home}/securedelivery.db yet\n" in done.stdout
    assert list(shell.home.iterdir()) == []


def test_as_json(shell: Shell, certs: Path) -> None:
    done = doctor(shell, certs, "--json")
    told = json.loads(done.stdout)
    assert (told["well"], done.code) == (True, 0)
    assert told["findings"][0] == {
        "check": "settings",
        "state": "ok",
        "what": "settings: no file, the defaults",
        "remedy": "",
    }
    assert {one["check"] for one in told["findings"]} >= {"ca", "revocation_list", "database", "listen", "clock"}
    (certs / "ca.crt").unlink()
    done = doctor(shell, certs, "--json")
    assert (json.loads(done.stdout)["well"], done.code) == (False, 1)


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        (
            "[server]\nlisten = 5\n",
            "!!  settings: server.listen: expected `str`, got `int`",
            "compare docs/operations.md",
        ),
        ("[sever]\n", "!!  settings: sever: there is no such setting", "compare docs/operations.md, or leave it out"),
        ("[server\n", "!!  settings: shop.toml: not TOML: ", "mend that line; strings stand in quotes"),
    ],
)
def test_settings_that_cannot_be_used(shell: Shell, text: str, line: str, remedy: str) -> None:
    (shell.home / "shop.toml").write_text(text)
    done = shell("doctor", "--config", "shop.toml")
    assert (done.stderr, done.code) == ("", 1)
    first, second = done.stdout.splitlines()
    assert first.startswith(line)
    assert second == f"    {remedy}"


def test_wrong_usage(shell: Shell) -> None:
    done = shell("doctor", "--fast")
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr == "error: no such option: --fast\nhint: securedelivery doctor --help\n"


def test_beside_a_running_server(shell: Shell, shop: Shop) -> None:
    """It is named, its database is read while it is in use, and it goes on as if nothing had been."""
    done = shell(
        "doctor", "--config", str(shop.server.config), "--certs", str(shop.folder), "--database", shop.server.url,
        "--listen", shop.required,
    )  # fmt: skip
    assert done.code == 0
    assert f"ok  settings: {shop.server.config}\n" in done.stdout
    assert f"ok  listen {shop.required}: securedelivery answers, with this certificate\n" in done.stdout
    assert f"ok  database {shop.server.database}: whole\n" in done.stdout
    assert shop.server.running


def test_on_a_terminal(shell: Shell, certs: Path) -> None:
    with Terminal(shell, "doctor", "--certs", str(certs), "--listen", "127.0.0.1:0") as terminal:
        terminal.wait_for("ok  clock: ")
        assert terminal.end() == 0
