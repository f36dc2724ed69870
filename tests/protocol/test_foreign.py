"""The core against the implementation in foreign.py, live, in both roles: two readings of the same page."""

import pytest
from certificate_authority import Issued
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from protocol import foreign
from protocol.pair import Shop, drain

from securedelivery.errors import Reason, RemoteProtocolError
from securedelivery.protocol.connection import (
    CloseReceived,
    HandshakeReceived,
    PeerAuthenticated,
    State,
)
from securedelivery.protocol.jsonrpc import ErrorResponse, Request, Response

FRAMES = 2_100  # past the rekeys at 1,024 and 2,048


@pytest.fixture(scope="module", params=["ecdsa", "rsa"])
def host(request: pytest.FixtureRequest, shop: Shop) -> Issued:
    return shop.host if request.param == "ecdsa" else shop.authority.server(key=rsa.generate_private_key(65537, 3072))


@pytest.fixture(scope="module", params=["ecdsa", "rsa", "anonymous"])
def customer(request: pytest.FixtureRequest, shop: Shop) -> Issued | None:
    match request.param:
        case "ecdsa":
            return shop.alice
        case "rsa":
            return shop.authority.client(key=rsa.generate_private_key(65537, 3072))
    return None


def foreign_client(shop: Shop, customer: Issued | None) -> foreign.Client:
    certificates = [customer.certificate] if customer else []
    return foreign.Client(shop.authority.certificate, certificates, customer and customer.key)


def foreign_server(shop: Shop, host: Issued) -> foreign.Server:
    return foreign.Server(shop.authority.certificate, [host.certificate], host.key)


def test_a_foreign_client_is_served(shop: Shop, host: Issued, customer: Issued | None) -> None:
    outer = customer.certificate if customer else None
    server = shop.server(
        credentials=host.credentials, outer=outer, anonymous=customer is None, certificates_required=False
    )
    client = foreign_client(shop, customer)

    server.receive_data(client.hello())
    assert drain(server) == [HandshakeReceived()]
    client.read_flight(server.send_handshake())
    early = client.auth() + client.message({"jsonrpc": "2.0", "id": "early", "method": "system.ping"}, extra_padding=3)
    server.receive_data(early)
    authenticated, request = drain(server)
    assert isinstance(authenticated, PeerAuthenticated)
    assert authenticated.leaf == outer
    if customer is None:
        assert authenticated.identity is None
    else:
        assert authenticated.identity.uri == "spiffe://shop.test/account/alice"
    assert request == Request("early", "system.ping", request.params)
    assert bytes(request.params) == b"{}"
    assert server.session == client.session

    welcome = client.read(server.send_notification("system.welcome", {"session": server.session.hex()}))
    assert welcome == [
        (
            foreign.MESSAGE,
            {"jsonrpc": "2.0", "method": "system.welcome", "params": {"session": client.session.hex()}},
        )
    ]
    refused = client.read(server.send_error("early", Reason.NOT_FOUND, "no such thing", {"sku": "GPU"}))
    error = {"code": 1404, "message": "no such thing", "data": {"reason": "not_found", "sku": "GPU"}}
    assert refused == [(foreign.MESSAGE, {"jsonrpc": "2.0", "id": "early", "error": error})]

    for number in range(FRAMES):
        params = {"number": number}
        server.receive_data(client.message({"jsonrpc": "2.0", "id": number, "method": "echo", "params": params}))
        (request,) = drain(server)
        answer = client.read(server.send_result(request.id, request.params))
        assert answer == [(foreign.MESSAGE, {"jsonrpc": "2.0", "id": number, "result": params})]

    server.receive_data(client.close("idle", "good night"))
    assert drain(server) == [CloseReceived("idle", "good night")]
    assert client.read(server.send_close("bye")) == [(foreign.CLOSE, {"reason": "bye", "message": ""})]


def test_a_foreign_server_is_used(shop: Shop, host: Issued, customer: Issued | None) -> None:
    client = shop.client(credentials=customer and customer.credentials, anonymous=customer is None)
    server = foreign_server(shop, host)

    client.receive_data(server.flight(client.send_handshake()))
    assert drain(client) == [PeerAuthenticated(None, host.certificate)]
    leaf = server.read_auth(client.send_auth())
    assert leaf == (customer.certificate if customer else None)
    assert client.session == server.session

    params = {"session": server.session.hex()}
    client.receive_data(server.message({"jsonrpc": "2.0", "method": "system.welcome", "params": params}))
    (welcome,) = drain(client)
    assert (welcome.id, welcome.method) == (None, "system.welcome")
    error = {"code": 1404, "message": "gone", "data": {"reason": "not_found"}}
    client.receive_data(server.message({"jsonrpc": "2.0", "id": None, "error": error}, extra_padding=1))
    (refused,) = drain(client)
    assert isinstance(refused, ErrorResponse)
    assert (refused.id, refused.error.code, refused.error.data) == (None, 1404, {"reason": "not_found"})

    for number in range(FRAMES):
        request = {"jsonrpc": "2.0", "id": number, "method": "echo", "params": {"number": number}}
        assert server.read(client.send_request(number, "echo", {"number": number})) == [(foreign.MESSAGE, request)]
        client.receive_data(server.message({"jsonrpc": "2.0", "id": number, "result": number}))
        (answer,) = drain(client)
        assert isinstance(answer, Response)
        assert (answer.id, bytes(answer.result)) == (number, b"%d" % number)

    assert server.read(client.send_close("bye", "thanks")) == [
        (foreign.CLOSE, {"reason": "bye", "message": "thanks"}),
    ]
    client.receive_data(server.close("draining"))
    assert drain(client) == [CloseReceived("draining", "")]
    assert client.state is State.PEER_CLOSED


@pytest.mark.parametrize("counter", [1_024, 2_048])
def test_at_each_multiple_of_1024_the_old_key_is_over_in_both_directions(shop: Shop, counter: int) -> None:
    server, client = shop.server(), foreign_client(shop, shop.alice)
    server.receive_data(client.hello())
    drain(server)
    client.read_flight(server.send_handshake())
    server.receive_data(client.auth())
    for number in range(1, counter):  # AUTH was frame 0
        server.receive_data(client.message({"jsonrpc": "2.0", "id": number, "method": "echo"}))
        drain(server)
        client.read(server.send_result(number, {}))
    at = foreign.nonce(counter)

    frame = server.send_result(counter, {})
    with pytest.raises(InvalidTag):
        AESGCM(client.receiving.key).decrypt(at, frame[4:], frame[:4])

    head = foreign.header(foreign.MESSAGE, 64 + 16)
    server.receive_data(head + AESGCM(client.sending.key).encrypt(at, foreign.padded({}), head))
    with pytest.raises(RemoteProtocolError, match=f"frame {counter} does not decrypt"):
        server.next_event()
