"""Whatever a peer sends, at any point, the core yields events or raises RemoteProtocolError.

A peer that only throws bytes is stopped by the first tag; so these peers also know the keys, and then sign.
"""

import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protocol import foreign
from protocol.pair import Connection, Shop, drain, fork, greet

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.authentication import decode_auth, verify_signature
from securedelivery.protocol.certificates import account_identity
from securedelivery.protocol.connection import Event, ServerConnection

fuzz = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
REASONS = {
    "protocol_error",
    "certificate_required",
    "certificate_untrusted",
    "certificate_expired",
    "certificate_revoked",
    "identity_mismatch",
}


@pytest.fixture(scope="module")
def points(shop: Shop) -> dict[str, tuple[Connection, Connection]]:
    """Connections that wait for the peer, each with that peer."""
    client, server = shop.client(), shop.server()
    points = {"server, before HANDSHAKE": (fork(server), fork(client))}
    flight = greet(client, server)
    points["client, before HANDSHAKE"] = fork(client), fork(server)
    half = fork(client)
    half.receive_data(flight[:1_156])
    drain(half)
    peer = fork(server)
    peer._sending.n = 0
    points["client, before AUTH"] = half, peer
    client.receive_data(flight)
    drain(client)
    points["server, before AUTH"] = fork(server), fork(client)
    server.receive_data(client.send_auth())
    drain(server)
    points["server, open"] = fork(server), fork(client)
    points["client, open"] = fork(client), fork(server)
    return points


all_points = pytest.mark.parametrize(
    "point",
    [
        "server, before HANDSHAKE",
        "server, before AUTH",
        "server, open",
        "client, before HANDSHAKE",
        "client, before AUTH",
        "client, open",
    ],
)
with_keys = pytest.mark.parametrize(
    "point", ["server, before AUTH", "server, open", "client, before AUTH", "client, open"]
)


def survives(connection: Connection, *pieces: bytes) -> bool:
    """Whether the peer was accepted; anything but events and RemoteProtocolError fails the test."""
    try:
        for piece in (*pieces, b""):
            connection.receive_data(piece)
            while (event := connection.next_event()) is not None:
                assert isinstance(event, Event)
                if connection.state.name == "OWE_HANDSHAKE":
                    assert isinstance(connection, ServerConnection)
                    connection.send_handshake()
    except RemoteProtocolError as error:
        assert error.reason in REASONS  # noqa: PT017 -- either end is right
        return False
    return True


# Bytes


@all_points
@fuzz
@given(pieces=st.lists(st.binary(min_size=1, max_size=3_000), max_size=4))
def test_random_bytes(points: dict, point: str, pieces: list[bytes]) -> None:
    survives(fork(points[point][0]), *pieces)


@all_points
@fuzz
@given(
    frames=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([0, 0, 0, 0, 1]),
            st.sampled_from([0, 1, 15, 16, 17, 80, 144, 1_040, 1_152, 1_216, 2_064]),
            st.binary(min_size=1, max_size=64),
        ),
        max_size=4,
    )
)
def test_random_bodies_under_right_headers(points: dict, point: str, frames: list) -> None:
    stream = b"".join(
        bytes([kind, flags]) + length.to_bytes(2, "big") + (body * length)[:length]
        for kind, flags, length, body in frames
    )
    survives(fork(points[point][0]), stream or b"\0")


@with_keys
@fuzz
@given(frames=st.lists(st.tuples(st.integers(1, 4), st.binary(max_size=2_048)), max_size=4), data=st.data())
def test_random_plaintexts_under_right_keys(points: dict, point: str, frames: list, data: st.DataObject) -> None:
    connection, peer = map(fork, points[point])
    stream = b""
    for kind, plaintext in frames:
        block = data.draw(st.sampled_from([1, 64, 1_024]))
        stream += peer._seal(
            foreign.AUTH if block == 1_024 else kind, plaintext.ljust(block + len(plaintext) // block * block)
        )
    survives(connection, stream or b"\0")


# JSON

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=12,
)
rpc_objects = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | json_values,
        "id": st.integers() | st.text(max_size=140) | json_values,
        "method": st.text(max_size=30) | json_values,
        "params": json_values,
        "result": json_values,
        "error": st.fixed_dictionaries(
            {}, optional={"code": st.integers() | json_values, "message": st.text() | json_values, "data": json_values}
        )
        | json_values,
        "reason": st.text(max_size=30) | json_values,
        "message": st.text(max_size=30) | json_values,
    },
)


@pytest.mark.parametrize("kind", [foreign.MESSAGE, foreign.CLOSE])
@pytest.mark.parametrize("point", ["server, open", "client, open"])
@fuzz
@given(
    value=rpc_objects | json_values,
    ascii_only=st.booleans(),
    change=st.none() | st.tuples(st.integers(0), st.binary(max_size=3)),
)
def test_json_that_is_almost_right(
    points: dict, point: str, kind: int, value: object, change: tuple | None, *, ascii_only: bool
) -> None:
    connection, peer = map(fork, points[point])
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if change is not None:
        at, spoilt = change[0] % (len(text) + 1), change[1]
        text = text[:at] + spoilt + text[at + len(spoilt) :]
    survives(connection, peer._seal(kind, text + b" " * (-len(text) % 64 or 64)))


# AUTH and certificates


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("point", ["server, before AUTH", "client, before AUTH"])
@fuzz
@given(
    entries=st.lists(
        st.tuples(st.integers(-2, 2), st.none() | st.tuples(st.integers(0), st.binary(max_size=4))), max_size=3
    ),
    n=st.integers(-3, 3) | st.integers(-1_000, 70_000),
    scheme=st.sampled_from([0, 0x0403, 0x0804, 0xFFFF]),
    signature=st.binary(max_size=80),
    m=st.integers(-3, 3),
    padding=st.sampled_from([b"\0", b"\0", b"\0", b"\1"]),
)
def test_auth_that_is_almost_right(
    points: dict,
    point: str,
    shop: Shop,
    *,
    entries: list,
    n: int,
    scheme: int,
    signature: bytes,
    m: int,
    padding: bytes,
) -> None:
    connection, peer = map(fork, points[point])
    issued = shop.alice if point.startswith("server") else shop.host
    der = issued.certificate.public_bytes(Encoding.DER)
    chain = b""
    for off, change in entries:
        encoded = der
        if change is not None:
            at = change[0] % len(der)
            encoded = der[:at] + change[1] + der[at + len(change[1]) :]
        chain += max(0, len(encoded) + off).to_bytes(3, "big") + encoded
    plaintext = (
        max(0, len(chain) + n).to_bytes(3, "big")
        + chain
        + scheme.to_bytes(2, "big")
        + max(0, len(signature) + m).to_bytes(2, "big")
        + signature
    )
    plaintext += padding * (-len(plaintext) % 1_024)
    assert not survives(connection, peer._seal(foreign.AUTH, plaintext))


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0x80, 0xFF, None], ids=lambda value: f"{value}")
@pytest.mark.parametrize("role", ["client", "server"])
def test_a_certificate_with_any_byte_changed_is_refused_in_words_of_the_protocol(
    shop: Shop, role: str, value: int | None
) -> None:
    """Each check alone, as if those before it had passed: a stranger can sign what he likes with a key of his own."""
    issued = shop.alice if role == "client" else shop.host
    der = issued.certificate.public_bytes(Encoding.DER)
    trust, now = shop.authority.trust(), shop.authority.now
    content = b"content"
    scheme, signature = foreign.sign(issued.key, content)
    for at in range(len(der)):
        changed = bytearray(der)
        changed[at] = changed[at] ^ 0x20 if value is None else value
        if changed == der:
            continue
        chain = len(der).to_bytes(3, "big") + bytes(changed)
        try:
            auth = decode_auth(foreign.encode_auth(chain, scheme, signature))
        except RemoteProtocolError:
            continue
        leaf = auth.certificates[0]
        for check in (
            lambda auth=auth: verify_signature(auth, content),
            lambda auth=auth: trust.verify_client(auth.certificates, now),
            lambda auth=auth: trust.verify_server(auth.certificates, "localhost", now),
            lambda leaf=leaf: account_identity(leaf, "shop.test"),
            lambda leaf=leaf: trust.standing(leaf, now),
        ):
            try:
                check()
            except RemoteProtocolError as error:
                assert error.reason in REASONS  # noqa: PT017 -- most of the changes end here
