"""What nobody may find: looks into every database and every log that the suite has left behind. Comes last.

It also leaves one of each kind itself, so that there is always something to look at.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from end_to_end.customers import log_in, order, refusal
from end_to_end.server_process import ServerProcess, write_catalog
from planted import MARK, PLAIN_FOLDER, SEALED, SECRETS, Findings, email, planted, search
from wire_client import Keyring, WireClient

PASSWORD = planted("a good password")
LEFT_BEHIND = os.environ.get("LEFT_BEHIND")
MANY, MANY_LOGS = 500, 10  # databases and logs of a whole run


@pytest.fixture(scope="module")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A shop that has been told all kinds of secrets, with a backup; the power fails before its log is taken back."""
    authority = CertificateAuthority()
    certs = authority.write(tmp_path_factory.mktemp("certs"))
    folder = tmp_path_factory.mktemp("server")
    catalog = write_catalog(folder / "catalog.csv", {"CPU-1": 10})
    settings = {"log": {"level": "debug"}, "server": {"client_certificates": "optional"}}
    server = ServerProcess(folder, certs, settings, catalog=catalog).start()
    server.create_account("sam", "agent")

    def ring(name: str) -> Keyring:
        return Keyring.of(authority, authority.client(name), folder)

    with WireClient.connect(server.address, ring("alice")) as alice, log_in(server, "sam", ring("sam")) as sam:
        texts = {"name": planted("Alice"), "email": email("alice"), "address": planted("1 Rabbit Hole")}
        alice.call("account.create", username="alice", password=PASSWORD, **texts)
        wrong = planted("not the password")
        assert refusal(lambda: alice.call("account.login", username="alice", password=wrong)) is not None
        assert refusal(lambda: alice.call("account.update", email=MARK)) is not None
        placed = alice.call("order.place", **order("k", CPU_1=1))["order"]
        alice.call("order.update", order=placed, version=1, address=planted("2 Rabbit Hole"))
        sam.call("order.advance", order=placed, status="confirmed", note=planted("seen"))
        alice.call("order.cancel", order=placed, reason=planted("enough"))
        asked = alice.call("chat.send", text=planted("Where?"), message_key="k")
        sam.call("chat.send", text=planted("There."), message_key="k", conversation=asked["conversation"])
        server.admin("backup", str(folder / "backup.db"))
        alice.call("account.update", address=planted("3 Rabbit Hole"))
        server.kill()
    server.check_log()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", ["shop.db", "shop.db-wal", "server.log"])
def test_the_search_finds_what_lies_open(tmp_path: Path, name: str, secret: str) -> None:
    folder = tmp_path / PLAIN_FOLDER
    folder.mkdir()
    LEFT[name](folder, secret)
    assert search(tmp_path) == Findings()
    found = search(folder)
    assert len(found.open) == 1
    assert found.open[0].endswith(f"/{name}: {secret!r}")


def _database(folder: Path, secret: str) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        _write(connection, secret)


def _wal(folder: Path, secret: str) -> None:
    """As a killed program leaves it: the text has not come to the database itself yet."""
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        _write(connection, secret)
        content = (folder / "shop.db-wal").read_bytes()
    (folder / "shop.db").unlink()
    (folder / "shop.db-wal").write_bytes(content)


def _write(connection: sqlite3.Connection, secret: str) -> None:
    connection.execute("CREATE TABLE accounts (name TEXT)")
    connection.execute("INSERT INTO accounts VALUES (?)", (secret,))
    connection.commit()


def _log(folder: Path, secret: str) -> None:
    (folder / "server.log").write_text(f"< order.place address={secret}\n")


LEFT: dict[str, Callable[[Path, str], None]] = {"shop.db": _database, "shop.db-wal": _wal, "server.log": _log}


def test_the_search_finds_keys_and_delivery_codes(tmp_path: Path) -> None:
    folder = tmp_path / PLAIN_FOLDER
    folder.mkdir()
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.execute("CREATE TABLE orders (delivery_code TEXT)")
        connection.execute("INSERT INTO orders VALUES ('048213')")
        connection.commit()
    (folder / "shop.db.key").write_text("ab" * 32 + "\n")
    (folder / "server.log").write_text(f"= code 048213\n= at 12:00:00.048213Z\n= key {'ab' * 32}\n")
    assert sorted(search(folder).open) == [
        f"{folder}/server.log: the delivery code 048213",
        f"{folder}/server.log: the key of a database",
    ]


@pytest.mark.usefixtures("_shop")
def test_nothing_that_was_planted_lies_open(
    tmp_path_factory: pytest.TempPathFactory, record_property: Callable[[str, object], None]
) -> None:
    found = search(tmp_path_factory.getbasetemp())
    if LEFT_BEHIND is not None:  # by the rest of the suite, which ran in processes of its own
        elsewhere = search(Path(LEFT_BEHIND))
        assert elsewhere.open == []
        assert elsewhere.databases > MANY
        assert elsewhere.logs > MANY_LOGS

    assert found.open == []
    assert found.sealed.keys() == {f"{column.table}.{column.column}" for column in SEALED}
    assert all(found.sealed.values()), found.sealed
    assert found.databases >= 2
    assert found.logs >= 1
    assert found.wals >= 1
    record_property("databases", found.databases)
    record_property("not_migrated", found.not_migrated)
    record_property("write_ahead_logs", found.wals)
    record_property("logs", found.logs)
    record_property("mib", found.bytes >> 20)
    record_property("sealed_cells_opened", sum(found.sealed.values()))
