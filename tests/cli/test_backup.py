"""Transcripts of `securedelivery admin backup` and `admin restore`, beside a server that runs and one that does not."""

import json
import re
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cli.conftest import Done, Shell, Shop, fails, said
from end_to_end.server_process import ServerProcess, write_catalog
from store.test_vault import plain_database, words_in

from securedelivery.client import Client, Profile

DATABASE = ("--database", "sqlite:///shop.db")


@pytest.fixture
def place(shell: Shell) -> Path:
    """A home folder with a database of one account."""
    assert shell("admin", "account", "create", "ada", *DATABASE).code == 0
    return shell.home


def names(shell: Shell) -> list[str]:
    done = shell("admin", "account", "list", "--json", *DATABASE)
    return [account["username"] for account in json.loads(done.stdout)["items"]]


def settled(done: Done, place: Path) -> tuple[str, str, int]:
    stdout, stderr, code = said(done, home=str(place))
    stdout = re.sub(r"replaced-\w+\.\w+", "replaced-AT", stdout)
    return re.sub(r"[\d,]+ bytes", "MANY bytes", stdout), stderr, code


def test_a_backup_and_back_again(shell: Shell, place: Path) -> None:
    assert settled(shell("admin", "backup", "monday.db", *DATABASE), place) == (
        "monday.db: MANY bytes, checked\n",
        (
            "Its key is not in it: HOME/shop.db.key\n"
            "Keep a copy of that too, apart from the backups: without it nobody can ever read them again.\n"
        ),
        0,
    )
    assert stat.S_IMODE((place / "monday.db").stat().st_mode) == 0o600
    assert shell("admin", "account", "create", "ben", *DATABASE).code == 0
    assert said(shell("admin", "restore", "monday.db", *DATABASE), home=str(place)) == (
        "",
        "error: there is a database HOME/shop.db already; --force replaces it, and keeps it beside\n",
        1,
    )
    assert settled(shell("admin", "restore", "monday.db", "--force", *DATABASE), place) == (
        "monday.db is the database HOME/shop.db now\nwhat was there is kept: HOME/shop.db.replaced-AT\n",
        "",
        0,
    )
    assert names(shell) == ["ada"]
    assert shell("admin", "audit", "verify", *DATABASE).code == 0
    (kept,) = place.glob("shop.db.replaced-*")
    (place / "shop.db").unlink()
    assert settled(shell("admin", "restore", kept.name, *DATABASE), place) == (
        "shop.db.replaced-AT is the database HOME/shop.db now\n",
        "",
        0,
    )
    assert names(shell) == ["ada", "ben"]


def test_as_json(shell: Shell, place: Path) -> None:
    done = shell("admin", "backup", "monday.db", "--json", *DATABASE)
    assert (done.stderr, done.code) == ("", 0)
    assert json.loads(done.stdout) == {
        "file": "monday.db",
        "bytes": (place / "monday.db").stat().st_size,
        "opens_with": "key file",
        "key_file": str(place / "shop.db.key"),
        "tampering": None,
    }
    restored = json.loads(shell("admin", "restore", "monday.db", "--force", "--json", *DATABASE).stdout)
    (kept,) = place.glob("shop.db.replaced-*")
    assert restored == {"database": str(place / "shop.db"), "kept": str(kept), "outdated": False, "mail": 0}
    (place / "shop.db").unlink()
    assert json.loads(shell("admin", "restore", "monday.db", "--json", *DATABASE).stdout)["kept"] is None


def test_a_database_whose_audit_was_tampered_with(shell: Shell, place: Path) -> None:
    """The backup is there, as it may be the last one, but nobody can overlook what is wrong with it."""
    with closing(sqlite3.connect(place / "shop.db")) as connection:
        connection.executescript("DROP TRIGGER audit_delete; DELETE FROM audit")
    done = shell("admin", "backup", "monday.db", *DATABASE)
    assert done.code == 1
    assert done.stdout.startswith("monday.db: ")
    assert done.stderr.endswith(
        "error: the backup was made, but the audit of this database was tampered with: row 1 was removed (from the end)"
        "\n"
        "hint: find out who did that: securedelivery admin audit list\n"
    )
    refused = shell("admin", "restore", "monday.db", "--force", *DATABASE)
    assert refused.code == 1
    assert "--despite-audit" in refused.stderr
    assert shell("admin", "restore", "monday.db", "--force", "--despite-audit", *DATABASE).code == 0
    assert "row 1 was removed" in shell("doctor", *DATABASE).stdout


def test_a_passphrase_instead_of_a_key(shell: Shell) -> None:
    (shell.home / "words.txt").touch(0o600)
    (shell.home / "words.txt").write_text("a word that only the operator knows\n")
    shell.environment |= {"SECUREDELIVERY_DATABASE_PASSPHRASE_FILE": "words.txt"}
    assert shell("admin", "account", "create", "ada", *DATABASE).code == 0
    assert settled(shell("admin", "backup", "monday.db", *DATABASE), shell.home) == (
        "monday.db: MANY bytes, checked\n",
        "It opens with the passphrase of this database alone: see that you will still have that.\n",
        0,
    )
    assert json.loads(shell("admin", "backup", "tuesday.db", "--json", *DATABASE).stdout)["key_file"] is None
    assert shell("admin", "restore", "monday.db", "--force", *DATABASE).code == 0
    assert names(shell) == ["ada"]
    (shell.home / "words.txt").write_text("a word that the operator does not know\n")
    done = shell("admin", "restore", "monday.db", "--force", *DATABASE)
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.startswith("error: monday.db was not restored: the passphrase is not the one of this database; ")


def test_a_key_in_a_place_of_its_own(shell: Shell) -> None:
    (shell.home / "keys").mkdir()
    shell.environment |= {"SECUREDELIVERY_DATABASE_KEY_FILE": "keys/shop"}
    assert shell("admin", "account", "create", "ada", *DATABASE).code == 0
    done = shell("admin", "backup", "monday.db", *DATABASE)
    assert done.stderr.startswith("Its key is not in it: keys/shop\n")
    assert shell("admin", "restore", "monday.db", "--force", *DATABASE).code == 0
    assert names(shell) == ["ada"]
    assert not (shell.home / "shop.db.key").exists()


def test_a_database_of_an_earlier_program(shell: Shell) -> None:
    plain_database(shell.home / "old.db")
    done = shell("admin", "backup", "monday.db", "--database", "sqlite:///old.db")
    assert settled(done, shell.home) == (
        "monday.db: MANY bytes, checked\n",
        "Nothing in it is encrypted yet: keep it where nobody else can read it.\n",
        0,
    )
    done = shell("admin", "restore", "monday.db", *DATABASE)
    assert said(done, home=str(shell.home)) == (
        "monday.db is the database HOME/shop.db now\n",
        "It was made by an earlier version of this program: the next start brings it up to date.\n",
        0,
    )
    assert shell("admin", "account", "show", "account1", *DATABASE).code == 0
    for name in ("old.db", "monday.db"):
        (shell.home / name).unlink()
    assert words_in(shell.home) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backup", "there.db"), "there is a file there.db already; name another one, or move it away"),
        (("backup", "none/monday.db"), "none/monday.db: No such file or directory; check that the disk has room, and"),
        (("restore", "none.db"), "there is no backup none.db; name a file that `securedelivery admin backup` made"),
        (("restore", "there.db", "--force"), "there.db was not restored: it is damaged (file is not a database); take"),
        (("restore", "shop.db", "--force"), "shop.db is the database itself, not a backup of it"),
    ],
)
def test_what_cannot_be_done_is_said(shell: Shell, place: Path, arguments: tuple[str, ...], message: str) -> None:
    (place / "there.db").write_text("sku,name\n" * 500)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    done = shell("admin", *arguments, *DATABASE)
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.startswith(f"error: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_wrong_usage(shell: Shell, command: str) -> None:
    assert said(shell("admin", command)) == fails(
        "missing argument 'FILE'", f"securedelivery admin {command} --help", 2
    )


# Beside a server


@pytest.fixture
def server(shop: Shop, tmp_path: Path) -> Iterator[ServerProcess]:
    folder = tmp_path / "server"
    folder.mkdir()
    catalog = write_catalog(folder / "catalog.csv", {"CPU-1": 100_000})
    with ServerProcess(folder, shop.folder, catalog=catalog) as running:
        yield running


@pytest.fixture
def enter(shop: Shop, server: ServerProcess) -> Callable[[str], Client]:
    def logged_in(name: str) -> Client:
        certificate = shop.certificate(name)
        address = ":".join(map(str, server.address))
        client = Client(Profile(address, shop.folder / "ca.crt", certificate, certificate.with_suffix(".key")))
        client.create_account(name, address="1 Main Street")
        return client

    return logged_in


def on(server: ServerProcess, shell: Shell, *arguments: str) -> Done:
    return shell("admin", *arguments, *server.admin_flags)


def test_a_backup_under_load_is_whole_and_nobody_waits_for_it(
    shell: Shell, server: ServerProcess, enter: Callable[[str], Client], record_property: Callable[..., None]
) -> None:
    """Orders go on while backups are made; each restores to a shop in which everything fits together."""
    placed: list[int] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def buy(client: Client) -> None:
        try:
            while not stop.is_set():
                key = str(len(placed))
                placed.append(client.place_order([("CPU-1", 1)], idempotency_key=key).order)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with enter("berta") as client:
        thread = threading.Thread(target=buy, args=(client,))
        thread.start()
        counts = []
        for number in range(2):
            before = len(placed)
            done = on(server, shell, "backup", f"{number}.db")
            assert (done.code, done.stdout != "") == (0, True)
            counts.append((before, len(placed)))
        stop.set()
        thread.join()
    assert failures == []
    assert all(before < after for before, after in counts)
    record_property("orders during two backups", counts[-1][1] - counts[0][0])
    server.stop()
    for number, (before, after) in enumerate(counts):
        done = on(server, shell, "restore", f"{number}.db", "--force")
        assert done.code == 0
        assert on(server, shell, "audit", "verify").code == 0
        orders = json.loads(on(server, shell, "order", "list", "--limit", "100000", "--json").stdout)["items"]
        assert before <= len(orders) <= after + 1
        account = json.loads(on(server, shell, "account", "show", "berta", "--json").stdout)
        assert account["order_count"] == len(orders)
        assert account["points"] == sum(order["points_earned"] for order in orders)
        listed = json.loads(on(server, shell, "catalog", "list", "--json").stdout)["items"]
        assert listed[0]["stock"] == 100_000 - len(orders)
    server.start()


def test_nothing_is_restored_beneath_a_server(
    shell: Shell, server: ServerProcess, enter: Callable[[str], Client], shop: Shop
) -> None:
    """Neither beneath one that has only just started, nor beneath one at work."""
    refused = (
        "",
        f"error: {server.database} is in use; stop the server, and other commands that work on it, then try again\n",
        1,
    )
    assert on(server, shell, "backup", "empty.db").code == 0
    assert said(on(server, shell, "restore", "empty.db", "--force")) == refused
    with enter("bruno") as client:
        first = client.place_order([("CPU-1", 1)], idempotency_key="one")
        assert on(server, shell, "backup", "one.db").code == 0
        client.place_order([("CPU-1", 1)], idempotency_key="two")
        assert said(on(server, shell, "restore", "one.db", "--force")) == refused
        assert len(client.orders().items) == 2
    server.stop()
    assert on(server, shell, "restore", "one.db", "--force").code == 0
    server.start()
    certificate = shop.certificate("bruno")
    address = ":".join(map(str, server.address))
    profile = Profile(address, shop.folder / "ca.crt", certificate, certificate.with_suffix(".key"))
    with Client(profile) as client:
        client.login_certificate()
        assert [order.order for order in client.orders().items] == [first.order]
        assert client.account().address == "1 Main Street"
        assert client.place_order([("CPU-1", 1)], idempotency_key="one").order == first.order


def test_a_server_that_was_killed_is_not_in_the_way(
    shell: Shell, server: ServerProcess, enter: Callable[[str], Client]
) -> None:
    assert on(server, shell, "backup", "empty.db").code == 0
    with enter("britta") as client:
        client.place_order([("CPU-1", 1)], idempotency_key="one")
        server.kill()
    done = on(server, shell, "restore", "empty.db", "--force", "--json")
    assert done.code == 0
    assert json.loads(on(server, shell, "order", "list", "--json").stdout)["items"] == []
    # What it had acknowledged is in the database that was kept.
    kept = json.loads(done.stdout)["kept"]
    assert on(server, shell, "restore", kept, "--force").code == 0
    orders = json.loads(on(server, shell, "order", "list", "--json").stdout)["items"]
    assert [order["account"] for order in orders] == ["britta"]
    server.start()
