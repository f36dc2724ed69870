"""Passwords changed by their owner and by the operator; sessions that this ends; proofs that count like logins."""

import pytest
from service.shop import Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Role
from securedelivery.service.events import AccountChanged
from securedelivery.service.session import Ends, Session, Stays
from securedelivery.store import audit

ALICE = "spiffe://example.org/account/alice"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"
PASSWORD, ANOTHER = "correct horse", "another horse"


def refused(call: object, *arguments: object, **named: object) -> tuple[Reason, dict[str, object]]:
    with pytest.raises(Refusal) as caught:
        call(*arguments, **{"remote": HOME, **named})  # type: ignore[operator]
    return caught.value.reason, caught.value.data


def audited(shop: Shop) -> list[tuple[object, ...]]:
    with shop.database.read() as tx:
        assert audit.verify(tx) is None
        return [row.entry[1:] for row in audit.everything(tx)]


def login(shop: Shop, password: str, remote: str = HOME) -> Session:
    return shop.accounts.login("alice", password, identity=None, remote=remote)


@pytest.fixture
def alice(shop: Shop) -> Session:
    return shop.accounts.create("alice", PASSWORD, identity=ALICE, remote=HOME)


def test_changing_it(shop: Shop, alice: Session) -> None:
    other = login(shop, PASSWORD)
    assert other == alice
    mine = shop.accounts.change_password(alice, ANOTHER, PASSWORD, remote=HOME)
    assert mine == Session(alice.account_id, "alice", Role.CUSTOMER, credentials=1)
    assert shop.events == [AccountChanged(alice.account_id)]
    assert shop.accounts.review(mine, ALICE) == Stays(mine)
    assert isinstance(shop.accounts.review(other, ALICE), Ends)
    assert refused(login, shop, PASSWORD) == (Reason.BAD_CREDENTIALS, {})
    assert login(shop, ANOTHER) == mine
    assert shop.accounts.login_certificate(identity=ALICE, remote=HOME) == mine
    assert (1, "account.password_changed", "account:1", None) in audited(shop)


def test_the_first_one_of_an_account_without(shop: Shop) -> None:
    alice = shop.accounts.create("alice", identity=ALICE, remote=HOME)
    assert shop.accounts.change_password(alice, PASSWORD, remote=HOME).credentials == 1
    assert shop.accounts.get(alice).has_password
    assert login(shop, PASSWORD).credentials == 1


@pytest.mark.parametrize("old", [None, "", "wrong horse"])
def test_the_old_one_has_to_be_right(shop: Shop, alice: Session, old: str | None) -> None:
    assert refused(shop.accounts.change_password, alice, ANOTHER, old) == (Reason.BAD_CREDENTIALS, {})
    assert shop.events == []
    assert login(shop, PASSWORD) == alice
    detail = '{"method":"change_password","remote":"192.0.2.1"}'
    assert (None, "login.failed", "account:1", detail) in audited(shop)


@pytest.mark.parametrize("new", ["short", "x" * 257, "password123", "alice", "alicealice", "aaaaaaaaaaaa"])
def test_the_new_one_has_to_be_acceptable(shop: Shop, alice: Session, new: str) -> None:
    path = {"path": "/new_password"}
    assert refused(shop.accounts.change_password, alice, new, PASSWORD) == (Reason.INVALID_PARAMS, path)
    # Before the old one is looked at, so that it is no way to try passwords.
    assert refused(shop.accounts.change_password, alice, new, "wrong horse") == (Reason.INVALID_PARAMS, path)
    assert len(audited(shop)) == 1


def test_attempts_count_like_those_of_a_login(shop: Shop, alice: Session) -> None:
    for _ in range(5):
        assert refused(shop.accounts.change_password, alice, ANOTHER, "wrong horse")[0] is Reason.BAD_CREDENTIALS
    limited = (Reason.RATE_LIMITED, {"retry_after": 60})
    assert refused(shop.accounts.change_password, alice, ANOTHER, PASSWORD) == limited
    assert refused(login, shop, PASSWORD) == limited
    assert refused(shop.privacy.delete, alice, PASSWORD) == limited
    assert len(audited(shop)) == 6
    shop.clock.forward(seconds=60)
    assert shop.accounts.change_password(alice, ANOTHER, PASSWORD, remote=HOME)
    for _ in range(4):
        refused(login, shop, "wrong horse")
    assert login(shop, ANOTHER)


def test_a_session_that_is_over_changes_nothing(shop: Shop, alice: Session) -> None:
    shop.accounts.change_password(alice, ANOTHER, PASSWORD, remote=HOME)
    assert refused(shop.accounts.change_password, alice, "a third horse", ANOTHER)[0] is Reason.NOT_LOGGED_IN
    shop.accounts.disable(None, "alice", disabled=True)
    assert refused(shop.accounts.change_password, alice, "a third horse", ANOTHER)[0] is Reason.DISABLED


def test_two_at_once_are_one(shop: Shop, alice: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proved with the old password does not hold any more once there is a new one."""
    hashing = shop.passwords.hash

    def meanwhile(password: str) -> str:
        monkeypatch.undo()
        shop.accounts.reset_password("alice", "of the operator")
        return hashing(password)

    monkeypatch.setattr(shop.passwords, "hash", meanwhile)
    assert refused(shop.accounts.change_password, alice, ANOTHER, PASSWORD)[0] is Reason.NOT_LOGGED_IN
    assert login(shop, "of the operator")


def test_a_login_with_a_password_that_is_changed_meanwhile(
    shop: Shop, alice: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = shop.passwords.verify

    def meanwhile(stored: str | None, password: str) -> bool:
        monkeypatch.undo()
        shop.accounts.reset_password("alice", ANOTHER)
        return verify(stored, password)

    monkeypatch.setattr(shop.passwords, "verify", meanwhile)
    assert refused(login, shop, PASSWORD) == (Reason.BAD_CREDENTIALS, {})
    assert login(shop, ANOTHER).credentials == 1


def test_a_login_while_the_certificate_becomes_required(
    shop: Shop, alice: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = shop.passwords.verify

    def meanwhile(stored: str | None, password: str) -> bool:
        monkeypatch.undo()
        shop.accounts.require_certificate("alice", required=True)
        return verify(stored, password)

    monkeypatch.setattr(shop.passwords, "verify", meanwhile)
    assert refused(login, shop, PASSWORD) == (Reason.BAD_CREDENTIALS, {})
    assert shop.accounts.login_certificate(identity=ALICE, remote=HOME) == alice


def test_the_operator_sets_it(shop: Shop, alice: Session) -> None:
    account = shop.accounts.reset_password("alice", ANOTHER)
    assert (account.username, account.has_password) == ("alice", True)
    assert shop.events == [AccountChanged(alice.account_id)]
    assert isinstance(shop.accounts.review(alice, ALICE), Ends)
    assert refused(login, shop, PASSWORD)[0] is Reason.BAD_CREDENTIALS
    assert login(shop, ANOTHER).credentials == 1
    assert audited(shop)[1] == (None, "account.password_reset", "account:1", '{"by":"operator"}')
    path = (Reason.INVALID_PARAMS, {"path": "/password"})
    with pytest.raises(Refusal) as caught:
        shop.accounts.reset_password("alice", "password")
    assert (caught.value.reason, caught.value.data) == path


def test_the_operator_requires_the_certificate(shop: Shop, alice: Session) -> None:
    for required in (True, True, False, False):
        assert shop.accounts.require_certificate("alice", required=required).username == "alice"
        if required:
            assert refused(login, shop, PASSWORD) == (Reason.BAD_CREDENTIALS, {})
        else:
            assert login(shop, PASSWORD)
    assert shop.events == [AccountChanged(alice.account_id)] * 2
    rows = [row for row in audited(shop) if row[1] == "account.certificate_required"]
    assert rows == [
        (None, "account.certificate_required", "account:1", '{"required":true,"by":"operator"}'),
        (None, "account.certificate_required", "account:1", '{"required":false,"by":"operator"}'),
    ]


def test_nobody_of_that_name(shop: Shop, alice: Session) -> None:
    shop.privacy.delete(alice, PASSWORD, remote=HOME)
    ((pseudonym,),) = shop.sql("SELECT username FROM accounts")
    for name in ("alice", "nobody", str(pseudonym), "Not A Name"):
        for call in (
            lambda: shop.accounts.reset_password(name, ANOTHER),  # noqa: B023
            lambda: shop.accounts.require_certificate(name, required=True),  # noqa: B023
            lambda: shop.accounts.named(name),  # noqa: B023
        ):
            with pytest.raises(Refusal) as caught:
                call()
            assert caught.value.reason is Reason.NOT_FOUND


def test_deleted_between_the_look_and_the_hash(shop: Shop, alice: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    hashing = shop.passwords.hash

    def meanwhile(password: str) -> str:
        monkeypatch.undo()
        shop.privacy.delete(alice, PASSWORD, remote=HOME)
        return hashing(password)

    monkeypatch.setattr(shop.passwords, "hash", meanwhile)
    with pytest.raises(Refusal) as caught:
        shop.accounts.reset_password("alice", ANOTHER)
    assert caught.value.reason is Reason.NOT_FOUND


def test_another_address_has_attempts_of_its_own(shop: Shop, alice: Session) -> None:
    for _ in range(5):
        refused(shop.accounts.change_password, alice, ANOTHER, "wrong horse")
    assert shop.accounts.change_password(alice, ANOTHER, PASSWORD, remote=ELSEWHERE)
