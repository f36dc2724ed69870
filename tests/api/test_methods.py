"""The table at work, over a real database, without a socket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from api.conftest import Door, ServicesOver

from securedelivery.api.methods import MAX_RESULT, METHODS, Access, Api, Services
from securedelivery.errors import Reason, Refusal, StoreError
from securedelivery.model import Cents, Role
from securedelivery.protocol.certificates import Identity
from securedelivery.service.catalog import ProductEntry
from securedelivery.store.engine import Database
from securedelivery.transport.dispatch import Caller

ALICE = Identity("spiffe://shop.test/account/alice", "alice")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        yield database


@pytest.fixture
def services(database: Database, services_over: ServicesOver) -> Services:
    return services_over(database)


@pytest.fixture
def api(services: Services) -> Api:
    return Api(services)


@pytest.fixture
def door(api: Api) -> Door:
    return Door(api, Caller(ALICE, "127.0.0.1"))


@pytest.fixture
def alice(door: Door) -> Door:
    door.call("account.create", username="alice", address="1 Analytical Row")
    return door


def test_every_row_is_named_after_its_key_and_has_its_struct() -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert issubclass(method.parameters, msgspec.Struct)
        assert method.summary.endswith((".", "?"))


@pytest.mark.parametrize(
    ("access", "admitted"),
    [
        (Access.ANY, {"customer", "agent", "courier", "admin"}),
        (Access.CUSTOMER, {"customer", "agent", "courier", "admin"}),
        (Access.AGENT, {"agent", "admin"}),
        (Access.COURIER, {"courier", "admin"}),
        (Access.ADMIN, {"admin"}),
    ],
)
def test_roles(access: Access, admitted: set[str]) -> None:
    assert {role.value for role in Role if access.admits(role)} == admitted


def test_a_walk_through_the_table(alice: Door) -> None:
    info = alice.call("system.info")
    assert info.name == "Parts & Co"
    assert info.time == "2026-11-22T12:00:00.000000Z"
    assert msgspec.json.encode(alice.call("system.ping")) == b"{}"
    assert alice.call("account.get").username == "alice"
    assert msgspec.to_builtins(alice.call("catalog.get", sku="CPU-1"))["price"] == 20_000
    order = alice.call("order.place", idempotency_key="k", lines=[{"sku": "CPU-1", "quantity": 2}])
    assert (order.total, order.address) == (40_000, "1 Analytical Row")
    assert alice.call("order.get", order=order.order) == order
    page = msgspec.json.decode(msgspec.json.encode(alice.call("order.list")))
    assert [item["order"] for item in page["items"]] == [order.order]
    assert page["next"] is None
    assert msgspec.json.encode(alice.call("account.logout")) == b"{}"
    assert alice.refused("account.get").reason is Reason.NOT_LOGGED_IN
    assert alice.call("account.login_certificate").username == "alice"


def test_login_by_password(api: Api) -> None:
    door = Door(api, Caller(None, "127.0.0.1"))
    door.call("account.create", username="bob", password="correct horse battery")
    door.call("account.logout")
    assert door.refused("account.login", username="bob", password="wrong").reason is Reason.BAD_CREDENTIALS
    assert door.call("account.login", username="bob", password="correct horse battery").username == "bob"


def test_checks_come_in_the_order_method_login_role_parameters(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    assert door.raw("order.nope", b"[]").reason is Reason.METHOD_NOT_FOUND
    assert door.raw("order.place", b"[]").reason is Reason.NOT_LOGGED_IN
    door.call("account.create", username="alice")
    monkeypatch.setitem(METHODS, "order.get", msgspec.structs.replace(METHODS["order.get"], access=Access.ADMIN))
    assert door.raw("order.get", b"[]").reason is Reason.FORBIDDEN
    refusal = door.raw("order.place", b"[]")
    assert (refusal.reason, refusal.data) == (Reason.INVALID_PARAMS, {"path": ""})


@pytest.mark.parametrize(
    ("params", "path", "words"),
    [
        ({}, "/idempotency_key", "missing"),
        ({"idempotency_key": None, "lines": []}, "/idempotency_key", "expected"),
        ({"idempotency_key": "k" * 129, "lines": []}, "/idempotency_key", "expected at "),
        ({"idempotency_key": "k", "lines": []}, "/lines", "expected at "),
        ({"idempotency_key": "k", "lines": [{"quantity": 1}]}, "/lines/0/sku", "missing"),
        ({"idempotency_key": "k", "lines": [{"sku": "a", "quantity": 0}]}, "/lines/0/quantity", "quantity"),
        ({"idempotency_key": "k", "lines": [{"sku": "a", "quantity": 1.5}]}, "/lines/0/quantity", "int"),
        ({"idempotency_key": "k", "lines": [{"sku": "a", "quantity": True}]}, "/lines/0/quantity", "bool"),
        ({"idempotency_key": "k", "lines": [{"sku": "a\n", "quantity": 1}]}, "/lines/0/sku", "one line"),
        ({"idempotency_key": "k", "lines": [{"sku": "a", "quantity": 1}] * 101}, "/lines", "expected at "),
        (
            {"idempotency_key": "k", "lines": [{"sku": "a", "quantity": 1}], "redeem_points": -1},
            "/redeem_points",
            ">= 0",
        ),
    ],
)
def test_a_bad_parameter_is_named_by_a_json_pointer(alice: Door, params: dict[str, Any], path: str, words: str) -> None:
    refusal = alice.refused("order.place", **params)
    assert (refusal.reason, refusal.data) == (Reason.INVALID_PARAMS, {"path": path})
    assert words in refusal.message


def test_parameters_that_cannot_be_read_are_refused(door: Door) -> None:
    for params in (b'{"query":' + b"[" * 990 + b"]" * 990 + b"}", b'{"colour":' + b"[" * 5_000):
        refusal = door.raw("catalog.list", params)
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.data) in (
            (Reason.INVALID_PARAMS, {"path": ""}),
            (Reason.INVALID_PARAMS, {"path": "/query"}),
        )


def test_a_pattern_is_explained_in_words(door: Door) -> None:
    refusal = door.refused("account.create", username="Alice!")
    assert refusal.message == "username: expected 3 to 32 of a-z 0-9 . _ -, starting with a letter"


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("address", "a\0b", "address: expected text without U+0000"),
        ("name", "a\nb", "name: expected one line without control characters"),
        ("email", "nobody", "email: expected an address like name@example.org"),
    ],
)
def test_every_pattern_has_words_of_its_own(door: Door, member: str, value: str, words: str) -> None:
    assert door.refused("account.create", username="alice", **{member: value}).message == words


def test_unknown_members_are_ignored_and_null_is_absent(alice: Door) -> None:
    assert alice.call("catalog.list", colour="red", query=None, limit=None).next is None


def test_a_page_holds_what_fits_a_frame_and_goes_on_behind_it(services: Services, door: Door) -> None:
    services.catalog.import_products(
        [ProductEntry(f"BIG-{i:03}", "ü" * 200, "ü" * 2_000, Cents(1), 1, active=True) for i in range(60)]
    )
    seen, after, pages = [], None, 0
    while pages == 0 or after is not None:
        encoded = msgspec.json.encode(door.call("catalog.list", after=after, limit=200))
        assert len(encoded) <= MAX_RESULT + 100
        page = msgspec.json.decode(encoded)
        seen += [item["sku"] for item in page["items"]]
        after = page["next"]
        pages += 1
    assert seen == ["CPU-1", *(f"BIG-{i:03}" for i in range(60))]
    assert pages > 2


def test_a_bug_becomes_an_incident_and_says_nothing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setitem(METHODS, "system.ping", msgspec.structs.replace(METHODS["system.ping"], run=broken))
    refusal = door.refused("system.ping")
    assert refusal.reason is Reason.INTERNAL
    assert refusal.data["incident"] in refusal.message
    assert "secret" not in refusal.message


def test_a_bug_before_or_in_the_writer_answers_too(alice: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    row = METHODS["order.place"]
    lines = [{"sku": "CPU-1", "quantity": 1}]

    def broken(*_: object) -> Any:
        raise ZeroDivisionError

    for run in (broken, lambda *_: (broken, None)):
        monkeypatch.setitem(METHODS, "order.place", msgspec.structs.replace(row, run=run))
        assert alice.refused("order.place", idempotency_key="k", lines=lines).reason is Reason.INTERNAL


def test_a_closed_database_is_unavailable(alice: Door, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    database.writer.close()
    lines = [{"sku": "CPU-1", "quantity": 1}]
    assert alice.refused("order.place", idempotency_key="k", lines=lines).reason is Reason.UNAVAILABLE

    def locked(*_: object) -> None:
        raise StoreError("locked")

    monkeypatch.setitem(METHODS, "account.get", msgspec.structs.replace(METHODS["account.get"], run=locked))
    assert alice.refused("account.get").reason is Reason.UNAVAILABLE
