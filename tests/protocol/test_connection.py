"""The state machine: its tables, its order, its ends."""

import itertools
import json
from collections.abc import Callable

import pytest
from certificate_authority import DAY, CertificateAuthority, Issued
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from protocol import foreign
from protocol.pair import Connection, Shop, drain, fork, greet, join, outcome

from securedelivery.errors import LocalProtocolError, Reason, RemoteProtocolError
from securedelivery.protocol import connection as core
from securedelivery.protocol.authentication import NO_CERTIFICATE, encode_auth
from securedelivery.protocol.certificates import Identity
from securedelivery.protocol.connection import (
    CloseReceived,
    HandshakeReceived,
    PeerAuthenticated,
    RequestRefused,
    State,
    Truncated,
)
from securedelivery.protocol.frames import FrameKind, pad
from securedelivery.protocol.jsonrpc import Request, Response

HANDSHAKE, AUTH, MESSAGE, CLOSE = FrameKind
REQUEST = pad(b'{"jsonrpc":"2.0","id":1,"method":"m"}')
RESULT = pad(b'{"jsonrpc":"2.0","id":1,"result":{}}')
BYE = pad(b'{"reason":"bye","message":""}')


# The tables


class Stages:
    """Copies of a server and a client in every state, each with a peer that can seal the next frame for it."""

    def __init__(self, shop: Shop) -> None:
        self._reached: dict[tuple[str, State], tuple[Connection, Connection]] = {}
        client, server = shop.client(), shop.server()
        self._note("server", server, client)
        self._note("client", client, server)
        hello = client.send_handshake()
        self._note("client", client, server)
        server.receive_data(hello)
        drain(server)
        self._note("server", server, client)
        flight = server.send_handshake()
        half = fork(client)
        half.receive_data(flight[: 4 + 1_152])
        drain(half)
        before_auth = fork(server)
        before_auth._sending.n = 0
        self._note("client", half, before_auth)
        client.receive_data(flight)
        drain(client)
        self._note("server", server, client)
        self._note("client", client, server)
        server.receive_data(client.send_auth())
        drain(server)
        self._note("server", server, client)
        self._note("client", client, server)
        for role, one, other in (("server", server, client), ("client", client, server)):
            closed, peer = fork(one), fork(other)
            closed.receive_data(peer.send_close("bye"))
            drain(closed)
            self._note(role, closed, peer)
            broken, peer = fork(one), fork(other)
            assert outcome(broken, b"HTTP") == ["protocol_error"]
            self._note(role, broken, peer)

    def _note(self, role: str, connection: Connection, peer: Connection) -> None:
        self._reached[role, connection.state] = fork(connection), fork(peer)

    def __call__(self, role: str, state: State) -> tuple[Connection, Connection]:
        connection, peer = self._reached[role, state]
        return fork(connection), fork(peer)


@pytest.fixture(scope="module")
def stages(shop: Shop) -> Stages:
    return Stages(shop)


# As the page has it, not as the code has it.
RECEIVING = {
    "server": {
        State.AWAIT_HANDSHAKE: {HANDSHAKE: State.OWE_HANDSHAKE},
        State.AWAIT_AUTH: {AUTH: State.OPEN, CLOSE: State.PEER_CLOSED},
        State.OPEN: {MESSAGE: State.OPEN, CLOSE: State.PEER_CLOSED},
    },
    "client": {
        State.AWAIT_HANDSHAKE: {HANDSHAKE: State.AWAIT_AUTH},
        State.AWAIT_AUTH: {AUTH: State.OWE_AUTH, CLOSE: State.PEER_CLOSED},
        State.OPEN: {MESSAGE: State.OPEN, CLOSE: State.PEER_CLOSED},
    },
}
SENDING = {
    "server": {
        State.OWE_HANDSHAKE: {HANDSHAKE: State.AWAIT_AUTH},
        State.OPEN: {MESSAGE: State.OPEN},
        State.PEER_CLOSED: {MESSAGE: State.PEER_CLOSED},
    },
    "client": {
        State.OWE_HANDSHAKE: {HANDSHAKE: State.AWAIT_HANDSHAKE},
        State.OWE_AUTH: {AUTH: State.OPEN},
        State.OPEN: {MESSAGE: State.OPEN},
    },
}
STATES = [
    (role, state)
    for role in ("server", "client")
    for state in State
    if (role, state) != ("server", State.OWE_AUTH)  # a server's AUTH goes with its HANDSHAKE
]


def frame(sender: Connection, kind: FrameKind, receiver: str) -> bytes:
    """A frame of the kind that is right in everything but, perhaps, its turn."""
    if kind is HANDSHAKE:
        length = 1_216 if receiver == "server" else 1_152
        return foreign.header(HANDSHAKE, length) + bytes(length)
    plaintext = {
        AUTH: encode_auth(NO_CERTIFICATE),
        MESSAGE: REQUEST if receiver == "server" else RESULT,
        CLOSE: BYE,
    }[kind]
    if sender._sending is None:
        return foreign.header(kind, len(plaintext) + 16) + bytes(len(plaintext) + 16)
    return sender._seal(kind, plaintext)


@pytest.mark.parametrize("kind", [0, HANDSHAKE, AUTH, MESSAGE, CLOSE, 5, 127, 255])
@pytest.mark.parametrize(("role", "state"), STATES)
def test_what_the_table_does_not_name_is_refused(stages: Stages, role: str, state: State, kind: int) -> None:
    connection, peer = stages(role, state)
    known = kind in set(FrameKind)
    connection.receive_data(frame(peer, FrameKind(kind), role) if known else bytes([kind, 0, 0, 80]) + bytes(80))
    if state is State.BROKEN:
        with pytest.raises(RemoteProtocolError, match="kind 72"):  # the H of HTTP: the first error stays
            connection.next_event()
    elif state not in RECEIVING[role]:
        assert connection.next_event() is None
        assert connection.state is state
    elif kind not in RECEIVING[role][state]:
        with pytest.raises(RemoteProtocolError, match="out of turn") as caught:
            connection.next_event()
        assert caught.value.reason == "protocol_error"
        assert connection.state is State.BROKEN
    elif kind in (MESSAGE, CLOSE):
        assert isinstance(connection.next_event(), Request | Response | CloseReceived)
        assert connection.state is RECEIVING[role][state][kind]
    elif (role, kind) == ("server", HANDSHAKE):
        assert connection.next_event() == HandshakeReceived()  # a point of low order shows when it is used
        with pytest.raises(RemoteProtocolError, match="low order"):
            connection.send_handshake()
    else:
        with pytest.raises(RemoteProtocolError, match=r"low order|no certificate|one is required"):
            connection.next_event()


def test_a_server_refuses_a_point_of_low_order_for_good(stages: Stages) -> None:
    connection, peer = stages("server", State.AWAIT_HANDSHAKE)
    connection.receive_data(frame(peer, HANDSHAKE, "server"))
    assert connection.next_event() == HandshakeReceived()
    with pytest.raises(RemoteProtocolError, match="low order"):
        connection.send_handshake()
    assert connection.state is State.BROKEN
    connection.receive_data(foreign.header(AUTH, 1_040) + bytes(1_040))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="low order"):
            connection.next_event()
    with pytest.raises(LocalProtocolError, match="cannot be sent now"):
        connection.send_handshake()
    assert connection.send_close("protocol_error") == b""


def senders(role: str, connection: Connection) -> dict[FrameKind, Callable[[], bytes]]:
    if role == "server":
        return {
            HANDSHAKE: connection.send_handshake,
            MESSAGE: lambda: connection.send_result(1, {}),
        }
    return {
        HANDSHAKE: connection.send_handshake,
        AUTH: connection.send_auth,
        MESSAGE: lambda: connection.send_request(1, "m", {}),
    }


@pytest.mark.parametrize(("role", "state"), STATES)
def test_what_the_table_does_not_name_cannot_be_sent(stages: Stages, role: str, state: State) -> None:
    for kind in senders(role, stages(role, state)[0]):
        connection, _ = stages(role, state)
        send = senders(role, connection)[kind]
        following = SENDING[role].get(state, {}).get(kind)
        if following is None:
            with pytest.raises(LocalProtocolError, match="cannot be sent now"):
                send()
            assert connection.state is state
        else:
            assert send()[0] == kind
            assert connection.state is following


def test_a_server_has_three_messages_to_send_and_all_know_their_turn(stages: Stages) -> None:
    server, _ = stages("server", State.AWAIT_AUTH)
    for send in (
        lambda: server.send_result(1, {}),
        lambda: server.send_error(1, Reason.NOT_FOUND, "", {}),
        lambda: server.send_notification("system.draining", {"seconds": 9}),
    ):
        with pytest.raises(LocalProtocolError, match=r"MESSAGE cannot be sent now \(this side awaits AUTH\)"):
            send()


# Headers


@pytest.mark.parametrize("flags", [1, 2, 0x80, 0xFF])
@pytest.mark.parametrize(("role", "state"), [(role, state) for role, state in STATES if state in RECEIVING[role]])
def test_flags_are_refused(stages: Stages, role: str, state: State, flags: int) -> None:
    for kind in RECEIVING[role][state]:
        connection, peer = stages(role, state)
        sound = frame(peer, kind, role)
        connection.receive_data(bytes([kind, flags]) + sound[2:])
        with pytest.raises(RemoteProtocolError, match=f"flags {flags}"):
            connection.next_event()


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 63, 64, 79, 81, 65_487, 65_489, 65_504, 65_535])
@pytest.mark.parametrize("kind", [MESSAGE, CLOSE])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_length_that_cannot_be_is_refused_before_the_body(
    stages: Stages, role: str, kind: FrameKind, length: int
) -> None:
    connection, _ = stages(role, State.OPEN)
    connection.receive_data(foreign.header(kind, length))
    with pytest.raises(RemoteProtocolError, match=f"cannot have {length} bytes"):
        connection.next_event()


@pytest.mark.parametrize("length", [0, 16, 80, 1_024, 1_039, 1_041, 64_529, 65_535])
@pytest.mark.parametrize("role", ["server", "client"])
def test_an_auth_of_no_whole_blocks_is_refused_before_the_body(stages: Stages, role: str, length: int) -> None:
    connection, _ = stages(role, State.AWAIT_AUTH)
    connection.receive_data(foreign.header(AUTH, length))
    with pytest.raises(RemoteProtocolError, match=f"cannot have {length} bytes"):
        connection.next_event()


@pytest.mark.parametrize("length", [0, 32, 1_151, 1_152, 1_153, 1_215, 1_216, 1_217, 65_535])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_handshake_has_the_one_length_of_its_role(stages: Stages, role: str, length: int) -> None:
    connection, _ = stages(role, State.AWAIT_HANDSHAKE)
    connection.receive_data(foreign.header(HANDSHAKE, length))
    if length == (1_216 if role == "server" else 1_152):
        assert connection.next_event() is None
        assert connection.mid_frame
    else:
        with pytest.raises(RemoteProtocolError, match=f"cannot have {length} bytes"):
            connection.next_event()


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize(("sent", "claimed"), [(MESSAGE, CLOSE), (CLOSE, MESSAGE)])
def test_a_kind_that_was_changed_on_the_way_does_not_decrypt(
    stages: Stages, role: str, sent: FrameKind, claimed: FrameKind
) -> None:
    connection, peer = stages(role, State.OPEN)
    body = pad(b'{"jsonrpc":"2.0","id":1,"method":"m","result":1,"reason":"bye","message":""}')  # either would do
    sealed = peer._seal(sent, body)
    connection.receive_data(bytes([claimed]) + sealed[1:])
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        connection.next_event()


# Padding and size


@pytest.mark.parametrize("blocks", [1, 2, 7, 1_023])
def test_more_padding_than_needed_is_accepted(stages: Stages, blocks: int) -> None:
    server, client = stages("server", State.OPEN)
    server.receive_data(client._seal(MESSAGE, REQUEST.ljust(64 * blocks)))
    assert [type(event) for event in drain(server)] == [Request]
    server.receive_data(client._seal(CLOSE, BYE.ljust(64 * blocks)))
    assert drain(server) == [CloseReceived("bye", "")]


def test_padding_by_anything_but_spaces_is_no_json(stages: Stages) -> None:
    server, client = stages("server", State.OPEN)
    server.receive_data(client._seal(MESSAGE, REQUEST.rstrip().ljust(64, b"\0")))
    (refused,) = drain(server)
    assert (refused.id, refused.reason) == (None, Reason.PARSE_ERROR)


@pytest.mark.parametrize("length", [63, 65, 65_471, 65_473, 65_519])
def test_a_plaintext_of_no_whole_blocks_is_refused(stages: Stages, length: int) -> None:
    server, client = stages("server", State.OPEN)
    server.receive_data(client._seal(MESSAGE, REQUEST.rstrip().ljust(length)))
    with pytest.raises(RemoteProtocolError, match="cannot have"):
        server.next_event()


def test_the_largest_message_passes_and_one_byte_more_is_our_fault_and_costs_nothing(stages: Stages) -> None:
    server, client = stages("server", State.OPEN)
    overhead = len(json.dumps({"jsonrpc": "2.0", "id": 1, "result": ""}, separators=(",", ":")))
    with pytest.raises(LocalProtocolError, match="does not fit"):
        server.send_result(1, "x" * (65_473 - overhead))
    largest = server.send_result(1, "x" * (65_472 - overhead))
    assert len(largest) == 4 + 65_472 + 16
    client.receive_data(largest + server.send_result(2, "next"))
    first, second = drain(client)
    assert bytes(first.result) == b'"' + b"x" * (65_472 - overhead) + b'"'
    assert second.id == 2
    with pytest.raises(LocalProtocolError, match="does not fit"):
        client.send_request(1, "m", {"text": "x" * 65_472})
    server.receive_data(client.send_request(2, "m", {}))
    assert [event.id for event in drain(server)] == [2]


@pytest.mark.parametrize("text", [b"", b"no JSON", b"[]", b'{"jsonrpc":"2.0","id":4}', b"\xff", b"[" * 60_000])
def test_a_message_that_is_no_request_is_refused_and_the_connection_goes_on(stages: Stages, text: bytes) -> None:
    server, client = stages("server", State.OPEN)
    server.receive_data(client._seal(MESSAGE, pad(text) or b" " * 64) + client.send_request(5, "m", {}))
    refused, request = drain(server)
    assert isinstance(refused, RequestRefused)
    assert refused.reason in (Reason.PARSE_ERROR, Reason.INVALID_REQUEST)
    assert request.id == 5
    client.receive_data(server.send_error(refused.id, refused.reason, refused.message[:99], {}))
    (answer,) = drain(client)
    assert (answer.id, answer.error.code) == (refused.id, refused.reason.code)


def test_a_servers_message_that_is_no_json_rpc_ends_the_connection(stages: Stages) -> None:
    client, server = stages("client", State.OPEN)
    client.receive_data(server._seal(MESSAGE, REQUEST.replace(b"2.0", b"1.0")))
    with pytest.raises(RemoteProtocolError, match="not JSON-RPC"):
        client.next_event()
    assert client.state is State.BROKEN


# Counters and keys


def test_both_directions_pass_the_rekeys(shop: Shop) -> None:
    client, server = shop.open_pair()
    for number in range(1, 2_100):
        server.receive_data(client.send_request(number, "echo", {}))
        (request,) = drain(server)
        client.receive_data(server.send_result(request.id, {}))
        (response,) = drain(client)
        assert response.id == number
    assert client._sending.n == client._receiving.n == server._sending.n == server._receiving.n == 2_100


def test_the_directions_have_keys_and_counters_of_their_own(stages: Stages) -> None:
    client, server = stages("client", State.OPEN)
    keys = {client._sending.key, client._receiving.key}
    assert keys == {server._sending.key, server._receiving.key}
    assert len(keys) == 2
    reflected = client.send_request(1, "m", {})
    client.receive_data(reflected)
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.next_event()


def test_no_two_connections_have_a_key_or_a_session_in_common(shop: Shop) -> None:
    pairs = [shop.open_pair() for _ in range(3)]
    assert len({client.session for client, _ in pairs}) == 3
    assert len({side._sending.key for pair in pairs for side in pair}) == 6
    assert all(client.session == server.session and len(client.session) == 32 for client, server in pairs)


@pytest.mark.parametrize("role", ["server", "client"])
def test_an_exhausted_counter_is_an_error_of_the_side_that_goes_on(stages: Stages, role: str) -> None:
    connection, peer = stages(role, State.OPEN)
    connection._sending.n = peer._receiving.n = 2**64 - 2
    send = senders(role, connection)[MESSAGE]
    peer.receive_data(send())
    assert len(drain(peer)) == 1
    with pytest.raises(LocalProtocolError, match="sending counter is exhausted"):
        send()
    forged = foreign.Direction(peer._receiving.key)
    forged.counter = 2**64 - 1
    peer.receive_data(forged.seal(MESSAGE, REQUEST if role == "client" else RESULT))
    with pytest.raises(RemoteProtocolError, match="receiving counter is exhausted"):
        peer.next_event()


# Ends


def test_a_normal_end(shop: Shop) -> None:
    client, server = shop.open_pair()
    server.receive_data(client.send_request(1, "a", {}) + client.send_request(2, "b", {}) + client.send_close("bye"))
    assert client._close_sent
    first, second, closed = drain(server)
    assert (first.id, second.id, closed) == (1, 2, CloseReceived("bye", ""))
    assert server.state is State.PEER_CLOSED
    assert not server._close_sent
    # What came before the CLOSE is answered, then the answer to the CLOSE itself.
    client.receive_data(server.send_result(1, "one") + server.send_result(2, "two") + server.send_close("bye", "gone"))
    assert server._close_sent
    first, second, closed = drain(client)
    assert (first.id, second.id, closed) == (1, 2, CloseReceived("bye", "gone"))
    for side in (client, server):
        assert side.send_close("bye") == b""
        side.receive_data(b"")
        assert drain(side) == []  # the end of TLS is no truncation now
    assert [side.state for side in (client, server)] == [State.PEER_CLOSED] * 2


def test_closes_that_cross_are_both_read(shop: Shop) -> None:
    client, server = shop.open_pair()
    request, ours, theirs = client.send_request(1, "m", {}), client.send_close("bye"), server.send_close("draining")
    client.receive_data(theirs)
    server.receive_data(request + ours)
    assert drain(client) == [CloseReceived("draining", "")]
    assert drain(server) == [CloseReceived("bye", "")]  # the request could not be answered any more
    assert client.send_close("bye") == server.send_close("bye") == b""


@pytest.mark.parametrize("text", [REQUEST, b"no request".ljust(64), b"\xff" * 64])
def test_after_its_own_close_a_server_executes_nothing(stages: Stages, text: bytes) -> None:
    server, client = stages("server", State.OPEN)
    last = server.send_close("session_expired")
    server.receive_data(client._seal(MESSAGE, text))
    server.receive_data(client.send_request(2, "m", {}))
    assert drain(server) == []
    assert server.state is State.OPEN
    client.receive_data(last)
    assert drain(client) == [CloseReceived("session_expired", "")]
    server.receive_data(client.send_close("bye"))
    assert drain(server) == [CloseReceived("bye", "")]


def test_a_server_that_closed_before_auth_executes_nothing_either(stages: Stages) -> None:
    server, client = stages("server", State.AWAIT_AUTH)
    server.send_close("draining")
    server.receive_data(client.send_auth() + client.send_request(1, "m", {}) + client.send_close("bye"))
    assert [type(event) for event in drain(server)] == [PeerAuthenticated, CloseReceived]


def test_after_its_own_close_a_server_still_refuses_what_does_not_decrypt(stages: Stages) -> None:
    server, client = stages("server", State.OPEN)
    server.send_close("draining")
    sealed = client.send_request(1, "m", {})
    server.receive_data(sealed + sealed)
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        drain(server)


def test_after_its_own_close_a_client_still_reads_its_answers(stages: Stages) -> None:
    client, server = stages("client", State.OPEN)
    server.receive_data(client.send_request(1, "m", {}) + client.send_close("bye"))
    drain(server)
    client.receive_data(server.send_result(1, {}))
    assert [type(event) for event in drain(client)] == [Response]


@pytest.mark.parametrize("role", ["server", "client"])
def test_after_the_peers_close_nothing_is_read(stages: Stages, role: str) -> None:
    connection, peer = stages(role, State.OPEN)
    message = REQUEST if role == "server" else RESULT
    connection.receive_data(peer.send_close("bye") + peer._seal(MESSAGE, message) + b"anything")
    assert drain(connection) == [CloseReceived("bye", "")]
    connection.receive_data(b"whatever")
    assert drain(connection) == []
    assert connection.state is State.PEER_CLOSED


@pytest.mark.parametrize("role", ["server", "client"])
def test_after_its_own_close_a_side_sends_nothing(stages: Stages, role: str) -> None:
    connection, _ = stages(role, State.OPEN)
    assert connection.send_close("bye") != b""
    with pytest.raises(LocalProtocolError, match="MESSAGE cannot be sent now"):
        senders(role, connection)[MESSAGE]()
    assert connection.send_close("bye") == b""
    client, _ = stages("client", State.OWE_AUTH)
    client.send_close("certificate_untrusted")
    with pytest.raises(LocalProtocolError, match="AUTH cannot be sent now"):
        client.send_auth()


@pytest.mark.parametrize(
    ("role", "state"),
    [
        ("server", State.AWAIT_HANDSHAKE),
        ("server", State.OWE_HANDSHAKE),
        ("client", State.OWE_HANDSHAKE),
        ("client", State.AWAIT_HANDSHAKE),
    ],
)
def test_without_keys_there_is_no_close(stages: Stages, role: str, state: State) -> None:
    connection, _ = stages(role, state)
    assert connection.send_close("bye") == b""
    assert not connection._close_sent


def test_close_may_come_before_auth_in_both_directions(stages: Stages) -> None:
    server, client = stages("server", State.AWAIT_AUTH)
    server.receive_data(client.send_close("certificate_untrusted", "your certificate is not of our authority"))
    assert drain(server) == [CloseReceived("certificate_untrusted", "your certificate is not of our authority")]
    client.receive_data(server.send_close("bye"))
    assert drain(client) == []  # it has sent its last frame and still owes AUTH: there is nothing more to read

    client, server = stages("client", State.AWAIT_AUTH)
    client.receive_data(server.send_close("internal"))
    assert drain(client) == [CloseReceived("internal", "")]


def test_a_servers_close_in_place_of_the_welcome_is_read_after_auth(shop: Shop) -> None:
    client, server = shop.client(), shop.server()
    client.receive_data(greet(client, server) + server.send_close("draining"))
    assert [type(event) for event in drain(client)] == [PeerAuthenticated]
    client.send_auth()
    assert drain(client) == [CloseReceived("draining", "")]


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"reason":"idle","message":"good night"}', CloseReceived("idle", "good night")),
        (b'{"reason":"not_known_yet","message":"x"}', CloseReceived("not_known_yet", "x")),
        (b'{"message":"x","new":[1],"reason":""}', CloseReceived("", "x")),
        (b'{"reason":"bye"}', CloseReceived("bye", "")),
        ('{"reason":"bye","message":"tschüß"}'.encode(), CloseReceived("bye", "tschüß")),
    ],
)
def test_a_close_is_read(stages: Stages, role: str, body: bytes, expected: CloseReceived) -> None:
    connection, peer = stages(role, State.OPEN)
    connection.receive_data(peer._seal(CLOSE, pad(body)))
    assert drain(connection) == [expected]


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"bye",
        b"{}",
        b"null",
        b'["bye",""]',
        b'{"message":"x"}',
        b'{"reason":null}',
        b'{"reason":1}',
        b'{"reason":"bye","message":1}',
        b'{"reason":"bye"',
        b'{"reason":"bye"} x',
        b'{"reason":"\xff"}',
        b'{"reason":"bye","x":' + b"[" * 60_000,
    ],
    ids=lambda body: repr(body)[:40],
)
def test_a_malformed_close_is_a_protocol_error(stages: Stages, role: str, body: bytes) -> None:
    connection, peer = stages(role, State.OPEN)
    connection.receive_data(peer._seal(CLOSE, pad(body)))
    with pytest.raises(RemoteProtocolError, match="CLOSE is not what it should be") as caught:
        connection.next_event()
    assert caught.value.reason == "protocol_error"
    peer.receive_data(connection.send_close(caught.value.reason))
    assert drain(peer) == [CloseReceived("protocol_error", "")]


@pytest.mark.parametrize("character", ["x", "ü", "\x00", "\U0001f600"])
def test_a_close_always_fits_its_frame(stages: Stages, character: str) -> None:
    server, client = stages("server", State.OPEN)
    client.receive_data(server.send_close("internal", character * 100_000))
    assert drain(client) == [CloseReceived("internal", character * 500)]


@pytest.mark.parametrize(("role", "state"), [(role, state) for role, state in STATES if state in RECEIVING[role]])
def test_the_end_of_tls_without_close_is_a_truncation(stages: Stages, role: str, state: State) -> None:
    connection, peer = stages(role, state)
    whole = frame(peer, next(iter(RECEIVING[role][state])), role)
    for length in range(len(whole)):
        cut = fork(connection)
        if length:
            cut.receive_data(whole[:length])
        assert cut.mid_frame == bool(length)
        assert cut.next_event() is None
        cut.receive_data(b"")
        assert drain(cut) == [Truncated()]
        assert cut.state is State.BROKEN
        assert drain(cut) == []


def test_what_came_whole_before_the_end_of_tls_is_still_read(stages: Stages) -> None:
    server, client = stages("server", State.OPEN)
    server.receive_data(client.send_request(1, "m", {}) + client.send_request(2, "m", {})[:-1])
    server.receive_data(b"")
    request, end = drain(server)
    assert (request.id, end) == (1, Truncated())


def test_mid_frame_is_the_part_that_has_not_been_read(stages: Stages) -> None:
    server, client = stages("server", State.OPEN)
    first, second = client.send_request(1, "m", {}), client.send_request(2, "m", {})
    assert not server.mid_frame
    server.receive_data(first + second[:1])
    assert server.mid_frame
    assert server.next_event().id == 1
    assert server.mid_frame
    assert server.next_event() is None
    server.receive_data(second[1:])
    assert server.next_event().id == 2
    assert not server.mid_frame


# Certificates: what one side refuses, the other hears


class TestTheOtherSideHears:
    """Each case is one of a pair of sound sides with one thing wrong."""

    def refused_by_server(self, shop: Shop, alice: Issued, **policy: object) -> str:
        client, server = shop.client(credentials=alice.credentials), shop.server(outer=alice.certificate, **policy)
        client.receive_data(greet(client, server))
        drain(client)
        server.receive_data(client.send_auth() + client.send_request(1, "m", {}))
        with pytest.raises(RemoteProtocolError) as caught:
            drain(server)
        assert server.session == b""
        with pytest.raises(RemoteProtocolError):
            drain(server)  # and the request is not read
        client.receive_data(server.send_close(caught.value.reason))
        assert drain(client) == [CloseReceived(caught.value.reason, "")]
        return caught.value.reason

    def refused_by_client(self, shop: Shop, host: Issued, **client_side: object) -> str:
        client, server = shop.client(**client_side), shop.server(credentials=host.credentials)
        client.receive_data(greet(client, server))
        with pytest.raises(RemoteProtocolError) as caught:
            drain(client)
        with pytest.raises(LocalProtocolError):
            client.send_auth()
        server.receive_data(client.send_close(caught.value.reason))
        assert drain(server) == [CloseReceived(caught.value.reason, "")]
        return caught.value.reason

    def test_of_a_stranger(self, shop: Shop) -> None:
        other = CertificateAuthority()
        assert self.refused_by_server(shop, other.client()) == "certificate_untrusted"
        assert self.refused_by_client(shop, other.server()) == "certificate_untrusted"

    def test_of_an_expired_certificate(self, shop: Shop) -> None:
        times = {"start": -2 * DAY, "end": -DAY}
        assert self.refused_by_server(shop, shop.authority.client(**times)) == "certificate_expired"
        assert self.refused_by_client(shop, shop.authority.server(**times)) == "certificate_expired"

    def test_of_a_revoked_certificate(self) -> None:
        authority = CertificateAuthority()
        alice, host = authority.client(), authority.server()
        shop = Shop(authority, authority.server(), authority.client())
        authority.revoke(alice, host)
        assert self.refused_by_server(shop, alice) == "certificate_revoked"
        assert self.refused_by_client(shop, host) == "certificate_revoked"
        join(shop.client(trust=authority.trust(with_crl=False)), shop.server())
        client = shop.client(trust=authority.trust(with_crl=False))
        client.receive_data(greet(client, shop.server(credentials=host.credentials)))
        assert drain(client) == [PeerAuthenticated(None, host.certificate)]

    def test_of_a_certificate_for_the_other_purpose(self, shop: Shop) -> None:
        assert self.refused_by_server(shop, shop.host) == "certificate_untrusted"
        assert self.refused_by_client(shop, shop.alice) == "certificate_untrusted"

    def test_of_a_certificate_that_names_no_account(self, shop: Shop) -> None:
        assert self.refused_by_server(shop, shop.authority.proxy()) == "certificate_untrusted"
        assert self.refused_by_server(shop, shop.alice, trust_domain="other.test") == "certificate_untrusted"

    def test_of_a_server_with_another_name(self, shop: Shop) -> None:
        assert self.refused_by_client(shop, shop.host, server_name="shop.test") == "identity_mismatch"
        assert self.refused_by_client(shop, shop.host, server_name="127.0.0.2") == "identity_mismatch"

    def test_of_a_missing_certificate(self, shop: Shop) -> None:
        client, server = shop.client(anonymous=True), shop.server(anonymous=True)
        client.receive_data(greet(client, server))
        drain(client)
        server.receive_data(client.send_auth())
        with pytest.raises(RemoteProtocolError) as caught:
            drain(server)
        assert caught.value.reason == "certificate_required"


def test_the_server_learns_the_clients_identity_and_leaf(shop: Shop) -> None:
    authenticated = join(shop.client(), shop.server())
    identity = Identity("spiffe://shop.test/account/alice", "alice")
    assert authenticated == PeerAuthenticated(identity, shop.alice.certificate)


def test_without_a_certificate_there_is_no_identity_where_none_is_required(shop: Shop) -> None:
    client, server = shop.client(anonymous=True), shop.server(anonymous=True, certificates_required=False)
    assert join(client, server) == PeerAuthenticated(None, None)
    assert client.session == server.session


def test_the_clock_is_read_when_the_certificate_is_checked(shop: Shop) -> None:
    times = iter([shop.authority.now + 90 * DAY])
    server = shop.server()
    server._now = lambda: next(times)
    with pytest.raises(RemoteProtocolError) as caught:
        join(shop.client(), server)
    assert caught.value.reason == "certificate_expired"


# Signatures, made by the foreign implementation


class Misuse(foreign.Client):
    """A client whose AUTH is wrong in one thing; what is wrong is set after it was made."""

    label = b"client"
    spoil = staticmethod(lambda signature: signature)
    scheme: int | None = None

    def auth(self) -> bytes:
        chain = foreign.encode_chain(self.certificates)
        t3 = self._chain(3, chain)
        scheme, signature = foreign.sign(self.key, foreign.to_sign(self.label, t3))
        signature = self.spoil(signature)
        scheme = scheme if self.scheme is None else self.scheme
        self.session = self._signature(4, scheme, signature)
        return self.sending.seal(foreign.AUTH, foreign.encode_auth(chain, scheme, signature))


def attempt(shop: Shop, server: core.ServerConnection, **wrong: object) -> list[object]:
    client = Misuse(shop.authority.certificate, [shop.alice.certificate], shop.alice.key)
    vars(client).update(wrong)
    server.receive_data(client.hello())
    drain(server)
    client.read_flight(server.send_handshake())
    events = outcome(server, client.auth())
    return [type(event) if isinstance(event, PeerAuthenticated) else event for event in events]


def flip(signature: bytes) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": b"server"},
        {"label": b"Client"},
        {"spoil": flip},
        {"spoil": lambda _: b""},
        {"scheme": 0x0804},
        {"scheme": 0},
    ],
)
def test_a_signature_that_is_not_the_clients_over_this_handshake_is_a_protocol_error(shop: Shop, wrong: dict) -> None:
    assert attempt(shop, shop.server()) == [PeerAuthenticated]
    assert attempt(shop, shop.server(), **wrong) == ["protocol_error"]


def test_another_key_than_the_certificates_is_a_protocol_error(shop: Shop) -> None:
    assert attempt(shop, shop.server(), key=shop.host.key) == ["protocol_error"]


def test_the_signature_is_checked_before_everything_else() -> None:
    authority = CertificateAuthority()
    shop = Shop(authority, authority.server(), authority.client(start=-2 * DAY, end=-DAY))
    authority.revoke(shop.alice)
    assert attempt(shop, shop.server()) == ["certificate_expired"]
    assert attempt(shop, shop.server(), spoil=flip) == ["protocol_error"]
    assert attempt(shop, shop.server(outer=shop.host.certificate), spoil=flip) == ["protocol_error"]


def test_an_auth_of_another_connection_is_worth_nothing(shop: Shop) -> None:
    """Someone in the middle: alice's AUTH to him, encrypted anew, is not AUTH to the server."""
    victim, middle = shop.client(), foreign.Server(shop.authority.certificate, [shop.host.certificate], shop.host.key)
    victim.receive_data(middle.flight(victim.send_handshake()))
    drain(victim)
    ((head, body),) = foreign.split_frames(victim.send_auth())
    auth = middle.receiving.open(head, body)

    server, mallory = shop.server(), Misuse(shop.authority.certificate, [shop.alice.certificate], None)
    server.receive_data(mallory.hello())
    drain(server)
    mallory.read_flight(server.send_handshake())
    assert outcome(server, mallory.sending.seal(foreign.AUTH, auth)) == ["protocol_error"]


class MisusedServer(foreign.Server):
    auth_plaintext: Callable[[bytes, bytes], bytes]

    def flight(self, stream: bytes) -> bytes:
        ((_, body),) = foreign.split_frames(stream)
        message = self.answer(body)
        chain = foreign.encode_chain(self.certificates)
        auth = self.sending.seal(foreign.AUTH, self.auth_plaintext(chain, self._chain(1, chain)))
        return foreign.header(foreign.HANDSHAKE, len(message)) + message + auth


@pytest.mark.parametrize(
    ("label", "spoil", "expected"),
    [
        (b"server", lambda signature: signature, PeerAuthenticated),
        (b"client", lambda signature: signature, "protocol_error"),
        (b"server", flip, "protocol_error"),
        (b"server", lambda _: b"", "protocol_error"),
    ],
)
@pytest.mark.parametrize("times", [{}, {"start": -2 * DAY, "end": -DAY}], ids=["sound", "expired"])
def test_a_servers_signature_is_checked_before_its_certificate(
    shop: Shop, label: bytes, spoil: Callable, expected: object, times: dict
) -> None:
    host = shop.authority.server(**times)
    server = MisusedServer(shop.authority.certificate, [host.certificate], host.key)

    def auth_plaintext(chain: bytes, t1: bytes) -> bytes:
        scheme, signature = foreign.sign(host.key, foreign.to_sign(label, t1))
        return foreign.encode_auth(chain, scheme, spoil(signature))

    server.auth_plaintext = auth_plaintext
    client = shop.client()
    (event,) = outcome(client, server.flight(client.send_handshake()))
    if expected is PeerAuthenticated:
        expected = "certificate_expired" if times else PeerAuthenticated(None, host.certificate)
    assert event == expected


@pytest.mark.parametrize("plaintext", [bytes(1_024), b"\x00\x00\x00\x04\x03".ljust(1_024, b"\0"), b"\xff" * 1_024])
def test_a_server_without_a_certificate_is_a_protocol_error(shop: Shop, plaintext: bytes) -> None:
    server = MisusedServer(shop.authority.certificate, [], None)
    server.auth_plaintext = lambda _chain, _t1: plaintext
    client = shop.client()
    assert outcome(client, server.flight(client.send_handshake())) == ["protocol_error"]


# Broken connections


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_broken_connection_never_decrypts_again_and_says_one_word(stages: Stages, role: str) -> None:
    connection, peer = stages(role, State.OPEN)
    sound = frame(peer, MESSAGE, role)
    connection.receive_data(sound[:-1] + bytes([sound[-1] ^ 1]) + sound)
    with pytest.raises(RemoteProtocolError) as first:
        connection.next_event()
    counter = connection._receiving.n
    for data in (sound, frame(peer, MESSAGE, role), b"", b"x"):
        connection.receive_data(data)
        with pytest.raises(RemoteProtocolError) as again:
            connection.next_event()
        assert again.value is first.value
    assert connection._receiving.n == counter
    with pytest.raises(LocalProtocolError):
        senders(role, connection)[MESSAGE]()
    peer.receive_data(connection.send_close(first.value.reason))
    assert drain(peer) == [CloseReceived("protocol_error", "")]
    assert connection.send_close("bye") == b""


def test_the_codes_tables_are_the_pages_and_every_state_of_them_is_tried_above(stages: Stages) -> None:
    assert {"server": core.SERVER_RECEIVING, "client": core.CLIENT_RECEIVING} == RECEIVING
    assert {"server": core.SERVER_SENDING, "client": core.CLIENT_SENDING} == SENDING
    for role, state in STATES:
        assert stages(role, state)[0].state is state
    named = {(role, state) for role, table in itertools.chain(RECEIVING.items(), SENDING.items()) for state in table}
    assert named <= set(STATES)


# Key logs


def test_both_sides_log_the_same_keys_and_they_open_every_frame(shop: Shop) -> None:
    logged: dict[str, tuple[bytes, bytes, bytes]] = {}
    client = shop.client(key_log=lambda *keys: logged.setdefault("client", keys))
    server = shop.server(key_log=lambda *keys: logged.setdefault("server", keys))
    hello = client.send_handshake()
    assert logged == {}
    server.receive_data(hello)
    drain(server)
    flight = server.send_handshake()
    client.receive_data(flight)
    drain(client)
    to_server, to_client = [client.send_auth()], [flight[4 + 1_152 :]]
    server.receive_data(to_server[0])
    drain(server)
    for number in range(1_024):  # so that the last one is under the second key
        to_server.append(client.send_request(number, "m", {}))
        to_client.append(server.send_result(number, {}))

    assert logged["client"] == logged["server"]
    initiator_e, *keys = logged["client"]
    assert initiator_e == hello[4:36]
    for frames, key, last in zip((to_server, to_client), keys, (REQUEST_1023, RESULT_1023), strict=True):
        opened = [open_frame(key, counter, frame) for counter, frame in enumerate(frames[:1_024])]
        assert len(opened[0]) % 1_024 == 0
        assert b'"id":1022' in opened[-1]
        following = AESGCM(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]  # Rekey(), Noise section 4.2
        assert open_frame(following, 1_024, frames[1_024]) == last


REQUEST_1023 = pad(b'{"jsonrpc":"2.0","id":1023,"method":"m","params":{}}')
RESULT_1023 = pad(b'{"jsonrpc":"2.0","id":1023,"result":{}}')


def open_frame(key: bytes, counter: int, frame: bytes) -> bytes:
    return AESGCM(key).decrypt(bytes(4) + counter.to_bytes(8), frame[4:], frame[:4])


def test_where_the_handshake_fails_there_is_no_key_to_log(shop: Shop) -> None:
    logged: list[object] = []
    client = shop.client(key_log=lambda *keys: logged.append(keys))
    server = shop.server(key_log=lambda *keys: logged.append(keys))
    hello = bytearray(client.send_handshake())
    hello[4:36] = bytes(32)  # a point of low order
    server.receive_data(bytes(hello))
    drain(server)
    with pytest.raises(RemoteProtocolError):
        server.send_handshake()
    assert outcome(client, b"HTTP") == ["protocol_error"]
    assert logged == []
