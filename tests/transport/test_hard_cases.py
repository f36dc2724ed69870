"""What sockets, OpenSSL and our own bugs do once in a while, made to happen."""

import pytest
from transport.driver import Ended, read_to_end, reset
from transport.stage import Log, Stage

from securedelivery.transport.channel import Channel, TlsFailure
from securedelivery.transport.peer import Peer


class Reluctant:
    """Stands in for a connection's socket and refuses once."""

    def __init__(self, peer: Peer, method: str, error: OSError) -> None:
        self._sock = peer._sock
        self._errors = {method: [error]}
        peer._sock = self

    def recv(self, count: int) -> bytes:
        for error in self._errors.pop("recv", ()):
            raise error
        return self._sock.recv(count)

    def send(self, data: bytes) -> int:
        for error in self._errors.pop("send", ()):
            raise error
        return self._sock.send(data)

    def shutdown(self, how: int) -> None:
        for error in self._errors.pop("shutdown", ()):
            raise error
        self._sock.shutdown(how)

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)


@pytest.mark.parametrize("method", ["recv", "send"])
def test_a_socket_that_is_not_ready_after_all(stage: Stage, method: str) -> None:
    stage.serve()
    client = stage.connect()
    Reluctant(stage.peers()[0], method, BlockingIOError())
    assert client.is_served()
    stage.wait_idle()


@pytest.mark.parametrize("method", ["recv", "send"])
def test_a_reset_that_is_noticed_in_a_call(stage: Stage, log: Log, method: str) -> None:
    stage.serve()
    client = stage.connect()
    Reluctant(stage.peers()[0], method, ConnectionResetError())
    with pytest.raises(Ended):
        client.is_served()
    log.wait_for("= truncated", why="reset")


def test_a_peer_that_is_gone_before_the_half_close(stage: Stage) -> None:
    stage.serve()
    client = stage.connect()
    Reluctant(stage.peers()[0], "shutdown", OSError())
    client.say_bye()
    assert client.close_reason() == "bye"
    stage.wait_gone()


@pytest.mark.parametrize("error", [BlockingIOError(), ConnectionResetError()])
def test_a_handshake_whose_answer_the_socket_does_not_take(stage: Stage, log: Log, error: OSError) -> None:
    stage.serve(handshake_seconds=0.3)
    client = stage.client()
    while not stage.peers():
        stage.wait_idle()
    Reluctant(stage.peers()[0], "send", error)
    assert not client.channel.handshake()
    client.sock.sendall(client.channel.take_raw())
    read_to_end(client.sock)
    log.wait_for("! refused")


def test_tls_that_fails_while_writing_ends_the_connection(
    stage: Stage, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.serve()
    client, other = stage.connect(), stage.connect()
    record = client.raw(client.request(1, "inline.ping"))
    with monkeypatch.context() as patch:
        patch.setattr(Channel, "write", fail)
        client.sock.sendall(record)
        log.wait_for("= truncated", why="as the test wants it")
    assert other.is_served()


def fail(channel: Channel, plaintext: bytes) -> None:
    raise TlsFailure("as the test wants it")


def test_a_channel_that_has_not_shaken_hands_writes_nothing(stage: Stage) -> None:
    with pytest.raises(TlsFailure):
        Channel(stage.load().context).write(b"too early")


@pytest.mark.parametrize("layer", ["tls", "inner"])
def test_a_bug_during_the_handshake_costs_one_connection(stage: Stage, layer: str) -> None:
    stage.serve()
    client = stage.client()
    if layer == "tls":
        assert not client.channel.handshake()
        client.sock.sendall(client.channel.take_raw())
    else:
        client.tls()
        client.hello()
    stage.wait_idle()
    (peer,) = stage.peers()
    stage.post(peer.collapse)
    read_to_end(client.sock)
    assert stage.connect().is_served()


def test_a_call_for_a_connection_that_has_moved_to_another_thread_follows_it(stage: Stage) -> None:
    server = stage.serve()
    client = stage.connect()
    (peer,) = stage.peers()
    server._handshake_threads[0].post(peer.end, "idle")
    assert client.close_reason() == "idle"


def test_a_bug_after_the_end_changes_nothing(stage: Stage, log: Log) -> None:
    server = stage.serve()
    client, other = stage.connect(), stage.connect()
    peer = stage.peers()[0]
    reset(client.sock)
    log.wait_for("= truncated")
    server._io_threads[0].post(peer.collapse)
    server._io_threads[0].post(peer.end, "idle")
    server._io_threads[0].post(peer.flush)
    stage.wait_idle()
    assert other.is_served()


def test_a_full_queue_of_calls_is_told_as_unavailable(stage: Stage, log: Log) -> None:
    stage.serve(connections=1, workers=1)
    for number, (method, begins) in enumerate([("read.wait", True), ("read.ping", False)], 1):
        client = stage.connect()
        client.transmit(client.request(1, method))
        if begins:
            stage.application.wait_begun(method)
        stage.wait_idle()
        client.hang_up()
        log.wait_for("= truncated", count=number)
        stage.wait_gone()
    assert stage.connect().error("read.ping") == "unavailable"
