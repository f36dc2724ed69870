"""Accounts in the hands of admins and of the operator: roles, disabling, the list, and who may not any more."""

from typing import Any

import pytest
from service.chat_room import ASSIGNED, WAITING, Room
from service.shop import Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import MailPreferences, Role
from securedelivery.service import administration
from securedelivery.service.chat_events import ConversationChanged
from securedelivery.service.events import AccountChanged
from securedelivery.service.session import Session, Stays
from securedelivery.store import audit

HOME = "192.0.2.1"


def refused(call: object, *arguments: object, **named: object) -> tuple[Reason, dict[str, object]]:
    with pytest.raises(Refusal) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    assert caught.value.message
    return caught.value.reason, caught.value.data


def audited(shop: Shop) -> list[tuple[object, ...]]:
    with shop.database.read() as tx:
        assert audit.verify(tx) is None
        return [row.entry[1:] for row in audit.everything(tx)]


@pytest.fixture
def root(shop: Shop) -> Session:
    return shop.customer("root", Role.ADMIN)


def test_a_role(shop: Shop, root: Session) -> None:
    alice = shop.customer("alice")
    account = shop.accounts.set_role(root, "alice", Role.COURIER)
    assert (account.username, account.role) == ("alice", Role.COURIER)
    assert shop.accounts.set_role(root, "alice", Role.COURIER) == account
    assert shop.accounts.set_role(None, "alice", Role.ADMIN).role is Role.ADMIN
    assert shop.events == [AccountChanged(alice.account_id)] * 2
    assert shop.accounts.review(alice, None) == Stays(Session(alice.account_id, "alice", Role.ADMIN))
    assert audited(shop) == [
        (1, "account.role_changed", "account:2", '{"old":"customer","new":"courier","by":"admin"}'),
        (1, "account.viewed", "account:2", '{"by":"admin"}'),
        (None, "account.role_changed", "account:2", '{"old":"courier","new":"admin","by":"operator"}'),
    ]


def test_disabling(shop: Shop, root: Session) -> None:
    alice = shop.accounts.create("alice", "correct horse", identity=None, remote=HOME)
    for disabled in (True, True, False, False):
        assert shop.accounts.disable(root, "alice", disabled).username == "alice"
        login = lambda: shop.accounts.login("alice", "correct horse", identity=None, remote=HOME)
        if disabled:
            assert refused(login)[0] is Reason.DISABLED
        else:
            assert login().account_id == alice.account_id
    shop.accounts.disable(None, "alice", disabled=True)
    assert shop.events == [AccountChanged(alice.account_id)] * 3
    rows = [row for row in audited(shop) if str(row[1]) in ("account.disabled", "account.enabled")]
    assert rows == [
        (1, "account.disabled", "account:2", '{"by":"admin"}'),
        (1, "account.enabled", "account:2", '{"by":"admin"}'),
        (None, "account.disabled", "account:2", '{"by":"operator"}'),
    ]


def test_which_mail_an_account_gets(shop: Shop) -> None:
    shop.customer("alice")
    assert shop.accounts.set_mail("alice", {}).mail == MailPreferences(receipts=True, summaries=True, missed_chat=True)
    assert shop.accounts.set_mail("alice", {"receipts": True}).mail.receipts  # as it is
    wanted = {"receipts": False, "missed_chat": False}
    changed = shop.accounts.set_mail("alice", wanted)
    assert changed.mail == MailPreferences(receipts=False, summaries=True, missed_chat=False)
    assert shop.accounts.named("alice") == changed
    assert shop.accounts.set_mail("alice", {"receipts": True}).mail.receipts
    assert audited(shop) == [
        (None, "account.viewed", "account:1", '{"by":"operator"}'),
        (None, "account.viewed", "account:1", '{"by":"operator"}'),
        (None, "account.mail_changed", "account:1", '{"by":"operator","receipts":false,"missed_chat":false}'),
        (None, "account.viewed", "account:1", '{"by":"operator"}'),
        (None, "account.mail_changed", "account:1", '{"by":"operator","receipts":true}'),
    ]
    assert refused(shop.accounts.set_mail, "nobody", wanted) == (Reason.NOT_FOUND, {})


def test_nobody_of_that_name(shop: Shop, root: Session) -> None:
    shop.privacy.delete(shop.customer("alice"), remote=HOME)
    (pseudonym,) = (name for _, name in shop.sql("SELECT id, username FROM accounts") if name != "root")
    for actor in (root, None):
        for name in ("nobody", "alice", pseudonym, "", "Not A Name"):
            assert refused(shop.accounts.set_role, actor, name, Role.AGENT) == (Reason.NOT_FOUND, {})
            assert refused(shop.accounts.disable, actor, name, disabled=True) == (Reason.NOT_FOUND, {})


def test_the_last_admin_stays(shop: Shop, root: Session) -> None:
    last = (Reason.INVALID_PARAMS, {"path": "/role"})
    assert refused(shop.accounts.set_role, root, "root", Role.CUSTOMER) == last
    assert refused(shop.accounts.disable, root, "root", disabled=True) == (Reason.INVALID_PARAMS, {"path": "/disabled"})
    # One who cannot act does not count.
    second = shop.customer("second", Role.ADMIN)
    shop.accounts.disable(root, "second", disabled=True)
    assert refused(shop.accounts.set_role, root, "root", Role.AGENT) == last
    shop.accounts.disable(root, "second", disabled=False)
    assert shop.accounts.set_role(root, "root", Role.AGENT).role is Role.AGENT
    # The operator can always make another one.
    assert shop.accounts.disable(None, "second", disabled=True)
    assert shop.accounts.set_role(None, "second", Role.CUSTOMER).role is Role.CUSTOMER
    assert second.role is Role.ADMIN


def test_an_admin_who_is_none_any_more(shop: Shop, root: Session) -> None:
    """The connection is looked at within seconds; until then the transaction sees to it."""
    shop.customer("alice")
    second = shop.customer("second", Role.ADMIN)
    shop.accounts.set_role(root, "second", Role.AGENT)
    calls: list[Any] = [
        lambda: shop.accounts.set_role(second, "second", Role.ADMIN),
        lambda: shop.accounts.disable(second, "root", disabled=True),
        lambda: shop.accounts.list(second),
        lambda: shop.audits.list(second),
        lambda: shop.figures.get(second, "2026-01-01", "2026-01-02"),
    ]
    for call in calls:
        assert refused(call)[0] is Reason.FORBIDDEN
    shop.accounts.disable(root, "second", disabled=True)
    for call in calls:
        assert refused(call)[0] is Reason.DISABLED
    with_role = [row for row in audited(shop) if row[0] == second.account_id]
    assert with_role == []


@pytest.mark.parametrize("end", ["demoted", "disabled", "deleted", "promoted"])
def test_who_stops_being_an_agent_gives_the_conversations_back(shop: Shop, root: Session, end: str) -> None:
    room = Room(shop)
    agnes, alice = room.person("agnes", Role.AGENT), room.person("alice")
    room.say(alice, "Is it quiet?")
    room.say(agnes, "Very.", 1)
    assert [each.agent for each in room.all_queued(agnes, ASSIGNED)] == ["agnes"]
    shop.events.clear()
    match end:
        case "demoted":
            shop.accounts.set_role(root, "agnes", Role.COURIER)
        case "disabled":
            shop.accounts.disable(root, "agnes", disabled=True)
        case "deleted":
            shop.privacy.delete(agnes, remote=HOME)
        case "promoted":
            shop.accounts.set_role(root, "agnes", Role.ADMIN)
    waiting = [each.conversation for each in room.all_queued(root, WAITING)]
    told = [event for event in shop.events if isinstance(event, ConversationChanged)]
    assert AccountChanged(agnes.account_id) in shop.events
    if end == "promoted":
        assert (waiting, told) == ([], [])
    else:
        assert waiting == [1]
        (event,) = told
        assert event.for_staff.agent is None
        assert agnes.account_id not in event.agents


def names(shop: Shop, actor: Session | None, query: str | None = None, limit: int = 50) -> list[str]:
    """All pages."""
    found: list[str] = []
    after = None
    while True:
        items, following = shop.accounts.list(actor, query=query, after=after, limit=limit)
        assert len(items) <= limit
        found += [account.username for account in items]
        if following is None:
            return found
        assert following == administration.cursor_of(items[-1])
        after = following


def test_the_list(shop: Shop, root: Session) -> None:
    for name in ("carol", "alice", "bob", "al-ice", "b.o_b", "dave"):
        shop.customer(name)
    shop.privacy.delete(shop.accounts.login_certificate(identity=bind(shop, "dave"), remote=HOME), remote=HOME)
    everyone = ["al-ice", "alice", "b.o_b", "bob", "carol", "root"]
    for limit in (1, 2, 3, 6, 50):
        assert names(shop, root, limit=limit) == everyone
    assert names(shop, None) == everyone
    assert names(shop, None, "") == everyone
    assert names(shop, None, "ICE") == ["al-ice", "alice"]
    assert names(shop, None, "o", limit=1) == ["b.o_b", "bob", "carol", "root"]
    for nothing in ("%", "_b%", "'", "deleted", "~", "*"):
        assert names(shop, None, nothing) == []
    assert names(shop, None, "_b") == ["b.o_b"]
    assert refused(shop.accounts.list, root, after="nonsense") == (Reason.INVALID_PARAMS, {"path": "/after"})
    items, _ = shop.accounts.list(root, query="alice")
    assert [(item.username, item.address, item.tier) for item in items] == [("alice", "1 Road", "bronze")]


def bind(shop: Shop, name: str) -> str:
    uri = f"spiffe://example.org/account/{name}"
    shop.sql(f"UPDATE accounts SET certificate = '{uri}' WHERE username = '{name}'")  # noqa: S608 -- the test's own
    return uri


def test_who_lists_is_written_down_without_what_was_looked_for(shop: Shop, root: Session) -> None:
    shop.customer("alice")
    shop.accounts.list(root, query="PLANTED")
    shop.accounts.list(root, limit=1)
    shop.accounts.list(None)
    shop.accounts.named("alice")
    assert audited(shop) == [
        (1, "accounts.listed", None, '{"accounts":0,"by":"admin"}'),
        (1, "accounts.listed", None, '{"accounts":1,"by":"admin"}'),
        (None, "accounts.listed", None, '{"accounts":2,"by":"operator"}'),
        (None, "account.viewed", "account:2", '{"by":"operator"}'),
    ]


def test_named(shop: Shop) -> None:
    shop.customer("alice", address="1 Road")
    assert shop.accounts.named("alice").address == "1 Road"
    assert refused(shop.accounts.named, "nobody") == (Reason.NOT_FOUND, {})
