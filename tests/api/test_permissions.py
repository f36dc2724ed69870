"""Who may call what, and what they see: every method, by everybody, over a real database.

A row is a call, and what becomes of it for each of EVERYBODY: a reason, or `ok` with the secrets of alice that the
answer shows. Each is one text of hers that stands nowhere else: her name, e-mail and address, the address and the code
of her orders, the note of an agent, and what was said in her chat. What a row does not name must not be in the answer,
nor in a refusal. A refused call changes nothing.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from api.conftest import Door, ServicesOver
from planted import email, planted

from securedelivery.api.methods import METHODS, Api
from securedelivery.errors import Refusal
from securedelivery.model import Role
from securedelivery.protocol.certificates import Identity
from securedelivery.store.engine import Database
from securedelivery.transport.dispatch import Caller

PASSWORD = planted("correct horse battery")

EVERYBODY = {
    "anonymous": None,
    "newcomer": None,
    "mallory": Role.CUSTOMER,
    "alice": Role.CUSTOMER,
    "sam": Role.AGENT,
    "kim": Role.COURIER,
    "lee": Role.COURIER,
    "root": Role.ADMIN,
}
"""anonymous has no certificate, newcomer one without an account. Alice is the one who has something to hide; kim is the
courier of her order.
"""

PLACED, OUT, CHAT = 1, 2, 1
"""The numbers of alice's orders, the second one on its way, and of her conversation."""

SECRETS = {
    "name": planted("Alice Liddell"),
    "email": email("alice"),
    "address": planted("1 Rabbit Hole, Oxford"),
    "elsewhere": planted("2 Looking Glass, Oxford"),
    "note": planted("beware of the cat"),
    "question": planted("Why is a raven like a writing desk?"),
    "answer": planted("I haven't the slightest idea"),
}
CODE = object()
"""Stands for the delivery code of OUT."""

PROFILE = "name email address"
TALK = "question answer"
ALL = f"{PROFILE} elsewhere note code {TALK}"


class Row(NamedTuple):
    """What becomes of a call for each of EVERYBODY, in this order."""

    method: str
    params: dict[str, Any]
    anonymous: str
    newcomer: str
    mallory: str
    alice: str
    sam: str
    kim: str
    lee: str
    root: str


def same(method: str, params: dict[str, Any], outcome: str = "ok") -> Row:
    return Row(method, params, *[outcome] * len(EVERYBODY))


def known(method: str, params: dict[str, Any], **outcomes: str) -> Row:
    """For those with an account; `ok` where nothing else is said."""
    return _row(method, params, "ok", outcomes)


def staff(method: str, params: dict[str, Any], **outcomes: str) -> Row:
    """For agents and admins."""
    return _row(method, params, "forbidden", {"sam": "ok", "root": "ok"} | outcomes)


def admins(method: str, params: dict[str, Any], outcome: str = "ok") -> Row:
    return _row(method, params, "forbidden", {"root": outcome})


def hidden(method: str, params: dict[str, Any], **outcomes: str) -> Row:
    """About what is alice's: for whom nothing else is said, it does not exist."""
    return _row(method, params, "not_found", outcomes)


def _row(method: str, params: dict[str, Any], others: str, outcomes: dict[str, str]) -> Row:
    strangers = {name: "not_logged_in" for name, role in EVERYBODY.items() if role is None}
    return Row(method, params, **(dict.fromkeys(EVERYBODY, others) | strangers | outcomes))


LINES = [{"sku": "CPU-1", "quantity": 1}]
PRODUCT = {"sku": "NEW-1", "name": "New", "description": "", "price": 1, "stock": 1, "active": True}

ROWS = (
    same("system.info", {}),
    same("system.ping", {}),
    same("rpc.discover", {}),
    Row(
        "account.create", {"username": "newcomer", "password": PASSWORD},
        "ok", "ok", "forbidden", "forbidden", "forbidden", "forbidden", "forbidden", "forbidden",
    ),
    Row(
        "account.create", {"username": "alice", "password": PASSWORD},
        "username_taken", "forbidden", "forbidden", "username_taken", "forbidden", "forbidden", "forbidden",
        "forbidden",
    ),
    Row(
        "account.login", {"username": "alice", "password": PASSWORD + "?"},
        "bad_credentials", "forbidden", "forbidden", "bad_credentials", "forbidden", "forbidden", "forbidden",
        "forbidden",
    ),
    Row(
        "account.login", {"username": "alice", "password": PASSWORD},
        f"ok {PROFILE}", "forbidden", "forbidden", f"ok {PROFILE}", "forbidden", "forbidden", "forbidden", "forbidden",
    ),
    Row(
        "account.login_certificate", {},
        "bad_credentials", "bad_credentials", "ok", f"ok {PROFILE}", "ok", "ok", "ok", "ok",
    ),
    known("account.bind_certificate", {}, alice=f"ok {PROFILE}"),
    known("account.logout", {}),
    known("account.get", {}, alice=f"ok {PROFILE}"),
    known("account.update", {"name": "Another"}, alice="ok email address"),
    known("account.change_password", {"new_password": "another good one", "old_password": PASSWORD}),
    known("account.change_password", {"new_password": "another good one"}, alice="bad_credentials"),
    known("account.export", {}, alice=f"ok {ALL}"),
    known("account.delete", {}, alice="bad_credentials", kim="open_orders"),
    known("account.delete", {"password": PASSWORD}, alice="open_orders", kim="open_orders"),
    admins("account.list", {"query": "alice"}, f"ok {PROFILE}"),
    admins("account.set_role", {"username": "alice", "role": "courier"}, f"ok {PROFILE}"),
    admins("account.disable", {"username": "alice", "disabled": True}, f"ok {PROFILE}"),
    admins("audit.list", {"account": "alice"}),
    admins("report.figures", {"from": "2026-01-01", "to": "2026-12-31"}),
    same("catalog.list", {}),
    same("catalog.get", {"sku": "CPU-1"}),
    admins("catalog.put", PRODUCT),
    known("order.place", {"idempotency_key": "new", "lines": LINES, "address": "3 Tea Party"}),
    # Whose idempotency key it is matters: alice's gives others nothing of hers.
    known("order.place", {"idempotency_key": "first", "lines": LINES, "address": SECRETS["elsewhere"]},
        **dict.fromkeys(("mallory", "sam", "kim", "lee", "root"), "ok elsewhere"), alice="ok elsewhere"),
    hidden("order.get", {"order": PLACED}, alice="ok elsewhere", sam="ok elsewhere", root="ok elsewhere"),
    hidden("order.get", {"order": OUT}, alice="ok address note code", sam="ok address note", kim="ok address note",
        root="ok address note"),
    hidden("order.get", {"order": 99}),
    known("order.list", {}, alice="ok address elsewhere note code", sam="ok address elsewhere note",
        root="ok address elsewhere note"),
    hidden("order.list", {"account": "alice"}, alice="ok address elsewhere note code",
        sam="ok address elsewhere note", root="ok address elsewhere note"),
    known("order.list", {"account": "nobody"}, **dict.fromkeys(("mallory", "alice", "sam", "kim", "lee", "root"),
        "not_found")),
    hidden("order.update", {"order": PLACED, "version": 1, "lines": [{"sku": "CPU-1", "quantity": 2}]},
        alice="ok elsewhere"),
    hidden("order.cancel", {"order": PLACED, "reason": "enough"}, alice="ok elsewhere", sam="ok elsewhere",
        root="ok elsewhere"),
    hidden("order.cancel", {"order": OUT}, alice="illegal_transition", sam="illegal_transition",
        root="illegal_transition"),
    staff("order.advance", {"order": PLACED, "status": "confirmed"}, sam="ok elsewhere", root="ok elsewhere",
        kim="not_found", lee="not_found"),
    staff("order.advance", {"order": OUT, "status": "packed"}, sam="ok address note", root="ok address note",
        kim="ok address note", lee="not_found"),
    staff("order.advance", {"order": OUT, "status": "delivered", "note": "seen"}, sam="illegal_transition",
        root="ok address note", kim="illegal_transition", lee="not_found"),
    staff("delivery.list", {}, sam="forbidden", kim="ok address note", lee="ok"),
    staff("delivery.confirm", {"order": OUT, "code": CODE}, sam="forbidden", kim="ok address note", lee="not_found",
        root="ok address note"),
    staff("delivery.confirm", {"order": OUT, "code": "nonsense"}, sam="forbidden", kim="wrong_code", lee="not_found",
        root="wrong_code"),
    known("rewards.get", {}),
    known("rewards.history", {}),
    known("chat.send", {"text": "hello", "message_key": "new"}),
    known("chat.send", {"text": SECRETS["question"], "message_key": "first"},
        **dict.fromkeys(("mallory", "alice", "sam", "kim", "lee", "root"), "ok question")),
    hidden("chat.send", {"text": "hello", "message_key": "new", "conversation": CHAT}, alice="ok", sam="ok",
        root="ok"),
    known("chat.history", {}, alice=f"ok {TALK}"),
    hidden("chat.history", {"conversation": CHAT}, alice=f"ok {TALK}", sam=f"ok {TALK}", root=f"ok {TALK}"),
    known("chat.mark_read", {"up_to": 1}),
    hidden("chat.mark_read", {"up_to": 1, "conversation": CHAT}, alice="ok", sam="ok", root="ok"),
    known("chat.typing", {}),
    hidden("chat.typing", {"conversation": CHAT}, alice="ok", sam="ok", root="ok"),
    staff("chat.queue", {}),
    staff("chat.claim", {"conversation": CHAT}),
    staff("chat.release", {"conversation": CHAT}),
    staff("chat.resolve", {"conversation": CHAT}),
    staff("chat.transfer", {"conversation": CHAT, "agent": "pam"}),
)  # fmt: skip


def identity(name: str) -> Identity | None:
    return None if name == "anonymous" else Identity(f"spiffe://shop.test/account/{name}", name)


def enter(api: Api, name: str) -> Door:
    """At the door, and logged in where there is an account."""
    door = Door(api, Caller(identity(name), "127.0.0.1"))
    if EVERYBODY.get(name, Role.AGENT) is not None:
        assert not isinstance(door.call("account.login_certificate"), Refusal)
    return door


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, services_over: ServicesOver) -> Path:
    """A folder with the shop as it is before each call, and alice's delivery code in a file."""
    folder = tmp_path_factory.mktemp("permissions")
    with Database.open(f"sqlite:///{folder}/shop.db") as database:
        services = services_over(database)
        api = Api(services)
        for name in ("pam", *EVERYBODY):
            role = EVERYBODY.get(name, Role.AGENT)
            if role not in (None, Role.CUSTOMER):
                services.accounts.create_by_operator(name, role, identity=identity(name).uri)
        mallory = Door(api, Caller(identity("mallory"), "127.0.0.1"))
        alice = Door(api, Caller(identity("alice"), "127.0.0.1"))
        mallory.done("account.create", username="mallory", address="4 Nowhere")
        profile = {name: SECRETS[name] for name in PROFILE.split()}
        alice.done("account.create", username="alice", password=PASSWORD, **profile)
        first = {"idempotency_key": "first", "lines": LINES, "address": SECRETS["elsewhere"]}
        assert alice.done("order.place", **first)["order"] == PLACED
        out = alice.done("order.place", idempotency_key="second", lines=LINES)
        assert out["order"] == OUT
        sam, pam = enter(api, "sam"), enter(api, "pam")
        for status, more in (
            ("confirmed", {"note": SECRETS["note"]}),
            ("packed", {"courier": "kim"}),
            ("out_for_delivery", {}),
        ):
            sam.done("order.advance", order=OUT, status=status, **more)
        asked = alice.done("chat.send", text=SECRETS["question"], message_key="first")
        assert asked["conversation"] == CHAT
        pam.done("chat.send", text=SECRETS["answer"], message_key="first", conversation=CHAT)
        pam.done("chat.release", conversation=CHAT)
    (folder / "code").write_text(out["delivery_code"])
    return folder


@pytest.fixture
def shop(template: Path, tmp_path: Path) -> Path:
    """A copy for one call."""
    return shutil.copytree(template, tmp_path / "shop")


@pytest.fixture
def database(shop: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{shop}/shop.db", create=False) as database:
        yield database


def rows_of(database: Database) -> list[list[tuple[Any, ...]]]:
    """All but what is written about the call itself."""
    tables = ("accounts", "orders", "order_history", "order_lines", "products", "points_ledger", "conversations",
        "messages")  # fmt: skip
    with database.read() as tx:
        return [
            [tuple(row) for row in tx.connection.exec_driver_sql(f"SELECT * FROM {table}")]  # noqa: S608
            for table in tables
        ]


def shown(answer: str, code: str) -> set[str]:
    """Which secrets are in an answer."""
    found = {name for name, text in SECRETS.items() if text in answer}
    return found | ({"code"} if code in answer else set())


def test_every_method_has_a_row() -> None:
    assert {row.method for row in ROWS} == METHODS.keys()


def test_every_secret_is_shown_to_somebody() -> None:
    seen = {word for row in ROWS for outcome in row[2:] for word in outcome.split()[1:]}
    assert seen == {*SECRETS, "code"}


@pytest.mark.parametrize("name", EVERYBODY)
@pytest.mark.parametrize("row", ROWS, ids=[f"{number}-{row.method}" for number, row in enumerate(ROWS)])
def test_who_may_do_what_and_sees_what(
    row: Row, name: str, shop: Path, database: Database, services_over: ServicesOver
) -> None:
    code = (shop / "code").read_text()
    door = enter(Api(services_over(database)), name)
    before = rows_of(database)
    params = {key: code if value is CODE else value for key, value in row.params.items()}

    outcome = door.call(row.method, **params)

    expected, *secrets = getattr(row, name).split()
    if isinstance(outcome, Refusal):
        answer = msgspec.json.encode({"message": outcome.message, **outcome.data}).decode()
        assert (outcome.reason.slug, shown(answer, code)) == (expected, set()), answer
        if expected != "wrong_code":  # which is counted
            assert rows_of(database) == before
    else:
        answer = msgspec.json.encode(outcome).decode()
        assert expected == "ok", answer
        assert shown(answer, f'"{code}"') == set(secrets), answer
