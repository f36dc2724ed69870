"""The byte stream between two sound sides: cut, delayed, flipped, repeated, reordered, reflected, ended."""

import itertools
from dataclasses import dataclass

import pytest
from protocol import foreign
from protocol.pair import Connection, Shop, drain, fork, greet, outcome

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.connection import (
    CloseReceived,
    Event,
    HandshakeReceived,
    PeerAuthenticated,
    State,
    Truncated,
)
from securedelivery.protocol.jsonrpc import Request, Response


@dataclass
class Leg:
    """A receiver and the frames that come next, with the events that they are when nobody interferes."""

    receiver: Connection
    frames: list[bytes]
    events: list[Event]

    def play(self, *pieces: bytes) -> list[Event | str]:
        return outcome(fork(self.receiver), *pieces)


@pytest.fixture(scope="module")
def legs(shop: Shop) -> dict[str, Leg]:
    """The legs of one whole conversation."""
    client, server = shop.client(), shop.server()
    legs = {}

    def leg(name: str, receiver: Connection, *frames: bytes) -> None:
        before = fork(receiver)
        receiver.receive_data(b"".join(frames))
        legs[name] = Leg(before, list(frames), drain(receiver))

    leg("client's handshake", server, client.send_handshake())
    flight = [head + body for head, body in foreign.split_frames(server.send_handshake())]
    leg("server's flight", client, *flight)
    leg(
        "client's auth and requests",
        server,
        client.send_auth(),
        *(client.send_request(number, "m", {"text": "x" * 40 * number}) for number in range(3)),
        client.send_close("bye"),
    )
    leg(
        "server's answers",
        client,
        server.send_notification("system.welcome", {"session": server.session.hex()}),
        *(server.send_result(number, {"text": "x" * 40 * number}) for number in range(3)),
        server.send_close("bye", "until tomorrow"),
    )
    kinds = {name: [type(event) for event in leg.events] for name, leg in legs.items()}
    assert kinds == {
        "client's handshake": [HandshakeReceived],
        "server's flight": [PeerAuthenticated],
        "client's auth and requests": [PeerAuthenticated, Request, Request, Request, CloseReceived],
        "server's answers": [Request, Response, Response, Response, CloseReceived],
    }
    return legs


every_leg = pytest.mark.parametrize(
    "name", ["client's handshake", "server's flight", "client's auth and requests", "server's answers"]
)
encrypted_legs = pytest.mark.parametrize("name", ["client's auth and requests", "server's answers"])


# Cuts


@every_leg
def test_whole_or_byte_by_byte_the_events_are_the_same(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    stream = b"".join(leg.frames)
    assert leg.play(stream) == leg.events
    assert leg.play(*leg.frames) == leg.events
    assert leg.play(*(bytes([byte]) for byte in stream)) == leg.events


@every_leg
def test_cut_anywhere_the_events_are_the_same(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    stream = b"".join(leg.frames)
    for cut in range(1, len(stream)):
        assert leg.play(stream[:cut], stream[cut:]) == leg.events


@every_leg
def test_cut_twice_around_each_frames_borders_the_events_are_the_same(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    stream = b"".join(leg.frames)
    borders = [0, *itertools.accumulate(map(len, leg.frames))]
    near = sorted({cut for border in borders for cut in range(border - 5, border + 6) if 0 < cut < len(stream)})
    for first, second in itertools.combinations(near, 2):
        assert leg.play(stream[:first], stream[first:second], stream[second:]) == leg.events


@every_leg
def test_events_are_the_same_when_they_are_asked_for_late(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    late = fork(leg.receiver)
    for frame in leg.frames:
        late.receive_data(frame[:3])
        late.receive_data(frame[3:])
    assert drain(late) == leg.events


@every_leg
def test_ended_anywhere_it_is_a_truncation_after_the_whole_frames(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    stream = b"".join(leg.frames)
    whole = list(itertools.accumulate(map(len, leg.frames)))
    silent = len(leg.frames) - len(leg.events)  # the server's HANDSHAKE is no event
    for end in range(len(stream)):
        came = sum(border <= end for border in whole)
        pieces = (stream[:end], b"") if end else (b"",)
        assert leg.play(*pieces) == [*leg.events[: max(0, came - silent)], Truncated()]


# Bits


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def is_refused(events: list[Event | str]) -> bool:
    """An error, or a wait for more that ends with the stream."""
    return events in (["protocol_error"], [Truncated()])


@encrypted_legs
def test_every_flipped_bit_of_every_encrypted_frame_is_refused(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    receiver = fork(leg.receiver)
    for frame, event in zip(leg.frames, leg.events, strict=True):
        for bit in range(8 * len(frame)):
            assert is_refused(outcome(fork(receiver), flipped(frame, bit), b""))
        receiver.receive_data(frame)
        assert drain(receiver) == [event]


def test_every_flipped_bit_of_the_servers_flight_is_refused(legs: dict[str, Leg]) -> None:
    leg = legs["server's flight"]
    handshake, auth = leg.frames
    for bit in range(8 * len(handshake)):
        assert is_refused(leg.play(flipped(handshake, bit) + auth, b""))
    receiver = fork(leg.receiver)
    receiver.receive_data(handshake)
    assert drain(receiver) == []
    for bit in range(8 * len(auth)):
        assert is_refused(outcome(fork(receiver), flipped(auth, bit), b""))


def test_every_flipped_bit_of_the_clients_handshake_is_noticed_by_one_side(shop: Shop) -> None:
    """Nothing authenticates this message by itself: the server may answer, but then the client does not accept that."""
    client, server = shop.client(), shop.server()
    hello = client.send_handshake()
    for bit in range(8 * len(hello)):
        served = fork(server)
        events = outcome(served, flipped(hello, bit), b"")
        if events == [HandshakeReceived()]:
            answer = served._send_handshake()  # without AUTH, which the client does not get to read
            assert outcome(fork(client), answer) == ["protocol_error"]
        else:
            assert is_refused(events)


@pytest.mark.parametrize("bit", [0, 7, 255, 8 * 1_184, 8 * 1_216 - 1])  # e, and the seed in e1
def test_a_flipped_bit_of_the_clients_handshake_ends_both_sides(shop: Shop, bit: int) -> None:
    client, server = shop.client(), shop.server()
    server.receive_data(flipped(client.send_handshake(), 32 + bit))
    assert drain(server) == [HandshakeReceived()]
    client.receive_data(server.send_handshake())
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.next_event()
    assert client.send_close("protocol_error") == b""  # it has no keys
    server.receive_data(b"")
    assert drain(server) == [Truncated()]


# Order


@encrypted_legs
def test_a_repeated_frame_is_refused(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    for at in range(len(leg.frames) - 1):  # after CLOSE nothing is read
        for repeated in leg.frames[: at + 1]:
            again = b"".join([*leg.frames[: at + 1], repeated, *leg.frames[at + 1 :]])
            assert leg.play(again) == [*leg.events[: at + 1], "protocol_error"]


@encrypted_legs
def test_a_lost_frame_is_noticed(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    for lost in range(len(leg.frames) - 1):
        rest = b"".join(leg.frames[:lost] + leg.frames[lost + 1 :])
        assert leg.play(rest) == [*leg.events[:lost], "protocol_error"]


@encrypted_legs
def test_any_other_order_is_refused_at_its_first_frame_out_of_place(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    for order in itertools.permutations(range(len(leg.frames))):
        in_place = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], enumerate(order)))
        expected = leg.events if in_place == len(order) else [*leg.events[:in_place], "protocol_error"]
        assert leg.play(b"".join(leg.frames[at] for at in order)) == expected


@every_leg
def test_an_injected_frame_is_refused(legs: dict[str, Leg], name: str) -> None:
    leg = legs[name]
    for other in legs.values():
        for frame in other.frames:
            if frame != leg.frames[0]:
                assert leg.play(frame) in (["protocol_error"], [])
                assert leg.play(frame, b"") in (["protocol_error"], [Truncated()])


def test_a_conversation_cannot_be_played_again(legs: dict[str, Leg], shop: Shop) -> None:
    server = shop.server()
    server.receive_data(b"".join(legs["client's handshake"].frames))
    assert drain(server) == [HandshakeReceived()]
    server.send_handshake()
    assert outcome(server, *legs["client's auth and requests"].frames) == ["protocol_error"]

    client = shop.client()
    client.send_handshake()
    assert outcome(client, *legs["server's flight"].frames) == ["protocol_error"]


def test_one_who_sits_between_cannot_join_two_connections(shop: Shop) -> None:
    one, other = shop.client(), shop.client()
    server = shop.server()
    other.send_handshake()
    flight = greet(one, server)
    assert outcome(other, flight) == ["protocol_error"]
    assert outcome(one, flight) == [PeerAuthenticated(None, shop.host.certificate)]
    assert one.state is State.OWE_AUTH
