"""How connections end: CLOSE from either side and both, half-closes, truncation, broken protocol."""

import socket

import pytest
from transport.driver import Client, read_to_end, reset
from transport.stage import Log, Stage

from securedelivery.protocol.connection import CloseReceived
from securedelivery.protocol.jsonrpc import Response


@pytest.fixture
def client(stage: Stage) -> Client:
    stage.serve()
    return stage.connect()


def test_a_clients_close_is_answered_with_bye_and_close_notify(client: Client, log: Log) -> None:
    client.say_bye()
    assert client.rest() == ([CloseReceived("bye", "")], "close_notify")
    log.wait_for("= closed", reason="bye", account="spiffe://shop.test/account/alice")


def test_a_reason_of_the_clients_is_logged(client: Client, log: Log) -> None:
    client.transmit(client.core.send_close("internal", "my disk is full"))
    assert client.close_reason() == "bye"
    log.wait_for("< CLOSE", reason="internal", message="my disk is full")


def test_what_came_before_a_close_is_answered_before_the_bye(client: Client, stage: Stage) -> None:
    client.transmit(client.request(1, "write.wait"), client.request(2, "read.ping"), client.request(3, "inline.ping"))
    client.say_bye()
    stage.application.wait_begun("write.wait")
    stage.wait_idle()
    stage.application.commit()
    assert client.answers(3) == [1, 2, 3]
    assert client.close_reason() == "bye"


def test_what_comes_behind_a_close_is_not_executed(client: Client, stage: Stage) -> None:
    close = client.core.send_close("bye")
    client.core._close_sent = False
    client.transmit(close, client.request(1, "write.ping"))
    assert client.close_reason() == "bye"
    assert stage.application.effects == []


@pytest.mark.parametrize("behind", ["close_notify", "fin", "close_notify and fin"])
def test_a_half_close_behind_the_close_loses_no_answer(client: Client, stage: Stage, behind: str) -> None:
    client.transmit(client.request(1, "write.wait"), client.core.send_close("bye"))
    if "close_notify" in behind:
        client.channel.close()
        client.sock.sendall(client.channel.take_raw())
    if "fin" in behind:
        client.sock.shutdown(socket.SHUT_WR)
    stage.application.wait_begun("write.wait")
    stage.wait_idle()
    stage.application.commit()
    assert client.answers(1) == [1]
    assert client.close_reason() == "bye"


def test_a_half_close_while_the_server_reads_no_further_loses_no_answer(client: Client, stage: Stage) -> None:
    client.transmit(*(client.request(number, "write.wait") for number in range(33)))
    client.say_bye()
    client.sock.shutdown(socket.SHUT_WR)
    stage.application.wait_begun(*["write.wait"] * 32)
    stage.wait_idle()
    for _ in range(33):
        stage.application.commit()
    assert client.answers(33) == list(range(33))
    assert client.close_reason() == "bye"


def test_both_sides_close_at_once(client: Client, stage: Stage, log: Log) -> None:
    for peer in stage.peers():
        stage.post(peer.end, "session_expired")
    log.wait_for("= closed", reason="session_expired")
    client.say_bye()
    assert client.close_reason() == "session_expired"
    client.sock.shutdown(socket.SHUT_WR)
    stage.wait_gone()


def test_behind_the_servers_close_nothing_is_executed(client: Client, stage: Stage, log: Log) -> None:
    for peer in stage.peers():
        stage.post(peer.end, "session_expired")
    log.wait_for("= closed", reason="session_expired")
    client.transmit(client.request(1, "write.ping"))
    assert client.close_reason() == "session_expired"
    assert stage.application.effects == []


def test_while_an_end_waits_for_a_running_call_nothing_new_is_executed(client: Client, stage: Stage) -> None:
    client.transmit(client.request(1, "write.wait"))
    stage.application.wait_begun("write.wait")
    (peer,) = stage.peers()
    stage.post(peer.end, "certificate_revoked")
    stage.post(peer.end, "draining")
    stage.wait_idle()
    client.transmit(client.request(2, "write.ping"))
    stage.wait_idle()
    stage.application.commit()
    assert client.answers(1) == [1]
    assert client.close_reason() == "certificate_revoked"  # the first reason stands
    assert stage.application.effects == ["write.wait"]


def test_a_call_that_does_not_end_is_not_waited_for_for_ever(
    client: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securedelivery.transport.peer.ENDING_SECONDS", 0.1)
    client.transmit(client.request(1, "read.wait"), client.request(2, "write.ping"))
    stage.application.wait_begun("read.wait")
    (peer,) = stage.peers()
    stage.post(peer.end, "certificate_revoked")
    assert client.close_reason() == "certificate_revoked"
    stage.application.go()
    stage.wait_idle()
    assert stage.application.effects == ["read.wait"]


def test_a_peer_that_does_not_hang_up_is_left(client: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securedelivery.transport.peer.LINGER_SECONDS", 0.1)
    client.transmit(client.core.send_close("bye"))
    assert client.close_reason() == "bye"
    stage.wait_gone()


@pytest.mark.parametrize("how", ["fin", "close_notify", "rst"])
@pytest.mark.parametrize("running", [False, True])
def test_an_end_without_close_is_a_truncation(
    client: Client, stage: Stage, log: Log, how: str, *, running: bool
) -> None:
    if running:
        client.transmit(client.request(1, "write.wait"), client.request(2, "read.ping"))
        stage.application.wait_begun("write.wait")
        stage.wait_idle()
    if how == "close_notify":
        client.channel.close()
        client.sock.sendall(client.channel.take_raw())
    if how == "rst":
        reset(client.sock)
    else:
        client.sock.shutdown(socket.SHUT_WR)
    log.wait_for("= truncated")
    stage.wait_gone()
    stage.wait_idle()
    if running:
        stage.application.commit()
        stage.wait_idle()
        assert stage.application.effects == ["write.wait"]  # nothing that waited has begun


def test_a_reset_while_the_server_does_not_read_is_noticed(client: Client, stage: Stage, log: Log) -> None:
    client.transmit(*(client.request(number, "write.wait") for number in range(33)))
    stage.application.wait_begun(*["write.wait"] * 32)
    stage.wait_idle()
    reset(client.sock)
    log.wait_for("= truncated", why="reset")
    stage.wait_gone()


def test_a_reset_between_close_and_answer_is_noticed(client: Client, stage: Stage, log: Log) -> None:
    client.transmit(client.request(1, "write.wait"), client.core.send_close("bye"))
    stage.application.wait_begun("write.wait")
    reset(client.sock)
    log.wait_for("= truncated", why="reset")
    stage.wait_gone()


@pytest.mark.parametrize(
    "frame",
    [b"\5\0\0\x50" + bytes(80), b"\1\0\4\xc0" + bytes(1_216), b"\3\1\0\x50" + bytes(80), b"\3\0\0\x50" + bytes(80)],
    ids=["unknown kind", "out of turn", "flags", "does not decrypt"],
)
def test_a_broken_protocol_gets_the_earlier_answers_then_close_then_close_notify(
    client: Client, log: Log, frame: bytes
) -> None:
    client.transmit(client.request(1, "inline.ping"), client.request(2, "inline.ping"), frame, bytes(50_000))
    # A megabyte that is still under way must not turn the end into a reset that loses the last words.
    client.sock.sendall(bytes(1_000_000))
    events, end = client.rest()
    assert end == "close_notify"
    *answers, close = events
    assert [answer.id for answer in answers if isinstance(answer, Response)] == [1, 2]
    assert isinstance(close, CloseReceived)
    assert close.reason == "protocol_error"
    log.wait_for("! protocol error")


def test_a_broken_tls_record_is_answered_with_an_alert(client: Client, stage: Stage, log: Log) -> None:
    record = bytearray(client.raw(client.request(1, "write.ping")))
    record[-1] ^= 1
    client.sock.sendall(record)
    _, end = client.rest()
    assert "bad record mac" in end
    assert "bad record mac" in log.wait_for("= truncated")["why"]
    assert stage.application.effects == []


def test_a_bug_in_handling_a_connection_ends_that_one(client: Client, stage: Stage) -> None:
    stage.expected_incidents = 1
    other = stage.connect()
    (peer, _) = stage.peers()
    stage.post(peer.drain, {"seconds": object()})
    assert client.close_reason() == "internal"
    client.sock.close()
    while len(stage.peers()) > 1:  # else the stage's own stop would drain it once more
        stage.wait_idle()
    assert other.is_served()


def test_a_bug_that_also_keeps_the_close_from_going_out_ends_the_connection_all_the_same(
    client: Client, stage: Stage
) -> None:
    stage.expected_incidents = 1
    other = stage.connect()
    (peer, _) = stage.peers()
    peer._core = None
    stage.post(peer.notify, "chat.typing", {})
    assert read_to_end(client.sock) == b""
    assert other.is_served()
