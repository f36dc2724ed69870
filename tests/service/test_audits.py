"""Who did what, as admins see it, as the operator checks it, and as a file holds it."""

import hashlib
import json

import msgspec
import pytest
from service.shop import Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AuditRecord, Role
from securedelivery.service import audits
from securedelivery.service.session import Session
from securedelivery.store import audit
from securedelivery.store.audit import AuditEntry
from securedelivery.store.chain import AuditRow, Damage, Tampering, examine

HOME = "192.0.2.1"
PASSWORD = "correct horse"


@pytest.fixture
def root(shop: Shop) -> Session:
    return shop.customer("root", Role.ADMIN)


@pytest.fixture
def alice(shop: Shop, root: Session) -> Session:
    """Number 2; her life so far is five rows."""
    session = shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    shop.accounts.login("alice", PASSWORD, identity=None, remote=HOME)
    with pytest.raises(Refusal):
        shop.accounts.login("alice", "wrong horse", identity=None, remote=HOME)
    with pytest.raises(Refusal):
        shop.accounts.login("nobody", "wrong horse", identity=None, remote=HOME)
    shop.accounts.set_role(root, "alice", Role.AGENT)
    return session


def listed(shop: Shop, actor: Session | None, limit: int = 50, **wanted: str) -> list[AuditRecord]:
    """All pages."""
    found: list[AuditRecord] = []
    after = None
    while True:
        items, following = shop.audits.list(actor, after=after, limit=limit, **wanted)
        assert len(items) <= limit
        found += items
        if following is None:
            return found
        assert following == audits.cursor_of(items[-1])
        after = following


def test_newest_first_with_names(shop: Shop, alice: Session) -> None:
    records = listed(shop, None)
    assert [(each.entry, each.actor, each.action, each.subject, each.detail) for each in records] == [
        (5, "root", "account.role_changed", "account:alice", {"old": "customer", "new": "agent", "by": "admin"}),
        (4, None, "login.failed", None, {"method": "password", "remote": HOME}),
        (3, None, "login.failed", "account:alice", {"method": "password", "remote": HOME}),
        (2, "alice", "login", "account:alice", {"method": "password", "remote": HOME}),
        (1, "alice", "account.created", "account:alice", {"role": "customer", "certificate": False, "by": "customer"}),
    ]
    ((stored,),) = shop.sql("SELECT hash FROM audit WHERE id = 5")
    assert records[0].hash == stored.hex()  # type: ignore[attr-defined]
    assert records[0].at == "2026-03-01T12:00:00.123456Z"
    for limit in (1, 2, 4, 5):
        assert listed(shop, None, limit) == records


def test_by_account_and_action(shop: Shop, alice: Session) -> None:
    numbers = lambda **wanted: [each.entry for each in listed(shop, None, **wanted)]
    assert numbers(account="alice") == [5, 3, 2, 1]
    assert numbers(account="root") == [5]
    assert numbers(action="login.failed") == [4, 3]
    assert numbers(account="alice", action="login.failed") == [3]
    assert numbers(action="PLANTED") == []
    with pytest.raises(Refusal) as caught:
        shop.audits.list(None, account="nobody")
    assert caught.value.reason is Reason.NOT_FOUND
    for cursor in ("nonsense", "", "eDoxMg"):
        with pytest.raises(Refusal) as caught:
            shop.audits.list(None, after=cursor)
        assert caught.value.data == {"path": "/after"}


def test_who_looks_is_written_down_without_what_was_looked_for(shop: Shop, root: Session, alice: Session) -> None:
    shop.audits.list(root, account="alice", action="PLANTED")
    shop.audits.list(root, limit=2)
    with pytest.raises(Refusal):
        shop.audits.list(root, account="PLANTED")
    shop.audits.list(None)  # the operator has the file anyway
    newest = listed(shop, None, action="audit.listed")
    assert [(each.entry, each.actor, each.subject, each.detail) for each in newest] == [
        (7, "root", None, {"account": None, "rows": 2}),
        (6, "root", None, {"account": "alice", "rows": 0}),
    ]
    # Numbers stand in the file, so that a name can go.
    assert shop.sql("SELECT detail FROM audit WHERE id = 6") == [('{"account":2,"rows":0}',)]


def test_of_a_deleted_account_with_its_pseudonym(shop: Shop, root: Session) -> None:
    alice = shop.accounts.create("alice", PASSWORD, identity=None, remote=HOME)
    shop.audits.list(root, account="alice")
    shop.privacy.delete(alice, PASSWORD, remote=HOME)
    ((pseudonym,),) = shop.sql("SELECT username FROM accounts WHERE id = 2")
    assert str(pseudonym).startswith("deleted~")
    records = listed(shop, None, account=str(pseudonym))
    assert [(each.actor, each.action, each.subject) for each in records] == [
        (pseudonym, "account.deleted", f"account:{pseudonym}"),
        (pseudonym, "account.created", f"account:{pseudonym}"),
    ]
    everything = msgspec.json.encode(listed(shop, None)).decode()
    assert "alice" not in everything
    assert everything.count(str(pseudonym)) == 5


def test_rows_that_say_strange_things(shop: Shop, root: Session) -> None:
    """Somebody with the file wrote them, or another version of this program."""
    at = shop.clock.now.isoformat().replace("+00:00", "Z")
    entries = [
        AuditEntry(at, 1, "x", "account:", "not json"),  # type: ignore[arg-type]
        AuditEntry(at, 1, "x", "account:1x", "[1]"),  # type: ignore[arg-type]
        AuditEntry(at, 1, "x", "account:99", '{"account":99,"courier":"1"}'),  # type: ignore[arg-type]
        AuditEntry(at, None, "x", "account", '{"account":1}'),  # type: ignore[arg-type]
        AuditEntry(at, None, "x", "account:\u0663", '{"account":[1]}'),  # type: ignore[arg-type]
    ]
    shop.database.writer.call(lambda tx, batches: [audit.append(tx, batch) for batch in batches], entries)
    assert [(each.actor, each.subject, each.detail) for each in listed(shop, None)] == [
        ("operator", "account:\u0663", {"account": [1]}),
        ("operator", "account", {"account": "root"}),
        ("root", "account:99", {"account": 99, "courier": "1"}),
        ("root", "account:1x", {}),
        ("root", "account:", {}),
    ]


def test_checked(shop: Shop, alice: Session) -> None:
    assert shop.audits.verify() is None
    newest = shop.audits.newest()
    assert newest == (5, listed(shop, None)[0].hash)
    shop.sql("DROP TRIGGER audit_update")
    shop.sql("UPDATE audit SET actor_id = 1 WHERE id = 3")
    damage = shop.audits.verify()
    assert damage is not None
    assert damage[:3] == (Tampering.ALTERED, 3, 3)
    assert str(damage).startswith("row 3 was altered")
    shop.sql("DELETE FROM audit_head")
    assert shop.audits.newest() is None


def test_bytes_that_are_no_text_keep_nobody_from_looking(shop: Shop, alice: Session) -> None:
    shop.sql("DROP TRIGGER audit_update")
    shop.sql("UPDATE audit SET action = CAST(x'ff' AS TEXT), detail = CAST(x'7b22fe' AS TEXT) WHERE id = 3")
    damage = shop.audits.verify()
    assert damage is not None
    assert damage[:3] == (Tampering.ALTERED, 3, 3)
    assert [(each.action, each.detail) for each in listed(shop, None) if each.entry == 3] == [("\ufffd", {})]
    assert [row.action for row in shop.audits.export()][2] == "\ufffd"


def test_checked_without_a_row(shop: Shop) -> None:
    assert shop.audits.verify() is None
    assert shop.audits.newest() == (0, "0" * 64)
    assert list(shop.audits.export()) == []


def test_exported_so_that_a_file_can_be_checked_alone(shop: Shop, root: Session, alice: Session) -> None:
    shop.database.writer.call(
        lambda tx, batches: [audit.append(tx, batch) for batch in batches],
        [AuditEntry("2026-03-01T12:00:00.123456Z", None, "x", 'quote " back \\ \u00e9 \U0001f4a9 \x1f', "{}")],  # type: ignore[arg-type]
    )
    lines = [msgspec.json.encode(row) for row in shop.audits.export()]
    rows = [json.loads(line) for line in lines]
    assert rows[4] == {
        "id": 5,
        "at": "2026-03-01T12:00:00.123456Z",
        "actor_id": 1,
        "actor": "root",
        "action": "account.role_changed",
        "subject": "account:2",
        "detail": '{"old":"customer","new":"agent","by":"admin"}',
        "hash": listed(shop, None)[1].hash,
    }
    assert [row["actor"] for row in rows] == ["alice", "alice", None, None, "root", "operator"]
    # As docs and docstring describe it, with nothing of this program.
    previous = bytes(32)
    for row in rows:
        members = [row[name] for name in ("id", "at", "actor_id", "action", "subject", "detail")]
        canonical = json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
        previous = hashlib.sha256(previous + canonical).digest()
        assert row["hash"] == previous.hex()
    assert shop.audits.newest() == (6, previous.hex())
    # And with what the program has for it.
    stored = [AuditRow(r.id, AuditEntry(r.at, r.actor_id, r.action, r.subject, r.detail), bytes.fromhex(r.hash))
              for r in shop.audits.export()]  # fmt: skip
    assert examine(stored, None) is None
    assert examine([*stored[:2], *stored[3:]], None) == Damage(Tampering.REMOVED, 3, 3)
