"""Behind a real HAProxy that terminates TLS: identities hold, and the proxy sees nothing."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from certificate_authority import CertificateAuthority
from cryptography.hazmat.primitives.serialization import Encoding
from end_to_end.customers import ProfileOf, RingOf, StartServer
from end_to_end.edge import Edge, memory_holds
from end_to_end.requirements import require
from end_to_end.server_process import ServerProcess
from wire_client import ConnectionEnded, WireClient

from securedelivery.client import Client
from securedelivery.errors import ConnectionFailure
from securedelivery.protocol.frames import HEADER, HEADER_LENGTH, FrameKind

PROXY = "spiffe://shop.test/proxy/edge"
SECRETS = {
    "sku": "GPU-OF-GREAT-SECRECY-5090",
    "address": "4 Undisclosed Mews, Little Whispering",
    "key": "the-planted-idempotency-key",
    "username": '"username":"alice"',
    "name": '"account":"alice"',
    "method": "order.place",
    "envelope": '"jsonrpc"',
}


@pytest.fixture(scope="module", autouse=True)
def _haproxy() -> None:
    require("haproxy", "-v")


@pytest.fixture
def behind(start_server: StartServer) -> ServerProcess:
    """A server that trusts the proxy."""
    return start_server({"server": {"trusted_proxies": [PROXY]}}, stock={SECRETS["sku"]: 10})


@pytest.fixture
def edge(tmp_path: Path, authority: CertificateAuthority, behind: ServerProcess) -> Iterator[Edge]:
    with Edge(tmp_path, authority, behind) as running:
        yield running


def frames(stream: bytes) -> list[FrameKind]:
    """The kinds of all frames in a recorded direction; every byte belongs to one."""
    kinds = []
    position = 0
    while position < len(stream):
        kind, flags, length = HEADER.unpack_from(stream, position)
        assert flags == 0
        kinds.append(FrameKind(kind))
        position += HEADER_LENGTH + length
    assert position == len(stream)
    return kinds


def order_in_secret(client: WireClient) -> dict[str, object]:
    placed = client.call(
        "order.place",
        idempotency_key=SECRETS["key"],
        lines=[{"sku": SECRETS["sku"], "quantity": 2}],
        address=SECRETS["address"],
    )
    client.wait_for("order.changed")
    client.wait_for("rewards.changed")
    return placed


def test_the_identity_holds_behind_a_trusted_proxy(behind: ServerProcess, edge: Edge, ring: RingOf) -> None:
    client = WireClient.connect(edge.address, ring("alice"))
    assert client.wait_for("system.welcome")["identity"] == "spiffe://shop.test/account/alice"
    client.call("account.create", username="alice")
    again = WireClient.connect(edge.address, ring("alice"))
    assert again.call("account.login_certificate")["username"] == "alice"

    placed = order_in_secret(again)

    assert again.call("order.list")["items"] == [placed]
    assert client.wait_for("order.changed") == placed
    direct = WireClient.connect(behind.address, ring("alice"))
    direct.call("account.login_certificate")
    assert direct.call("order.get", order=placed["order"]) == placed


def test_the_proxy_sees_frames_and_nothing_of_what_is_in_them(behind: ServerProcess, edge: Edge, ring: RingOf) -> None:
    client = WireClient.connect(edge.address, ring("alice"))
    client.call("account.create", username="alice", address=SECRETS["address"])
    placed = order_in_secret(client)
    assert placed["address"] == SECRETS["address"]

    proxys_memory = {name: memory_holds(edge.pid, secret.encode()) for name, secret in SECRETS.items()}
    # Two positive controls: the search finds what HAProxy does hold, and what the server does.
    assert memory_holds(edge.pid, b"securedelivery/1")
    assert memory_holds(behind.pid, SECRETS["address"].encode())
    assert memory_holds(behind.pid, SECRETS["sku"].encode())
    assert not any(proxys_memory.values()), proxys_memory

    client.close()
    behind.stop()
    to_server, to_client = bytes(edge.recorder.to_server), bytes(edge.recorder.to_client)
    edge.recorder.settle()
    message, close = FrameKind.MESSAGE, FrameKind.CLOSE
    assert frames(to_server) == [FrameKind.HANDSHAKE, FrameKind.AUTH, message, message, close]
    assert frames(to_client) == [FrameKind.HANDSHAKE, FrameKind.AUTH] + [message] * 5 + [close]
    assert not [name for name in ("address", "key", "sku") if SECRETS[name] in behind.log.text]
    log = edge.log.read_bytes()  # written when a connection ends
    assert b" edge~ recorder/recorder " in log
    for name, secret in SECRETS.items():
        for place in (to_server, to_client, log):
            assert secret.encode() not in place, name
    certificate = ring("alice").credentials.chain[3:]
    assert certificate not in to_server  # nor who the customer is
    assert b"account/alice" not in to_server + to_client + log


def test_a_proxy_that_nobody_listed_is_an_identity_mismatch(
    tmp_path: Path, authority: CertificateAuthority, start_server: StartServer, ring: RingOf
) -> None:
    server = start_server({"server": {"trusted_proxies": ["spiffe://shop.test/proxy/another"]}})
    with Edge(tmp_path, authority, server) as edge:
        with pytest.raises(ConnectionEnded) as ended:
            WireClient.connect(edge.address, ring("alice"))
        assert ended.value.reason == "identity_mismatch"
        assert "identity_mismatch" in server.log.wait_for("refused")
        assert WireClient.connect(server.address, ring("alice")).call("system.ping") == {}


def test_a_trusted_proxy_lends_its_identity_to_nobody(edge: Edge, ring: RingOf) -> None:
    with pytest.raises(ConnectionEnded) as ended:
        WireClient.connect(edge.address, ring(None))
    assert ended.value.reason == "certificate_required"


def test_a_proxy_of_another_authority_is_trusted_in_tls_alone(
    tmp_path: Path, authority: CertificateAuthority, behind: ServerProcess, profile_of: ProfileOf
) -> None:
    public = CertificateAuthority("public CA")
    file = tmp_path / "public-ca.crt"
    file.write_bytes(public.certificate.public_bytes(Encoding.PEM))
    with Edge(tmp_path, authority, behind, outward=public) as edge:
        without = profile_of(edge.address, "alice")
        profile = msgspec.structs.replace(without, tls_ca=file)
        with Client(profile) as client:
            assert client.welcome.identity == "spiffe://shop.test/account/alice"
            client.create_account("alice", address=SECRETS["address"])
            assert client.place_order([(SECRETS["sku"], 1)]).address == SECRETS["address"]
        edge.recorder.settle()
        assert SECRETS["address"].encode() not in edge.recorder.to_server + edge.recorder.to_client
        passed = len(edge.recorder.to_server)
        with pytest.raises(ConnectionFailure, match="not from the CA that is trusted here") as caught:
            Client(without).connect()
        assert "--tls-ca" in caught.value.hint
        edge.recorder.settle()
        assert len(edge.recorder.to_server) == passed
    with Client(profile_of(behind.address, "alice")) as direct:
        assert direct.login_certificate().username == "alice"
        with pytest.raises(ConnectionFailure, match="not from the CA that is trusted here"):
            Client(msgspec.structs.replace(profile_of(behind.address, "alice"), tls_ca=file)).connect()


def test_customers_behind_a_proxy_are_not_counted_as_one_address(
    tmp_path: Path, authority: CertificateAuthority, start_server: StartServer, ring: RingOf
) -> None:
    limits = {"limits": {"connections_per_address": 3}}
    server = start_server({"server": {"trusted_proxies": [PROXY]}, **limits})
    with Edge(tmp_path, authority, server) as edge:
        clients = [WireClient.connect(edge.address, ring(f"customer-{number}")) for number in range(10)]
        assert [client.call("system.ping") for client in clients] == [{}] * 10
