"""What an operator, an admin or the owner does to an account reaches its open connections within 5 seconds."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from end_to_end.customers import ADDRESS, Record, RingOf, order, refusal
from end_to_end.server_process import ServerProcess, write_catalog
from planted import planted
from wire_client import WireClient

PASSWORD = planted("a good password")
ANOTHER = planted("another good one")
WITHIN_SECONDS = 5.0

Door = Callable[[str], WireClient]
"""Call it with a name for a connection that is logged in; the account is made where it is missing."""


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority) -> Iterator[ServerProcess]:
    """A server that also takes customers without certificate. root is an admin, sam an agent, kim a courier."""
    certs = authority.write(tmp_path_factory.mktemp("certs"))
    folder = tmp_path_factory.mktemp("server")
    settings = {"server": {"client_certificates": "optional"}}
    catalog = write_catalog(folder / "catalog.csv", {"CPU-1": 1_000})
    with ServerProcess(folder, certs, settings, catalog=catalog) as running:
        for name, role in (("root", "admin"), ("sam", "agent"), ("kim", "courier")):
            running.create_account(name, role)
        yield running


@pytest.fixture
def by_certificate(lenient: ServerProcess, ring: RingOf) -> Door:
    def enter(name: str) -> WireClient:
        client = WireClient.connect(lenient.address, ring(name))
        if refusal(lambda: client.call("account.login_certificate")) is not None:
            client.call("account.create", username=name, password=PASSWORD, address=ADDRESS)
        return client

    return enter


@pytest.fixture
def by_password(lenient: ServerProcess, ring: RingOf, by_certificate: Door) -> Door:
    """Without a certificate, though there is one."""

    def enter(name: str) -> WireClient:
        by_certificate(name).close()
        client = WireClient.connect(lenient.address, ring(None))
        client.call("account.login", username=name, password=PASSWORD)
        return client

    return enter


def expect_end(client: WireClient, reason: str, began: float) -> float:
    """The connection ends for this reason, in time; returns the seconds since `began`."""
    client.patience_seconds = WITHIN_SECONDS
    ended = client.wait_for_end()
    assert ended.reason == reason, ended
    seconds = time.monotonic() - began
    assert seconds < WITHIN_SECONDS
    return round(seconds, 2)


def until(client: WireClient, method: str, reason: str | None) -> None:
    """Ask until it is refused for this reason, or until it is not refused; 5 seconds at most."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        refused = refusal(lambda: client.call(method))
        if (refused.reason if refused else None) == reason:
            return
        assert time.monotonic() < deadline, refused


def login_by_password(server: ServerProcess, ring: RingOf, name: str, password: str) -> str | None:
    """Why it is refused, or None."""
    with WireClient.connect(server.address, ring(None)) as client:
        refused = refusal(lambda: client.call("account.login", username=name, password=password))
    return refused.reason if refused else None


# By an operator's command, in a process of its own


def test_a_new_role_changes_what_an_open_connection_may_do(lenient: ServerProcess, by_certificate: Door) -> None:
    client = by_certificate("rises")
    assert refusal(lambda: client.call("chat.queue")).reason == "forbidden"
    lenient.admin("account", "set-role", "rises", "agent")
    until(client, "chat.queue", None)
    assert client.call("account.get")["role"] == "agent"
    lenient.admin("account", "set-role", "rises", "customer")
    until(client, "chat.queue", "forbidden")


def test_who_is_disabled_is_out_and_comes_back(
    lenient: ServerProcess, ring: RingOf, by_certificate: Door, by_password: Door, record_property: Record
) -> None:
    clients, neighbour = [by_certificate("locked"), by_password("locked")], by_certificate("neighbour")
    lenient.admin("account", "disable", "locked")
    began = time.monotonic()
    record_property("seconds", [expect_end(client, "credentials_changed", began) for client in clients])
    assert login_by_password(lenient, ring, "locked", PASSWORD) == "disabled"
    with WireClient.connect(lenient.address, ring("locked")) as again:
        assert refusal(lambda: again.call("account.login_certificate")).reason == "disabled"
        neighbour.call("account.get")
        lenient.admin("account", "disable", "locked", "--enable")
        again.call("account.login_certificate")


def test_who_needs_the_certificate_now_is_out_without_it(
    lenient: ServerProcess, ring: RingOf, by_certificate: Door, by_password: Door
) -> None:
    holder, other = by_certificate("careful"), by_password("careful")
    lenient.admin("account", "require-certificate", "careful")
    began = time.monotonic()
    expect_end(other, "credentials_changed", began)
    assert login_by_password(lenient, ring, "careful", PASSWORD) == "bad_credentials"
    with WireClient.connect(lenient.address, ring("careful")) as again:
        again.call("account.login_certificate")
    assert holder.call("account.get")["username"] == "careful"


def test_a_password_that_is_reset_ends_what_the_old_one_opened(
    lenient: ServerProcess, ring: RingOf, by_password: Door, tmp_path: Path
) -> None:
    clients = [by_password("forgetful"), by_password("forgetful")]
    (tmp_path / "new").write_text(f"{ANOTHER}\n")
    lenient.admin("account", "reset-password", "forgetful", "--password-file", str(tmp_path / "new"))
    began = time.monotonic()
    for client in clients:
        expect_end(client, "credentials_changed", began)
    assert login_by_password(lenient, ring, "forgetful", PASSWORD) == "bad_credentials"
    assert login_by_password(lenient, ring, "forgetful", ANOTHER) is None


def test_an_order_that_the_operator_advances_is_told_to_its_customer(
    lenient: ServerProcess, by_certificate: Door, record_property: Record
) -> None:
    customer, stranger, courier = by_certificate("waiting"), by_certificate("stranger"), by_certificate("kim")
    placed = customer.call("order.place", **order("k", CPU_1=1))
    for client in (customer, stranger, courier):
        client.patience_seconds = WITHIN_SECONDS
    lenient.admin("order", "advance", str(placed["order"]), "confirmed", "--note", planted("at last"))
    began = time.monotonic()
    changed = customer.wait_for("order.changed", lambda told: told["status"] == "confirmed")
    record_property("seconds", round(time.monotonic() - began, 2))
    assert changed == customer.call("order.get", order=placed["order"])
    assert (changed["history"][-1]["by"], changed["history"][-1]["note"]) == ("operator", planted("at last"))

    lenient.admin("order", "advance", str(placed["order"]), "packed", "--courier", "kim")
    told = courier.wait_for("order.changed", lambda told: told["status"] == "packed")
    assert "delivery_code" not in told
    stranger.call("system.ping")
    assert [method for method, _ in stranger.notifications] == ["system.welcome"]


# Through the socket, by an admin or by the owner


def test_an_admin_changes_a_role_of_an_open_connection(by_certificate: Door) -> None:
    admin, client = by_certificate("root"), by_certificate("promoted")
    assert admin.call("account.set_role", username="promoted", role="agent")["role"] == "agent"
    until(client, "chat.queue", None)
    admin.call("account.set_role", username="promoted", role="customer")
    until(client, "chat.queue", "forbidden")


def test_an_agent_who_is_one_no_more_gives_the_conversation_back(by_certificate: Door) -> None:
    admin, agent, colleague = by_certificate("root"), by_certificate("temp"), by_certificate("sam")
    admin.call("account.set_role", username="temp", role="agent")
    until(agent, "chat.queue", None)
    asked = by_certificate("curious").call("chat.send", text=planted("Hello?"), message_key="k")
    agent.call("chat.claim", conversation=asked["conversation"])
    admin.call("account.set_role", username="temp", role="customer")
    colleague.wait_for(
        "chat.conversation",
        lambda told: (
            told["conversation"] == asked["conversation"] and told["status"] == "waiting" and told["agent"] is None
        ),
    )
    assert refusal(lambda: agent.call("chat.history", conversation=asked["conversation"])).reason in (
        "not_found",
        "forbidden",
    )
    assert colleague.call("chat.claim", conversation=asked["conversation"])["agent"] == "sam"


def test_an_admin_locks_out_open_connections(by_certificate: Door, by_password: Door) -> None:
    admin, clients = by_certificate("root"), [by_certificate("rude"), by_password("rude")]
    admin.call("account.disable", username="rude", disabled=True)
    began = time.monotonic()
    for client in clients:
        expect_end(client, "credentials_changed", began)
    admin.call("account.disable", username="rude", disabled=False)
    by_certificate("rude").call("account.get")


def test_a_new_password_ends_the_other_connections_alone(
    lenient: ServerProcess, ring: RingOf, by_certificate: Door, by_password: Door
) -> None:
    owner, others = by_password("prudent"), [by_password("prudent"), by_certificate("prudent")]
    owner.call("account.change_password", old_password=PASSWORD, new_password=ANOTHER)
    began = time.monotonic()
    for client in others:
        expect_end(client, "credentials_changed", began)
    assert owner.call("account.get")["username"] == "prudent"
    owner.call("order.place", **order("k", CPU_1=1))
    assert login_by_password(lenient, ring, "prudent", PASSWORD) == "bad_credentials"
    assert login_by_password(lenient, ring, "prudent", ANOTHER) is None


def test_a_deleted_account_is_gone_from_every_connection(
    lenient: ServerProcess, ring: RingOf, by_certificate: Door, by_password: Door
) -> None:
    owner, other = by_certificate("leaving"), by_password("leaving")
    owner.call("chat.send", text=planted("Goodbye."), message_key="k")
    owner.call("account.delete", password=PASSWORD)
    began = time.monotonic()
    expect_end(other, "account_deleted", began)
    assert login_by_password(lenient, ring, "leaving", PASSWORD) == "bad_credentials"
    with WireClient.connect(lenient.address, ring("leaving")) as again:
        assert refusal(lambda: again.call("account.login_certificate")).reason == "bad_credentials"
        assert refusal(lambda: again.call("account.create", username="leaving")).reason == "username_taken"
