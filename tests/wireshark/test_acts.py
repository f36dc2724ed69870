"""The eight acts: what the receivers say, what is in the shop afterwards, and that nothing is left behind."""

import contextlib
import gc
import logging
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog

from securedelivery.client.calls import Client
from securedelivery.errors import ConfigurationError, LocalProtocolError, Refusal
from securedelivery.model import Order
from securedelivery.protocol.frames import HEADER_LENGTH
from securedelivery.protocol.jsonrpc import Response, decode_for_client
from securedelivery.protocol.noise import CipherState
from securedelivery.service.passwords import Passwords
from securedelivery.wireshark import acts, attacks
from securedelivery.wireshark.acts import Performance, play
from securedelivery.wireshark.opened import open_play
from securedelivery.wireshark.play import Play
from securedelivery.wireshark.stage import ADDRESSES, Stage

BROKEN = "the server says that the protocol was broken"
UNDECRYPTED = "error='frame {} does not decrypt: it was altered, lost, repeated or reordered' reason=protocol_error"
UNSIGNED = "the signature over the handshake does not verify"
TRUNCATED = "why='the connection ended without CLOSE'"
EXPECTED = [
    (4, "alice", "shop", "alice", "alert bad record mac"),
    (4, "alice", "shop", "shop", "= truncated account="),  # why, each OpenSSL says in its own words
    (4, "alice", "gateway", "alice", BROKEN),
    (4, "gateway", "shop", "shop", UNDECRYPTED.format(2)),
    (5, "alice", "gateway", "alice", BROKEN),
    (5, "gateway", "shop", "shop", UNDECRYPTED.format(3)),
    (5, "alice", "gateway", "alice", BROKEN),
    (5, "gateway", "shop", "shop", UNDECRYPTED.format(2)),
    (5, "alice", "gateway", "alice", "the connection to localhost:"),
    (5, "gateway", "shop", "shop", TRUNCATED),
    (6, "alice", "gateway", "alice", UNSIGNED),
    (6, "gateway", "shop", "shop", "why='the client sent CLOSE protocol_error"),
    (6, "gateway", "shop", "shop", "CLOSE protocol_error"),
    (6, "gateway", "shop", "shop", f"reason=protocol_error remote=127.0.0.1 why='{UNSIGNED}"),
    (7, "mallory", "shop", "mallory", "the certificate has been revoked"),
    (7, "mallory", "shop", "shop", "why='certificate verify failed: certificate revoked'"),
    (7, "mallory", "shop", "shop", "CLOSE protocol_error"),
    (7, "mallory", "shop", "shop", f"reason=protocol_error remote=127.0.0.1 why='{UNSIGNED}"),
    (7, "bob", "shop", "shop", "forbidden: this connection's certificate is for bob alone"),
]
"""act, client and server of the leg, who says it, and what is in what they say."""


@pytest.fixture(scope="module")
def played() -> Play:
    return play()


@pytest.fixture
def performance() -> Iterator[Performance]:
    """On which Alice has an account and no order."""
    with Stage() as stage:
        performance = Performance(stage)
        with Client(stage.profile("alice", stage.port)) as alice:
            alice.create_account("alice", address="5 Harbour Lane, Bristol")
        yield performance


def _orders(performance: Performance) -> list[Order]:
    with Client(performance.stage.profile("sam", performance.stage.port)) as sam:
        sam.login_certificate()
        return list(sam.all_orders())


def _said(performance: Performance) -> list[str]:
    return [verdict.said for verdict in performance.verdicts]


# The whole


def test_those_concerned_refuse_in_their_own_words_and_nothing_else_is_refused(played: Play) -> None:
    assert len(played.verdicts) == len(EXPECTED)
    for verdict, (act, client, server, who, words) in zip(played.verdicts, EXPECTED, strict=True):
        leg = played.legs[verdict.leg]
        assert (verdict.act, leg.act, leg.client, leg.server, verdict.who) == (act, act, client, server, who)
        assert words in verdict.said


def test_legs_are_the_recorded_connections_in_their_order(played: Play) -> None:
    assert [leg.number for leg in played.legs] == list(range(20))
    assert sorted({leg.act for leg in played.legs}) == [1, 4, 5, 6, 7, 8]
    for leg in played.legs:
        opening = next(packet for packet in played.packets if packet.flow == leg.number)
        ends = [".".join(map(str, opening.data[start : start + 4])) for start in (26, 30)]
        assert ends == [ADDRESSES[leg.client], ADDRESSES[leg.server]]
        assert leg.says.endswith(".")


def test_acts_are_ranges_of_packets_that_do_not_overlap(played: Play) -> None:
    acts_of_packets = [played.legs[packet.flow].act for packet in played.packets]
    assert acts_of_packets == sorted(acts_of_packets)
    assert [packet.at for packet in played.packets] == sorted({packet.at for packet in played.packets})


def test_every_connection_is_closed_on_both_sides(played: Play) -> None:
    for leg in played.legs:
        flags = {(packet.from_client, packet.data[47] & 1) for packet in played.packets if packet.flow == leg.number}
        assert {(True, 1), (False, 1)} <= flags


def test_no_two_connections_have_the_same_ports(played: Play) -> None:
    openings = [packet.data[26:38] for packet in played.packets if packet.data[47] == 2]
    assert len(openings) == len(set(openings)) == len(played.legs)


def test_both_logs_have_the_keys_of_every_connection(played: Play) -> None:
    randoms = {line.split()[1] for line in played.tls_keys.splitlines()}
    assert len(randoms) == len(played.legs)
    for leg in played.legs:
        hello = next(packet.payload for packet in played.packets if packet.flow == leg.number and packet.payload)
        assert hello[11:43].hex() in randoms
    lines = played.frame_keys.splitlines()
    # One has no inner handshake, and the four gateways that end TLS alone pass one on.
    assert len(lines) == 2 * (len(played.legs) - 1 - 4)
    assert len({line.split()[1] for line in lines}) == len(lines) // 2


def test_tamperings_name_the_packets_that_carry_them(played: Play) -> None:
    assert [played.legs[one.leg].act for one in played.tamperings] == [4, 4, 5, 5, 5]
    for one in played.tamperings:
        assert one.packets
        assert {played.packets[number - 1].flow for number in one.packets} == {one.leg}
        assert all(played.packets[number - 1].payload for number in one.packets)
    outside = played.tamperings[0]
    assert played.packets[outside.packets[0] - 1].payload == outside.after


def test_the_same_bit_is_flipped_outside_and_inside(played: Play) -> None:
    outside, inside, *rest = played.tamperings
    assert outside.bit is not None
    assert inside.bit is not None
    assert outside.bit == inside.bit + 5 * 8  # behind the header of the TLS record
    for one in (outside, inside):
        assert one.bit is not None
        byte, mask = one.bit // 8, 0x80 >> one.bit % 8
        assert len(one.before) == len(one.after)
        assert [
            (place, before ^ after)
            for place, (before, after) in enumerate(zip(one.before, one.after, strict=True))
            if before != after
        ] == [(byte, mask)]
    assert outside.after[:3] == b"\x17\x03\x03"
    assert 5 + int.from_bytes(outside.after[3:5]) == len(outside.after)
    assert all(one.bit is None for one in rest)


def test_without_the_tag_the_shop_would_have_read_another_quantity(played: Play) -> None:
    inside = played.tamperings[1]
    assert b'"quantity":9' in inside.unchecked
    assert inside.unchecked.replace(b'"quantity":9', b'"quantity":1') == _plaintext(played, inside.before)
    assert [one.unchecked for one in played.tamperings if one is not inside] == [b""] * 4


def _plaintext(played: Play, frame: bytes) -> bytes:
    """With whichever of the logged keys opens it as the third frame of its direction."""
    for line in played.frame_keys.splitlines():
        cipher = CipherState(bytes.fromhex(line.split()[2]))
        cipher.n = 2
        with contextlib.suppress(Exception):
            return cipher.decrypt_with_ad(frame[:HEADER_LENGTH], frame[HEADER_LENGTH:]).rstrip(b" ")
    raise AssertionError("no key opens it")


def test_what_was_repeated_swapped_and_held_back(played: Play) -> None:
    replay, reorder, cut = played.tamperings[2:]
    assert replay.before == replay.after
    assert b'"order.place"' in _plaintext(played, replay.before)
    assert reorder.before != reorder.after
    split = HEADER_LENGTH + int.from_bytes(reorder.before[2:4])
    assert reorder.after == reorder.before[split:] + reorder.before[:split]
    assert cut.after == b""
    answer = decode_for_client(_answer(played, cut.before))
    assert isinstance(answer, Response)
    assert msgspec.json.decode(answer.result, type=Order).account == "alice"


def _answer(played: Play, frame: bytes) -> bytes:
    for line in played.frame_keys.splitlines():
        cipher = CipherState(bytes.fromhex(line.split()[2]))
        cipher.n = 3  # behind AUTH, welcome and the answer to the login
        with contextlib.suppress(Exception):
            return cipher.decrypt_with_ad(frame[:HEADER_LENGTH], frame[HEADER_LENGTH:])
    raise AssertionError("no key opens it")


def test_the_gateway_read_the_credulous_clients_order(played: Play) -> None:
    (reading,) = played.readings
    assert (reading.act, played.legs[reading.leg].server, reading.who) == (6, "gateway", "gateway")
    order = msgspec.json.decode(reading.plaintext)
    assert (order["method"], order["params"]["lines"]) == ("order.place", [{"sku": acts.SKU, "quantity": 1}])


def test_a_quantum_computer_reads_the_classical_frame_alone(played: Play) -> None:
    found = played.harvest
    assert played.legs[found.leg].act == 8
    assert len(found.kem_ciphertext) == 1_088
    assert len(found.private_key) == 32
    order = msgspec.json.decode(found.classical_plaintext)
    assert (order["method"], order["params"]["lines"]) == ("order.place", [{"sku": acts.SKU, "quantity": 1}])
    assert found.classical_plaintext not in found.classical_frame
    legs = open_play(played.packets, played.tls_keys, played.frame_keys)
    assert legs[found.leg].tls_group == "x25519", "whatever the other acts agree on"


def test_acts_1_to_3_are_a_whole_errand(played: Play) -> None:
    """Its messages are looked at by the tests of the captures, with the keys in the files."""
    assert [(leg.client, leg.server) for leg in played.legs if leg.act == 1] == [("alice", "shop"), ("sam", "shop")]
    assert not [verdict for verdict in played.verdicts if verdict.act < 4]


def test_the_shop_has_the_orders_that_it_was_right_to_take() -> None:
    with Stage() as stage:
        performance = Performance(stage)
        for act in acts.ACTS:
            act(performance)
        orders = _orders(performance)
    # Of the first acts, the replayed, the cut and the harvested one.
    assert [[(line.sku, line.quantity) for line in order.lines] for order in orders] == [[(acts.SKU, 1)]] * 4


# One by one, with a look into the shop


def test_flipped_bits_leave_no_order(performance: Performance) -> None:
    acts.flipped_outside(performance)
    acts.flipped_inside(performance)
    assert _orders(performance) == []


def test_a_replay_does_not_double(performance: Performance) -> None:
    acts.replay(performance)
    assert [order.lines[0].quantity for order in _orders(performance)] == [1]


def test_swapped_requests_are_not_executed(performance: Performance) -> None:
    acts.reorder(performance)
    assert _orders(performance) == []


def test_the_cut_order_is_there_once_after_the_retry(performance: Performance) -> None:
    acts.cut(performance)
    (order,) = _orders(performance)
    played = Play(
        tuple(performance.stage.recording.packets),
        (),
        (),
        (),
        (),
        None,  # type: ignore[arg-type]
        "",
        performance.stage.frame_keys(),
        0.0,
    )
    answer = decode_for_client(_answer(played, performance.tamperings[0].before))
    assert isinstance(answer, Response)
    assert msgspec.json.decode(answer.result, type=Order).order == order.order


def test_nothing_gets_past_a_gateway_in_the_middle(performance: Performance) -> None:
    acts.impostor(performance)
    acts.credulous(performance)
    assert b"order.place" in performance.readings[0].plaintext
    assert _orders(performance) == []


def test_those_who_pose_as_others_get_nothing(performance: Performance, monkeypatch: pytest.MonkeyPatch) -> None:
    """And cost nothing: a password that is not looked at is not hashed."""
    monkeypatch.setattr(Passwords, "verify", lambda *_: pytest.fail("Argon2 was at work"))
    acts.revoked(performance)
    acts.borrowed(performance)
    acts.another_login(performance)
    assert _orders(performance) == []
    recording = performance.stage.recording
    (leg,) = (one for one in performance.legs if one.client == "bob")
    (opened,) = (
        one
        for one in open_play(recording.packets, performance.stage.tls_keys(), performance.stage.frame_keys())
        if one.number == leg.number
    )
    (asked,) = (one.content for one in opened.frames if one.message and one.message.what == "request")
    request = msgspec.json.decode(asked)
    assert (request["method"], request["params"]["username"]) == ("account.login", "alice")


def test_the_harvested_order_was_a_real_one(performance: Performance) -> None:
    acts.harvested(performance)
    assert len(_orders(performance)) == 1


def test_a_policy_that_forbids_x25519_is_told(performance: Performance) -> None:
    """Everybody else agrees on what it allows; the client of act 8 has nothing else to offer."""
    performance.stage.running._watcher._security.context.set_ecdh_curve("prime256v1")
    with Client(performance.stage.profile("alice", performance.stage.port)) as alice:
        alice.login_certificate()
    with pytest.raises(ConfigurationError, match="X25519, which act 8 needs") as caught:
        acts.harvested(performance)
    assert caught.value.key == "OPENSSL_CONF"
    assert "Groups in openssl.cnf" in caught.value.hint
    assert performance.harvest is None


def test_the_order_of_the_first_acts(performance: Performance) -> None:
    with Stage() as stage:
        other = Performance(stage)
        acts.business(other)
        (order,) = _orders(other)
    assert (order.account, order.address) == ("alice", acts.ADDRESS)
    assert [(line.sku, line.quantity) for line in order.lines] == [(acts.SKU, 1)]


# What is left behind


class _Sink:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, _logger: object, _level: str, event: dict[str, object]) -> dict[str, object]:
        self.lines.append(str(event))
        raise structlog.DropEvent


def _process() -> tuple[object, ...]:
    """What a play could change of the process."""
    root = logging.getLogger()
    collector = (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count())
    log = (root.level, list(root.handlers), list(warnings.filters))
    return set(threading.enumerate()), dict(os.environ), Path.cwd(), collector, log, signal.getsignal(signal.SIGINT)


@pytest.mark.parametrize("configured", [False, True])
def test_nothing_is_left_of_two_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *, configured: bool
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    sink = _Sink()
    with contextlib.ExitStack() as stack:
        if structlog.is_configured():
            stack.callback(structlog.configure, **structlog.get_config())
        else:
            stack.callback(structlog.reset_defaults)
        structlog.reset_defaults()
        if configured:
            structlog.configure(processors=[sink], cache_logger_on_first_use=False)
        former, was_configured = structlog.get_config(), structlog.is_configured()
        before = _process()
        first = play()  # with it libraries open what they keep for the life of a process
        gc.collect()
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        second = play()
        assert structlog.get_config() == former
        assert structlog.is_configured() == was_configured
        structlog.get_logger("another").warning("still heard")
    assert len(sink.lines) == configured  # the one above
    assert _process() == before
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "elsewhere").iterdir()) == []
    out, err = capfd.readouterr()
    assert err == ""
    assert configured or "still heard" in out
    assert len(out.splitlines()) == (not configured)
    assert [verdict.who for verdict in first.verdicts] == [verdict.who for verdict in second.verdicts]
    assert not set(first.frame_keys.splitlines()) & set(second.frame_keys.splitlines())


def test_a_temporary_folder_behind_a_symbolic_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    with Stage() as stage:
        performance = Performance(stage)
        acts.business(performance)
        assert stage.frame_keys()
    assert list((tmp_path / "real").iterdir()) == []


# When it goes wrong


def _finished(performance: Performance) -> Play:
    acts.harvested(performance)
    return performance.finished(1.0)


def test_keys_that_could_not_be_written_are_told(performance: Performance) -> None:
    performance.stage.complaints.append("tls-keys.log: No space left on device")
    with pytest.raises(ConfigurationError, match="No space left") as caught:
        _finished(performance)
    assert "TMPDIR" in caught.value.hint


def test_a_connection_that_belongs_to_no_act(performance: Performance) -> None:
    _finished(performance)
    with performance.stage.relay("bob") as relay:
        with Client(performance.stage.profile("bob", relay.address[1])) as bob:
            bob.catalog("graphics")
        performance.stage.recording.wait_ended(len(performance.legs))
    with pytest.raises(LocalProtocolError, match="other connections"):
        performance.finished(1.0)


def test_a_refusal_that_nobody_expected(performance: Performance) -> None:
    leg = performance.leg(7, "mallory", "shop", "She comes.")
    with performance.stage.relay("mallory") as relay:
        acts._failure(lambda: performance.stage.connect("mallory, revoked", relay.address[1]))
        with pytest.raises(LocalProtocolError, match="certificate revoked"):
            performance.over(leg)


def test_a_bob_who_is_taken_for_alice(performance: Performance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "login", lambda *_: None)
    with pytest.raises(LocalProtocolError, match="Bob is Alice"):
        acts.another_login(performance)


def test_no_answer_from_sam(performance: Performance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "PATIENCE_SECONDS", 0.05)
    with (
        Client(performance.stage.profile("alice", performance.stage.port)) as alice,
        pytest.raises(LocalProtocolError, match="no answer"),
    ):
        acts._wait_for_answer(alice)


def test_a_customer_who_cannot_log_in(performance: Performance, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed all the same: the fixture waits for it when it stops the shop."""
    monkeypatch.setattr(
        performance.stage, "people", performance.stage.people | {"alice": performance.stage.people["bob"]}
    )
    with pytest.raises(Refusal):
        acts._logged_in(performance.stage, performance.stage.port)
    assert "securedelivery-reader" not in {thread.name for thread in threading.enumerate()}


def test_what_had_to_be_refused_and_was_not() -> None:
    with pytest.raises(LocalProtocolError, match="had to be refused"):
        acts._failure(lambda: None)


@pytest.mark.parametrize("act", [acts.replay, acts.reorder])
def test_an_attack_that_does_not_come(performance: Performance, monkeypatch: pytest.MonkeyPatch, act: object) -> None:
    monkeypatch.setattr(acts, "PATIENCE_SECONDS", 0.3)
    for attack in (attacks.Replay, attacks.Swap):
        for name in ("order", "answer"):
            monkeypatch.setattr(attack, name, getattr(attacks.Attack, name))
    assert callable(act)
    with pytest.raises(LocalProtocolError, match="went wrong"):
        act(performance)
