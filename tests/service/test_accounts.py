"""Accounts: made, logged in, shown."""

import os
from pathlib import Path

import pytest
from argon2 import Parameters
from service.shop import CHEAP, Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Account, AccountId, MailPreferences, Role
from securedelivery.service.identity import IssuedNames, name_of
from securedelivery.service.passwords import Passwords
from securedelivery.service.session import Session
from securedelivery.store import audit

ALICE = "spiffe://example.org/account/alice"
BOB = "spiffe://example.org/account/bob"
HOME = "192.0.2.1"
PASSWORD = "correct horse"


def refused(call: object, *arguments: object, **named: object) -> tuple[Reason, dict[str, object]]:
    with pytest.raises(Refusal) as caught:
        call(*arguments, **{"remote": HOME, **named})  # type: ignore[operator]
    return caught.value.reason, caught.value.data


def audited(shop: Shop) -> list[tuple[object, ...]]:
    with shop.database.read() as tx:
        assert audit.verify(tx) is None
        return [entry[1:] for _, entry, _ in audit.everything(tx)]


def test_with_a_password(shop: Shop) -> None:
    session = shop.accounts.create("alice", PASSWORD, "Alice", "a@example.org", "1 Road", identity=None, remote=HOME)
    assert session == Session(AccountId(1), "alice", Role.CUSTOMER)
    assert shop.accounts.get(session) == Account(
        username="alice",
        role=Role.CUSTOMER,
        name="Alice",
        email="a@example.org",
        address="1 Road",
        certificate=None,
        has_password=True,
        mail=MailPreferences(),
        order_count=0,
        points=0,
        tier="bronze",
        created_at="2026-03-01T12:00:00.123456Z",
    )
    assert shop.accounts.login("alice", PASSWORD, identity=None, remote=HOME) == session
    assert audited(shop) == [
        (1, "account.created", "account:1", '{"role":"customer","certificate":false,"by":"customer"}'),
        (1, "login", "account:1", '{"method":"password","remote":"192.0.2.1"}'),
    ]
    ((stored,),) = shop.sql("SELECT password FROM accounts")
    assert str(stored).startswith("$argon2id$")


def test_with_a_certificate(shop: Shop) -> None:
    session = shop.accounts.create("alice", identity=ALICE, remote=HOME)
    account = shop.accounts.get(session)
    assert (account.certificate, account.has_password) == (ALICE, False)
    assert shop.accounts.login_certificate(identity=ALICE, remote=HOME) == session
    # Without a password there is no login by one.
    for identity in (ALICE, None):
        assert refused(shop.accounts.login, "alice", "", identity=identity) == (Reason.BAD_CREDENTIALS, {})


def test_with_both(shop: Shop) -> None:
    session = shop.accounts.create("alice", PASSWORD, identity=ALICE, remote=HOME)
    for identity in (ALICE, None):
        assert shop.accounts.login("alice", PASSWORD, identity=identity, remote=HOME) == session
    assert shop.accounts.login_certificate(identity=ALICE, remote=HOME) == session
    shop.sql("UPDATE accounts SET certificate_required = 1")
    for identity in (ALICE, None):
        assert refused(shop.accounts.login, "alice", PASSWORD, identity=identity) == (Reason.BAD_CREDENTIALS, {})
    assert shop.accounts.login_certificate(identity=ALICE, remote=HOME) == session


def test_a_certificate_is_for_its_own_name(shop: Shop) -> None:
    shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    assert refused(shop.accounts.create, "carol", identity=BOB) == (Reason.FORBIDDEN, {})
    assert refused(shop.accounts.login, "alice", PASSWORD, identity=BOB) == (Reason.FORBIDDEN, {})
    # Not bound by having the name alone.
    assert refused(shop.accounts.login_certificate, identity=ALICE) == (Reason.BAD_CREDENTIALS, {})
    assert refused(shop.accounts.login_certificate, identity=None) == (Reason.BAD_CREDENTIALS, {})
    assert shop.accounts.login("alice", PASSWORD, identity=ALICE, remote=HOME).username == "alice"


def test_a_certificate_of_another_trust_domain(shop: Shop) -> None:
    shop.accounts.create("alice", identity=ALICE, remote=HOME)
    other = "spiffe://example.com/account/alice"
    assert refused(shop.accounts.login_certificate, identity=other) == (Reason.BAD_CREDENTIALS, {})
    assert refused(shop.accounts.create, "alice", identity=other) == (Reason.USERNAME_TAKEN, {})


def test_names_that_are_taken(shop: Shop) -> None:
    shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    taken = (Reason.USERNAME_TAKEN, {})
    assert refused(shop.accounts.create, "alice", PASSWORD, identity=None) == taken
    assert refused(shop.accounts.create, "alice", identity=ALICE) == taken
    with pytest.raises(Refusal, match="alice is taken"):
        shop.accounts.create_by_operator("alice", Role.AGENT, identity=ALICE)


def test_nobody_is_called_like_the_operator_at_the_machine(shop: Shop) -> None:
    """Or rows of the audit could not be told apart."""
    uri = "spiffe://example.org/account/operator"
    assert refused(shop.accounts.create, "operator", PASSWORD, identity=None) == (Reason.USERNAME_TAKEN, {})
    assert refused(shop.accounts.create, "operator", identity=uri) == (Reason.USERNAME_TAKEN, {})
    with pytest.raises(Refusal, match="operator is taken"):
        shop.accounts.create_by_operator("operator", Role.ADMIN, identity=uri)
    assert shop.accounts.create("operators", PASSWORD, identity=None, remote=HOME)


def test_two_at_once_with_one_name(shop: Shop) -> None:
    from securedelivery.service.accounts import _NewAccount

    rows = [shop.accounts._row(name, Role.CUSTOMER, None) for name in ("alice", "alice", "bob")]
    whole = lambda tx, batches: [shop.accounts._add(tx, batch) for batch in batches]
    one, two, three = shop.database.writer.call(whole, [_NewAccount(row, "customer") for row in rows])
    assert one == Session(AccountId(1), "alice", Role.CUSTOMER)
    assert isinstance(two, Refusal)
    assert two.reason is Reason.USERNAME_TAKEN
    assert three == Session(AccountId(2), "bob", Role.CUSTOMER)


def test_names_with_a_certificate_are_not_given_away(shop: Shop) -> None:
    shop.names_file.write_text("alice\nbob\n")
    assert refused(shop.accounts.create, "bob", PASSWORD, identity=None) == (Reason.USERNAME_TAKEN, {})
    assert shop.accounts.create("carol", PASSWORD, identity=None, remote=HOME).username == "carol"
    assert shop.accounts.create("bob", identity=BOB, remote=HOME).username == "bob"


def test_parameters_that_are_wrong(shop: Shop) -> None:
    path = (Reason.INVALID_PARAMS, {"path": "/password"})
    assert refused(shop.accounts.create, "alice", identity=None) == path
    assert refused(shop.accounts.create, "alice", "short", identity=None) == path
    assert refused(shop.accounts.create, "alice", "password123", identity=ALICE) == path
    assert refused(shop.accounts.create, "Alice", PASSWORD, identity=None) == (
        Reason.INVALID_PARAMS,
        {"path": "/username"},
    )
    with pytest.raises(Refusal, match="3 to 32"):
        shop.accounts.create_by_operator("x", Role.ADMIN, identity="spiffe://example.org/account/x")
    with pytest.raises(Refusal, match="tried first"):
        shop.accounts.create_by_operator("bob", Role.ADMIN, identity=BOB, password="password")
    with pytest.raises(Refusal, match="for bob alone"):
        shop.accounts.create_by_operator("alice", Role.ADMIN, identity=BOB)
    assert audited(shop) == []


def test_by_the_operator(shop: Shop) -> None:
    shop.names_file.write_text("alice\nbob\n")
    alice = shop.accounts.create_by_operator("alice", Role.AGENT, identity=ALICE)
    bob = shop.accounts.create_by_operator("bob", Role.ADMIN, identity=BOB, password=PASSWORD)
    assert (alice.role, bob.role) == (Role.AGENT, Role.ADMIN)
    assert alice.is_staff
    assert not shop.accounts.get(alice).has_password
    assert shop.accounts.login("bob", PASSWORD, identity=None, remote=HOME) == bob
    assert audited(shop)[0] == (
        None,
        "account.created",
        "account:1",
        '{"role":"agent","certificate":true,"by":"operator"}',
    )


def test_a_wrong_name_and_a_wrong_password_are_the_same(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    shop.accounts.create("bob", identity=BOB, remote=HOME)
    shop.accounts.create("carol", PASSWORD, identity=None, remote=HOME)
    shop.sql("UPDATE accounts SET disabled = 1 WHERE username = 'carol'")
    verified: list[str] = []
    verify = shop.passwords._hasher.verify
    monkeypatch.setattr(
        type(shop.passwords._hasher), "verify", lambda _, *given: (verified.append(given[0]), verify(*given))
    )
    answers = set()
    names = ("alice", "bob", "carol", "nobody", "Not A Name")
    for name in names:
        with pytest.raises(Refusal) as caught:
            shop.accounts.login(name, "wrong horse", identity=None, remote=HOME)
        answers.add((caught.value.reason, caught.value.message, tuple(caught.value.data)))
    assert answers == {(Reason.BAD_CREDENTIALS, "wrong name or password", ())}
    # One Argon2 with the same parameters each, and one row each.
    assert len(verified) == len(names)
    assert len({text.split("$")[3] for text in verified}) == 1
    failures = [entry for entry in audited(shop) if entry[1] == "login.failed"]
    detail = '{"method":"password","remote":"192.0.2.1"}'
    subjects = ["account:1", "account:2", "account:3", None, None]
    assert failures == [(None, "login.failed", subject, detail) for subject in subjects]


def test_a_disabled_account(shop: Shop) -> None:
    shop.accounts.create("alice", PASSWORD, identity=ALICE, remote=HOME)
    shop.sql("UPDATE accounts SET disabled = 1")
    assert refused(shop.accounts.login, "alice", PASSWORD, identity=None) == (Reason.DISABLED, {})
    assert refused(shop.accounts.login_certificate, identity=ALICE) == (Reason.DISABLED, {})
    assert [entry[1] for entry in audited(shop)] == ["account.created", "login.failed", "login.failed"]


def test_disabled_between_the_password_and_the_session(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    verify = shop.passwords.verify

    def meanwhile(stored: str | None, password: str) -> bool:
        shop.sql("UPDATE accounts SET disabled = 1")
        return verify(stored, password)

    monkeypatch.setattr(shop.passwords, "verify", meanwhile)
    assert refused(shop.accounts.login, "alice", PASSWORD, identity=None) == (Reason.DISABLED, {})


def test_a_hash_with_old_parameters_is_made_anew(shop: Shop) -> None:
    shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    newer = Parameters(type=CHEAP.type, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=8, parallelism=1)
    shop.accounts._passwords = Passwords(profile=newer)
    shop.accounts.login("alice", PASSWORD, identity=None, remote=HOME)
    ((stored,),) = shop.sql("SELECT password FROM accounts")
    assert "t=2" in str(stored)
    shop.accounts.login("alice", PASSWORD, identity=None, remote=HOME)
    assert shop.sql("SELECT password FROM accounts") == [(stored,)]


def test_attempts_are_limited_and_no_row_is_written_for_what_is_not_tried(shop: Shop) -> None:
    shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    for _ in range(5):
        assert refused(shop.accounts.login, "alice", "wrong horse", identity=None)[0] is Reason.BAD_CREDENTIALS
    for _ in range(10):
        assert refused(shop.accounts.login, "alice", PASSWORD, identity=None) == (
            Reason.RATE_LIMITED,
            {"retry_after": 60},
        )
    assert len(audited(shop)) == 6
    assert shop.accounts.login("alice", PASSWORD, identity=None, remote="198.51.100.7")
    shop.clock.forward(seconds=60)
    assert shop.accounts.login("alice", PASSWORD, identity=None, remote=HOME)
    for _ in range(4):
        refused(shop.accounts.login, "alice", "wrong horse", identity=None)
    assert shop.accounts.login("alice", PASSWORD, identity=None, remote=HOME)


def test_creations_are_limited_without_a_certificate(shop: Shop) -> None:
    for number in range(100):
        refused(shop.accounts.create, f"name{number}", None, identity=None)
        shop.accounts._attempts.creation(HOME)
    assert refused(shop.accounts.create, "alice", PASSWORD, identity=None)[0] is Reason.RATE_LIMITED
    assert shop.accounts.create("alice", identity=ALICE, remote=HOME)


def test_get_of_an_account_that_is_gone(shop: Shop) -> None:
    with pytest.raises(Refusal) as caught:
        shop.accounts.get(Session(AccountId(9), "nobody", Role.CUSTOMER))
    assert caught.value.reason is Reason.NOT_LOGGED_IN


def test_the_name_in_an_identity() -> None:
    assert name_of("spiffe://example.org/account/a.b-c_9") == "a.b-c_9"


def test_issued_names_follow_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "names.txt"
    names = IssuedNames(path)
    assert "alice" not in names
    path.write_text("alice\n\nbob\n")
    assert "alice" in names
    assert "carol" not in names
    assert "" not in names
    path.write_text("alice\nbob\ncarol\n")
    assert "carol" in names
    path.write_bytes(b"\xff\xfe")
    assert "carol" in names  # better reserved than given away
    assert "cannot be read" in caplog.text
    path.unlink()
    assert "carol" in names
    assert "is gone" in caplog.text
    path.write_text("dave\n")
    os.utime(path, (1, 1))
    assert "dave" in names
    assert "dave" not in IssuedNames(None)
