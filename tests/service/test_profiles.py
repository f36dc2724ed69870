"""What the owner of an account sees and changes of it, and what becomes of sessions whose account has changed."""

import msgspec
import pytest
from msgspec import UNSET
from service.shop import Shop

from securedelivery.api.messages import ChangeMail, UpdateAccount
from securedelivery.errors import DamagedRow, Reason, Refusal
from securedelivery.model import Account, AccountId, MailPreferences, Role
from securedelivery.service.profiles import UpdateCommand
from securedelivery.service.session import Ends, Session, Stays
from securedelivery.store import audit

ALICE = "spiffe://example.org/account/alice"
OTHER_DOMAIN = "spiffe://example.com/account/alice"
HOME = "192.0.2.1"
PASSWORD = "correct horse"


def update(shop: Shop, session: Session, **changes: object) -> Account:
    return shop.database.writer.call(shop.accounts.update, UpdateCommand(session, UpdateAccount(**changes)))  # type: ignore[arg-type]


def audited(shop: Shop) -> list[tuple[object, ...]]:
    with shop.database.read() as tx:
        assert audit.verify(tx) is None
        return [row.entry[1:] for row in audit.everything(tx)]


def reason(call: object, *arguments: object, **named: object) -> Reason:
    with pytest.raises(Refusal) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    return caught.value.reason


def test_what_is_left_out_stays_and_none_clears(shop: Shop) -> None:
    alice = shop.accounts.create("alice", PASSWORD, "Alice", "a@example.org", "1 Road", identity=None, remote=HOME)
    before = shop.accounts.get(alice)
    assert update(shop, alice) == before
    assert update(shop, alice, name="Alice B.") == msgspec.structs.replace(before, name="Alice B.")
    assert update(shop, alice, email=None, address="2 Road") == msgspec.structs.replace(
        before, name="Alice B.", email=None, address="2 Road"
    )
    assert shop.accounts.get(alice).address == "2 Road"


def test_mail_preferences(shop: Shop) -> None:
    alice = shop.customer("alice")
    assert update(shop, alice, mail=ChangeMail(receipts=False)).mail == MailPreferences(receipts=False)
    assert update(shop, alice, mail=ChangeMail()).mail == MailPreferences(receipts=False)
    changed = update(shop, alice, mail=ChangeMail(receipts=None, summaries=False, missed_chat=False))
    assert changed.mail == MailPreferences(receipts=True, summaries=False, missed_chat=False)
    assert update(shop, alice, mail=UNSET, name="Alice").mail == changed.mail
    assert update(shop, alice, mail=None).mail == MailPreferences()


def test_the_audit_names_the_fields_and_nothing_that_was_written(shop: Shop) -> None:
    alice = shop.customer("alice")
    update(shop, alice, name="PLANTED", email="PLANTED@example.org", address="PLANTED", mail=ChangeMail(receipts=False))
    update(shop, alice, name="PLANTED")  # nothing new
    update(shop, alice, name=None)
    fields = '{"fields":["name","email","address","mail_receipts"]}'
    assert audited(shop) == [
        (1, "account.updated", "account:1", fields),
        (1, "account.updated", "account:1", '{"fields":["name"]}'),
    ]
    assert shop.events == []


def test_several_in_one_batch_see_each_other(shop: Shop) -> None:
    alice, bob = shop.customer("alice"), shop.customer("bob")
    gone = Session(AccountId(9), "nobody", Role.CUSTOMER)
    commands = [
        UpdateCommand(alice, UpdateAccount(name="One")),
        UpdateCommand(bob, UpdateAccount(name="Bob")),
        UpdateCommand(gone, UpdateAccount(name="Nobody")),
        UpdateCommand(alice, UpdateAccount(email="a@example.org")),
        UpdateCommand(alice, UpdateAccount(name=None)),
    ]
    whole = lambda tx, batches: [shop.accounts.update(tx, batch) for batch in batches]
    outcomes = shop.database.writer.call(whole, commands)
    assert [getattr(outcome, "name", None) for outcome in outcomes] == ["One", "Bob", None, "One", None]
    assert isinstance(outcomes[2], Refusal)
    assert outcomes[2].reason is Reason.NOT_LOGGED_IN
    assert [row[:2] for row in audited(shop)] == [
        (1, "account.updated"), (2, "account.updated"), (1, "account.updated"), (1, "account.updated"),
    ]  # fmt: skip
    account = shop.accounts.get(alice)
    assert (account.name, account.email) == (None, "a@example.org")
    assert shop.accounts.get(bob).name == "Bob"


def test_who_may_not_change_anything_any_more(shop: Shop) -> None:
    alice = shop.customer("alice")
    shop.accounts.disable(None, "alice", disabled=True)
    assert reason(update, shop, alice, name="Alice") is Reason.DISABLED
    shop.accounts.disable(None, "alice", disabled=False)
    assert reason(update, shop, alice, name="Alice") is Reason.NOT_LOGGED_IN  # logged in before it
    assert reason(shop.accounts.bind_certificate, alice, ALICE) is Reason.NOT_LOGGED_IN
    assert shop.accounts.get(alice).name is None


def test_damage_is_named(shop: Shop) -> None:
    alice = shop.customer("alice")
    shop.sql("UPDATE accounts SET address = zeroblob(40)")
    with pytest.raises(DamagedRow, match=r"accounts\.address:1"):
        shop.accounts.get(alice)


def test_binding_a_certificate(shop: Shop) -> None:
    alice = shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    assert reason(shop.accounts.bind_certificate, alice, None) is Reason.FORBIDDEN
    bob = "spiffe://example.org/account/bob"
    assert reason(shop.accounts.bind_certificate, alice, bob) is Reason.FORBIDDEN
    assert reason(shop.accounts.login_certificate, identity=ALICE, remote=HOME) is Reason.BAD_CREDENTIALS
    bound = shop.accounts.bind_certificate(alice, ALICE)
    assert bound.certificate == ALICE
    assert bound.has_password
    assert shop.accounts.bind_certificate(alice, ALICE) == bound
    assert shop.accounts.login_certificate(identity=ALICE, remote=HOME) == alice
    # The shop has moved to another trust domain.
    assert shop.accounts.bind_certificate(alice, OTHER_DOMAIN).certificate == OTHER_DOMAIN
    assert reason(shop.accounts.login_certificate, identity=ALICE, remote=HOME) is Reason.BAD_CREDENTIALS
    assert shop.accounts.login_certificate(identity=OTHER_DOMAIN, remote=HOME) == alice
    rows = [row for row in audited(shop) if row[1] == "account.certificate_bound"]
    assert rows == [(1, "account.certificate_bound", "account:1", None)] * 2


def test_a_session_stays_with_the_role_it_has_now(shop: Shop) -> None:
    alice = shop.customer("alice")
    assert shop.accounts.review(alice, None) == Stays(alice)
    shop.accounts.set_role(None, "alice", Role.AGENT)
    agent = Session(alice.account_id, "alice", Role.AGENT)
    assert shop.accounts.review(alice, None) == Stays(agent)
    assert agent.is_staff
    shop.accounts.require_certificate("alice", required=True)
    assert shop.accounts.review(alice, ALICE) == Stays(agent)


def ending(shop: Shop, session: Session, identity: str | None = None) -> str:
    found = shop.accounts.review(session, identity)
    assert isinstance(found, Ends)
    assert found.message
    return found.reason


def test_a_session_ends(shop: Shop) -> None:
    alice = shop.accounts.create("alice", PASSWORD, identity=ALICE, remote=HOME)
    shop.accounts.require_certificate("alice", required=True)
    assert ending(shop, alice) == "credentials_changed"
    shop.accounts.require_certificate("alice", required=False)
    assert shop.accounts.review(alice, None) == Stays(alice)
    other = shop.accounts.change_password(alice, "another horse", PASSWORD, remote=HOME)
    assert ending(shop, alice, ALICE) == "credentials_changed"
    assert shop.accounts.review(other, None) == Stays(other)
    shop.accounts.reset_password("alice", "a third horse")
    assert ending(shop, other, ALICE) == "credentials_changed"
    third = shop.accounts.login("alice", "a third horse", identity=None, remote=HOME)
    shop.accounts.disable(None, "alice", disabled=True)
    assert ending(shop, third, ALICE) == "credentials_changed"
    # Not even a moment of it is outlived.
    shop.accounts.disable(None, "alice", disabled=False)
    assert ending(shop, third, ALICE) == "credentials_changed"
    fourth = shop.accounts.login("alice", "a third horse", identity=None, remote=HOME)
    shop.privacy.delete(fourth, "a third horse", remote=HOME)
    assert ending(shop, fourth, ALICE) == "account_deleted"
    assert ending(shop, Session(AccountId(99), "nobody", Role.CUSTOMER)) == "account_deleted"


def test_get_of_a_deleted_account(shop: Shop) -> None:
    alice = shop.customer("alice")
    shop.privacy.delete(alice, remote=HOME)
    assert reason(shop.accounts.get, alice) is Reason.NOT_LOGGED_IN
    assert reason(update, shop, alice, name="Alice") is Reason.NOT_LOGGED_IN
