"""What the doctor finds, one thing wrong at a time; a sound service comes first."""

import ctypes
import errno
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from certificate_authority import DAY, TRUST_DOMAIN, CertificateAuthority
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from store.test_vault import plain_database

from securedelivery.config import Settings
from securedelivery.doctor import CHECKS, Finding, State, certificates, database, examine, machine
from securedelivery.model import timestamp
from securedelivery.store.audit import AuditEntry, append
from securedelivery.store.engine import Database

PASSPHRASE = "a word that only the operator knows"


class Patient:
    """A service's files; set() changes a setting, find() looks at it."""

    def __init__(self, folder: Path) -> None:
        self.ca = CertificateAuthority()
        self.now = self.ca.now
        self.certs = self.ca.write(folder / "certs", self.ca.server("shop.example", "localhost", "127.0.0.1"))
        self.certs.chmod(0o755)
        (self.certs / "names.txt").write_text("alice\nbob\n")
        self.database = folder / "shop.db"
        self.key = folder / "shop.db.key"
        with Database.open(f"sqlite:///{self.database}") as opened:
            entry = AuditEntry(timestamp(self.now), None, "a")
            opened.writer.call(lambda tx, commands: [append(tx, [entry]) for _ in commands], None)
        self.values: dict[str, dict[str, Any]] = {
            "server": {"listen": "127.0.0.1:0", "certs": str(self.certs), "trust_domain": TRUST_DOMAIN},
            "database": {"url": f"sqlite:///{self.database}"},
            "limits": {"connections": 100},
        }

    def set(self, section: str, **values: Any) -> None:
        self.values.setdefault(section, {}).update(values)

    def find(self) -> list[Finding]:
        return list(examine(msgspec.convert(self.values, Settings), self.now))

    def wrong(self) -> list[Finding]:
        """All that is not ok."""
        return [one for one in self.find() if one.state is not State.OK]

    def only(self, check: str, state: State, what: str, remedy: str) -> None:
        """One thing is not ok, and this is it."""
        (found,) = self.wrong()
        assert (found.check, found.state) == (check, state)
        assert what in found.what
        assert remedy in found.remedy

    @property
    def generate(self) -> str:
        return f"./gen_certs.sh --dir {self.certs}"


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    monkeypatch.setattr(machine, "_is_adrift", lambda: False)
    monkeypatch.setattr(database, "LEAST_FREE", 1)
    return Patient(tmp_path)


def test_a_sound_service(patient: Patient) -> None:
    found = patient.find()
    assert {one.state for one in found} == {State.OK}
    assert {one.check for one in found} == set(CHECKS)
    assert all(one.what and not one.remedy for one in found)
    text = "\n".join(one.what for one in found)
    for words in (
        "CA ", "3650 days more", "server certificate", "89 days more", "it is for shop.example, localhost, 127.0.0.1",
        "revocation list", "(0 revoked, made", "30 days more", "its owner alone can read it", "names.txt: 2 reserved",
        "identities are of shop.test", "schema: revision", "shop.db: whole", "MiB free",
        "shop.db.key: opens the database", "keep a copy of it, apart from the backups",
        "any port that is free", "later than all that is on disk",
        "enough for limits.connections = 100",
    ):  # fmt: skip
        assert words in text


def test_looking_changes_nothing(patient: Patient, tmp_path: Path) -> None:
    def files() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_mode) for path in tmp_path.rglob("*")}

    before = files()
    patient.find()
    patient.database.unlink()
    patient.key.unlink()
    gone = {str(patient.database), str(patient.key)}
    patient.find()
    after = files()
    assert {path: seen for path, seen in before.items() if path not in gone and path != str(tmp_path)} == {
        path: seen for path, seen in after.items() if path != str(tmp_path)
    }


def test_a_check_that_meets_a_fault_of_the_system_says_so(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/srv/shop")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    patient.only("database", State.WRONG, "/srv/shop: Permission denied", "")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (_ for _ in ()).throw(OSError("odd")))
    patient.only("database", State.WRONG, "odd", "")


# Certificates


@pytest.mark.parametrize(
    ("end", "state", "what"),
    [
        (-1, State.WRONG, ": ended 20"),
        (1, State.NOTE, "1 day more"),
        (13, State.NOTE, "13 days more"),
    ],
)
def test_a_server_certificate_at_its_end(patient: Patient, end: int, state: State, what: str) -> None:
    issued = patient.ca.server(start=-60 * DAY, end=end * DAY + timedelta(hours=1 if end > 0 else 0))
    issued.write(patient.certs / "server.crt", patient.certs / "server.key")
    patient.only("server_certificate", state, what, f"{patient.generate} renew server")


def test_a_server_certificate_that_has_not_begun(patient: Patient) -> None:
    issued = patient.ca.server(start=3 * DAY)
    issued.write(patient.certs / "server.crt", patient.certs / "server.key")
    certificate, clock = patient.wrong()
    assert (certificate.state, certificate.remedy) == (State.WRONG, "check this machine's clock")
    assert "not valid before" in certificate.what
    assert clock.check == "clock"


def test_a_server_certificate_of_another_ca(patient: Patient) -> None:
    CertificateAuthority("other").server("shop.example").write(
        patient.certs / "server.crt", patient.certs / "server.key"
    )
    patient.only(
        "server_certificate", State.WRONG, "no client accepts it: the certificate is not trusted", "server --force"
    )


def test_a_certificate_for_another_purpose(patient: Patient) -> None:
    issued = patient.ca.issue("x", names=[x509.DNSName("shop.example")], purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    issued.write(patient.certs / "server.crt", patient.certs / "server.key")
    patient.only("server_certificate", State.WRONG, "for another purpose", "server --force")


def test_a_key_that_does_not_fit(patient: Patient) -> None:
    patient.ca.server().write(patient.certs / "spare.crt", patient.certs / "server.key")
    patient.only("server_certificate", State.WRONG, "this key does not belong to", "the pair that was made together")


def test_a_missing_certificate(patient: Patient) -> None:
    (patient.certs / "server.crt").unlink()
    patient.only("server_certificate", State.WRONG, "server.crt: there is no such file", "run ./gen_certs.sh")


def test_a_folder_without_anything(patient: Patient, tmp_path: Path) -> None:
    patient.set("server", certs=str(tmp_path / "none"))
    wrong = [one for one in patient.wrong() if one.state is State.WRONG]
    assert [one.check for one in wrong] == ["ca", "server_certificate", "revocation_list", "private_keys"]
    assert "run ./gen_certs.sh" in wrong[0].remedy
    assert wrong[3].what == f"{tmp_path}/none: No such file or directory"


@pytest.mark.parametrize(
    ("listen", "names", "sound"),
    [
        ("0.0.0.0:0", ["localhost", "127.0.0.1", "::1"], False),
        ("[::]:0", ["localhost"], False),
        ("0.0.0.0:0", ["shop.example"], True),
        ("127.0.0.1:0", ["localhost"], True),
        ("127.0.0.1:0", ["shop.example"], False),
        ("192.0.2.7:0", ["192.0.2.7"], True),
        ("192.0.2.7:0", ["192.0.2.8", "localhost"], False),
        ("192.0.2.7:0", ["shop.example"], True),
        ("localhost:0", ["localhost"], True),
        ("shop.example:0", ["localhost"], False),
    ],
)
def test_names_that_nobody_can_reach_the_server_by(
    patient: Patient, listen: str, names: list[str], sound: bool
) -> None:
    issued = patient.ca.server(*names)
    issued.write(patient.certs / "server.crt", patient.certs / "server.key")
    patient.set("server", listen=listen)
    if sound:
        assert patient.wrong() == []
    else:
        patient.only("server_certificate", State.NOTE, f"it is for {', '.join(names)} alone", "--dns NAME --ip ADDRESS")


def test_a_certificate_without_names(patient: Patient) -> None:
    certificate = patient.ca.certificate
    assert certificates.server_names(certificate) == []


@pytest.mark.parametrize(("after", "state"), [(3600 * DAY, State.NOTE), (3651 * DAY, State.WRONG)])
def test_a_ca_at_its_end(patient: Patient, after: timedelta, state: State) -> None:
    patient.now += after
    found = next(one for one in patient.wrong() if one.check == "ca")
    assert found.state is state
    assert found.remedy == f"{patient.generate}; then give everyone the new ca.crt"


def test_a_new_ca_beside_the_old_one(patient: Patient) -> None:
    old = CertificateAuthority(key=patient.ca.key, now=patient.now - 3700 * DAY).certificate
    with (patient.certs / "ca.crt").open("ab") as file:
        file.write(old.public_bytes(Encoding.PEM))
    assert patient.wrong() == []


# Revocation list


def test_no_revocation_list(patient: Patient) -> None:
    (patient.certs / "crl.pem").unlink()
    patient.only("revocation_list", State.WRONG, "every client certificate is refused", f"{patient.generate} crl")


@pytest.mark.parametrize(("end", "state", "what"), [(-1, State.WRONG, "ended 20"), (3, State.NOTE, "3 days more")])
def test_an_outdated_revocation_list(patient: Patient, end: int, state: State, what: str) -> None:
    patient.ca.write_crl(patient.certs, start=-20 * DAY, end=end * DAY + timedelta(hours=1))
    patient.only("revocation_list", state, what, f"{patient.generate} crl")


def test_a_revocation_list_of_another_ca(patient: Patient) -> None:
    CertificateAuthority("other").write_crl(patient.certs)
    patient.only("revocation_list", State.WRONG, "was not made by", "use the crl.pem that lies beside that ca.crt")


def test_a_revocation_list_without_an_end(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        next_update_utc = None

    class Believed:
        authorities = (patient.ca.certificate,)
        crls = (Endless(),)

    load = certificates.load_trust
    monkeypatch.setattr(certificates, "load_trust", lambda ca, crl: load(ca, crl) if crl is None else Believed())
    patient.only("revocation_list", State.WRONG, "it has no end", f"{patient.generate} crl")


def test_how_many_are_revoked_is_told(patient: Patient) -> None:
    patient.ca.revoke(patient.ca.client("bob"), patient.ca.client("eve"))
    patient.ca.write_crl(patient.certs)
    assert any("(2 revoked, made" in one.what for one in patient.find())


# Private keys


@pytest.mark.parametrize("name", ["server.key", "ca.key", "clients/bob.key", "proxies/edge.key"])
def test_a_key_that_others_can_read(patient: Patient, name: str) -> None:
    path = patient.certs / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    path.chmod(0o640)
    if name == "server.key":
        path.chmod(0o644)
    found = next(one for one in patient.wrong() if one.state is State.WRONG)
    assert found.check == "private_keys"
    assert found.what == f"{path} can be read by others: take it for stolen"
    assert found.remedy.startswith(f"chmod go= {path}; then renew")


def test_many_keys_that_others_can_read(patient: Patient) -> None:
    (patient.certs / "clients").mkdir()
    for number in range(5):
        (patient.certs / f"clients/c{number}.key").touch(0o644)
    found = next(one for one in patient.wrong() if one.state is State.WRONG)
    assert found.what == f"{patient.certs}/clients/c0.key and 4 more can be read by others: take it for stolen"
    assert found.remedy.startswith(f"chmod go= {patient.certs}/*/*.key; ")


def test_the_cas_key_on_the_server(patient: Patient) -> None:
    (patient.certs / "ca.key").touch(0o400)
    patient.only("private_keys", State.NOTE, "whoever breaks in can be anybody", "the server needs ca.crt, crl.pem")


def test_customers_keys_on_the_server(patient: Patient) -> None:
    (patient.certs / "clients").mkdir()
    for name in ("bob", "eve"):
        (patient.certs / f"clients/{name}.key").touch(0o600)
    patient.only("private_keys", State.NOTE, "clients: 2", f"{patient.generate} client NAME --csr FILE")


def test_a_folder_that_others_can_write(patient: Patient) -> None:
    patient.certs.chmod(0o777)
    patient.only("private_keys", State.WRONG, "who can put their own CA there", f"chmod go-w {patient.certs}")


def test_a_folder_with_a_blank_in_its_name_can_be_pasted(patient: Patient) -> None:
    new = patient.certs.rename(patient.certs.with_name("my certs"))
    new.chmod(0o777)
    patient.set("server", certs=str(new))
    patient.only("private_keys", State.WRONG, "", f"chmod go-w '{new}'")


def test_the_usual_folder_needs_no_naming() -> None:
    assert certificates.generate(Settings(), "crl") == "./gen_certs.sh crl"
    assert certificates.generate(Settings()) == "./gen_certs.sh"


# Names


@pytest.mark.parametrize(("policy", "state"), [("required", State.OK), ("optional", State.NOTE)])
def test_no_names(patient: Patient, policy: str, state: State) -> None:
    (patient.certs / "names.txt").unlink()
    patient.set("server", client_certificates=policy)
    (found,) = [one for one in patient.find() if one.check == "names"]
    assert found.state is state
    assert f"there is no {patient.certs}/names.txt" in found.what


def test_names_that_are_no_text(patient: Patient) -> None:
    (patient.certs / "names.txt").write_bytes(b"\xff\xfe")
    patient.only("names", State.WRONG, "cannot be read (not text)", "copy it anew from the CA's folder")


def test_names_elsewhere(patient: Patient, tmp_path: Path) -> None:
    patient.set("accounts", names_file=str(tmp_path))
    patient.only("names", State.WRONG, "cannot be read (Is a directory)", "give this user the right to read it")


def test_a_trust_domain_that_cannot_be_read(patient: Patient) -> None:
    del patient.values["server"]["trust_domain"]
    (patient.certs / "trust-domain").mkdir()
    patient.only("names", State.WRONG, "trust-domain: ", "set trust_domain under [server]")


# Database and key


def test_no_database_yet(patient: Patient) -> None:
    patient.database.unlink()
    patient.only("database", State.NOTE, f"there is no database {patient.database} yet", "the first start makes it")


def test_a_database_that_others_can_read(patient: Patient) -> None:
    patient.database.chmod(0o644)
    patient.only("database", State.WRONG, "can be read by others", f"chmod 600 {patient.database}")


def test_a_database_of_another_program(patient: Patient) -> None:
    patient.database.unlink()
    with closing(sqlite3.connect(patient.database)) as connection:
        connection.execute("CREATE TABLE songs (id)")
    patient.database.chmod(0o600)
    first, second = patient.wrong()
    assert (first.check, second.check) == ("database", "key")
    assert first.what == "this is an empty database, or one of another program"


def test_a_file_that_is_no_database(patient: Patient) -> None:
    patient.database.write_text("sku,name\n" * 500)
    assert [one.check for one in patient.wrong()] == ["database", "key"]
    assert patient.wrong()[0].what == f"{patient.database}: file is not a database"


def test_a_url_that_is_none(patient: Patient) -> None:
    patient.set("database", url="mysql://x")
    assert [one.check for one in patient.wrong()] == ["database", "key", "clock"]
    assert "mysql is not supported" in patient.wrong()[0].what


def test_a_damaged_database(patient: Patient) -> None:
    content = bytearray(patient.database.read_bytes())
    with closing(sqlite3.connect(patient.database)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'orders'").fetchone()
    content[(page - 1) * 4_096 : page * 4_096] = os.urandom(4_096)
    patient.database.write_bytes(content)
    patient.only("database", State.WRONG, "is damaged: ", "restore a backup: securedelivery admin restore FILE")


def test_a_database_of_a_newer_program(patient: Patient) -> None:
    with closing(sqlite3.connect(patient.database, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    patient.only("database", State.WRONG, "revision 9999, of a newer program", "update the program, or restore")


def test_a_database_of_an_earlier_program(patient: Patient) -> None:
    patient.database.unlink()
    plain_database(patient.database)
    before = patient.database.read_bytes()
    schema, key = patient.wrong()
    assert (schema.check, schema.state) == ("database", State.NOTE)
    assert "the next start brings it to" in schema.what
    assert "make a backup before: securedelivery admin backup FILE" in schema.remedy
    assert (key.check, key.state) == ("key", State.NOTE)
    assert "not encrypted yet" in key.what
    assert patient.database.read_bytes() == before


@pytest.mark.parametrize(("free", "state"), [(10 * 2**20, State.WRONG), (70 * 2**20, State.NOTE)])
def test_a_full_disk(patient: Patient, monkeypatch: pytest.MonkeyPatch, free: int, state: State) -> None:
    class Usage:
        def __init__(self, _path: Path) -> None:
            self.free = free

    monkeypatch.setattr(database, "LEAST_FREE", 2**26)
    monkeypatch.setattr(shutil, "disk_usage", Usage)
    with patient.database.open("ab") as file:
        file.truncate(100 * 2**20)
    found = [one for one in patient.wrong() if "MiB free" in one.what]
    assert [one.state for one in found] == [state]
    assert found[0].what.startswith(
        f"disk of {patient.database.parent}: {free // 2**20} MiB free, the database takes 100.0"
    )


def test_a_database_in_use_is_looked_at_all_the_same(patient: Patient) -> None:
    with Database.open(f"sqlite:///{patient.database}") as opened:
        entry = AuditEntry(timestamp(patient.now), None, "b")
        opened.writer.call(lambda tx, commands: [append(tx, [entry]) for _ in commands], None)
        assert patient.wrong() == []


def test_a_missing_key(patient: Patient) -> None:
    patient.key.unlink()
    patient.only("key", State.WRONG, "shop.db.key, is missing; without the right one no name", "")
    assert not patient.key.exists()


def test_a_key_of_another_database(patient: Patient) -> None:
    patient.key.write_text("5a" * 32)
    patient.only("key", State.WRONG, "is not the one of this database", "")


def test_a_database_key_that_others_can_read(patient: Patient) -> None:
    patient.key.chmod(0o644)
    patient.only("key", State.WRONG, "can be read by others; chmod 600", "")


def test_a_passphrase(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "words.txt").touch(0o600)
    (tmp_path / "words.txt").write_text(PASSPHRASE)
    patient.set("database", passphrase_file=str(tmp_path / "words.txt"), url=f"sqlite:///{tmp_path}/other.db")
    from securedelivery.store.vault import KeySource

    Database.open(f"sqlite:///{tmp_path}/other.db", keys=KeySource(tmp_path / "unused", PASSPHRASE)).close()
    assert patient.wrong() == []
    (tmp_path / "words.txt").write_text(PASSPHRASE + "?")
    patient.only("key", State.WRONG, "the passphrase is not the one of this database", "")
    (tmp_path / "words.txt").unlink()
    patient.only("key", State.WRONG, "database.passphrase_file: ", "name a text file of this user")


# The port


def ready(certs: Path, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.crt", certs / "server.key")
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@contextmanager
def answering(context: ssl.SSLContext | bytes | None) -> Iterator[int]:
    """A port where somebody answers one caller: with TLS, with a few bytes, or (None) never."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                if isinstance(context, bytes):
                    connection.sendall(context)
                elif context is not None:
                    try:
                        with context.wrap_socket(connection, server_side=True) as secured:
                            secured.recv(1)
                    except OSError:
                        pass

        thread = threading.Thread(target=answer)
        if context is not None:
            thread.start()
        yield listener.getsockname()[1]
        if context is not None:
            thread.join(10)
            assert not thread.is_alive()


def test_a_free_port(patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    patient.set("server", listen=f"127.0.0.1:{port}")
    assert any(one.what == f"listen 127.0.0.1:{port}: free; no service runs there" for one in patient.find())


def test_this_service_has_the_port(patient: Patient) -> None:
    with answering(ready(patient.certs, ["securedelivery/1"])) as port:
        patient.set("server", listen=f"127.0.0.1:{port}")
        found = [one for one in patient.find() if one.check == "listen"]
    assert [(one.state, one.what) for one in found] == [
        (State.OK, f"listen 127.0.0.1:{port}: securedelivery answers, with this certificate")
    ]


def test_this_service_has_the_port_with_an_older_certificate(patient: Patient) -> None:
    context = ready(patient.certs, ["securedelivery/1"])
    issued = patient.ca.server("shop.example", "127.0.0.1")
    issued.write(patient.certs / "server.crt", patient.certs / "server.key")
    with answering(context) as port:
        patient.set("server", listen=f"127.0.0.1:{port}")
        patient.only("listen", State.NOTE, "with another certificate than", "kill -HUP loads it")


@pytest.mark.parametrize("other", ["web", "no protocol", "plain", "other CA"])
def test_another_program_has_the_port(patient: Patient, tmp_path: Path, other: str) -> None:
    certs = CertificateAuthority("other").write(tmp_path / "other") if other == "other CA" else patient.certs
    protocols = {"web": ["h2", "http/1.1"], "no protocol": []}.get(other, ["securedelivery/1"])
    with answering(b"220 mail.example ESMTP\r\n" if other == "plain" else ready(certs, protocols)) as port:
        patient.set("server", listen=f"127.0.0.1:{port}")
        patient.only("listen", State.WRONG, "another program has it", f"ss -ltnp 'sport = :{port}'")


def test_somebody_silent_has_the_port(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ANSWER_SECONDS", 0.2)
    with answering(None) as port:
        patient.set("server", listen=f"127.0.0.1:{port}")
        patient.only("listen", State.NOTE, "something has it and does not answer", "ss -ltnp")


def test_a_port_in_use_and_no_certificates(patient: Patient) -> None:
    (patient.certs / "server.key").unlink()
    with answering(None) as port:
        patient.set("server", listen=f"127.0.0.1:{port}")
        found = [one for one in patient.wrong() if one.check == "listen"]
    assert [one.what for one in found] == [
        f"listen 127.0.0.1:{port}: in use; without certificates there is no telling by what"
    ]


@pytest.mark.parametrize(
    ("listen", "shown"),
    [
        ("192.0.2.7:5555", "192.0.2.7:5555: "),
        ("[2001:db8::7]:5555", "[2001:db8::7]:5555: "),
        (f"{'x' * 70}:1", "x:1: "),
    ],
)
def test_an_address_that_is_not_of_this_machine(patient: Patient, listen: str, shown: str) -> None:
    patient.set("server", listen=listen)
    found = [one for one in patient.wrong() if one.check == "listen"]
    assert [one.state for one in found] == [State.WRONG]
    assert shown in found[0].what
    assert "choose an address of this machine" in found[0].remedy


# The clock


def test_a_clock_that_was_set_back(patient: Patient) -> None:
    patient.now -= timedelta(hours=2)
    patient.only("clock", State.WRONG, "but the newest row of the audit is of ", "timedatectl set-ntp true")


def test_a_clock_behind_the_certificates(patient: Patient) -> None:
    patient.now -= 10 * DAY
    found = {one.check: one for one in patient.wrong()}
    assert found["clock"].state is State.WRONG
    assert found["server_certificate"].remedy == "check this machine's clock"
    assert found["revocation_list"].remedy == "check this machine's clock"


def test_a_few_seconds_are_nothing(patient: Patient) -> None:
    patient.now -= timedelta(seconds=30)
    assert patient.wrong() == []


def test_an_audit_that_cannot_be_read_is_not_the_clocks_affair(patient: Patient) -> None:
    with closing(sqlite3.connect(patient.database, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_delete")
        connection.execute("DELETE FROM audit")
    assert [one.check for one in patient.wrong()] == ["database"]
    with closing(sqlite3.connect(patient.database, isolation_level=None)) as connection:
        connection.execute("DROP TABLE audit")
    assert [one.check for one in patient.wrong()] == ["database"]


def test_the_kernel_is_asked(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    class Kernel:
        def __init__(self, answer: int) -> None:
            self.adjtimex = lambda _: answer

    for answer, adrift in ((0, False), (-1, False), (5, True)):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, answer=answer: Kernel(answer))
        assert machine._is_adrift() is adrift
        found = [one for one in patient.find() if "synchronized" in one.what]
        assert [one.state for one in found] == ([State.NOTE] if adrift else [])
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert machine._is_adrift() is False


def test_the_real_kernel_answers() -> None:
    assert machine._is_adrift() in (True, False)


# Open files


@pytest.mark.parametrize(
    ("most", "state", "what"),
    [
        (500, State.NOTE, "open files: 500 are allowed, too few for limits.connections = 1,000"),
        (1_128, State.OK, "open files: 1,128 are allowed, enough for limits.connections = 1,000"),
        (resource.RLIM_INFINITY, State.OK, "open files: any number is allowed, enough for limits.connections = 1,000"),
    ],
)
def test_the_limit_of_open_files(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, most: int, state: State, what: str
) -> None:
    patient.set("limits", connections=1_000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))
    (found,) = [one for one in patient.find() if one.check == "open_files"]
    assert (found.state, found.what) == (state, what)
    assert ("LimitNOFILE=1128" in found.remedy) is (state is State.NOTE)


def test_times_of_rows_are_times(patient: Patient) -> None:
    settings = msgspec.convert(patient.values, Settings)
    assert database.newest_entry(settings) == patient.now
    with closing(sqlite3.connect(patient.database, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_update")
        connection.execute("UPDATE audit SET at = '2026-99-99T00:00:00.000000Z'")
    assert database.newest_entry(settings) is None
    assert isinstance(patient.now, datetime)
