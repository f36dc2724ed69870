"""A stop: everyone is told, what is under way is answered, and nothing is left behind."""

import threading
import time
from pathlib import Path

import pytest
from transport.driver import read_to_end
from transport.stage import Log, Stage

from securedelivery.protocol.connection import CloseReceived
from securedelivery.protocol.jsonrpc import Request, Response


def stop_beside(stage: Stage) -> threading.Thread:
    thread = threading.Thread(target=stage.stop, name="stopper")
    thread.start()
    return thread


def open_files() -> list[int]:
    listed = Path("/proc/self/fd")
    return sorted(int(entry.name) for entry in list(listed.iterdir()) if entry.is_symlink())


def test_everyone_is_told_and_what_runs_and_waits_is_answered(stage: Stage) -> None:
    stage.serve()
    client, quiet = stage.connect(), stage.connect()
    client.transmit(client.request(1, "write.wait"), client.request(2, "read.ping"), client.request(3, "inline.ping"))
    stage.application.wait_begun("write.wait")
    stage.wait_idle()
    stopper = stop_beside(stage)
    events, end = quiet.rest()
    assert end == "close_notify"
    draining, close = events
    assert isinstance(draining, Request)
    assert (draining.method, bytes(draining.params)) == ("system.draining", b'{"seconds":5}')
    assert isinstance(close, CloseReceived)
    assert close.reason == "draining"
    with pytest.raises(ConnectionRefusedError):
        stage.dial()
    assert client.notified() == "system.draining"
    stage.application.commit()
    events, end = client.rest()
    *answers, close = events
    assert [answer.id for answer in answers if isinstance(answer, Response)] == [1, 2, 3]
    assert isinstance(close, CloseReceived)
    assert (close.reason, end) == ("draining", "close_notify")
    client.hang_up()
    quiet.hang_up()
    stopper.join(10)
    assert not stopper.is_alive()


def test_those_who_shake_hands_are_closed_too(stage: Stage, log: Log) -> None:
    stage.serve()
    silent, with_keys = stage.dial(), stage.client()
    with_keys.tls()
    with_keys.hello()
    with_keys.listen()
    stage.wait_idle()
    stopper = stop_beside(stage)
    assert with_keys.close_reason() == "draining"
    with_keys.hang_up()
    assert read_to_end(silent) == b""
    silent.close()
    stopper.join(10)
    log.wait_for("! refused", count=2, reason="draining")


def test_a_stop_ends_in_ten_seconds_whatever_calls_and_peers_do(stage: Stage, log: Log) -> None:
    stage.serve(workers=1)
    stage.dial()
    stuck, deaf, waiting = stage.connect(), stage.connect(receive_buffer=4_096), stage.connect()
    stuck.transmit(stuck.request(1, "read.wait"))
    stage.application.wait_begun("read.wait")
    waiting.transmit(waiting.request(1, "read.ping"))
    deaf.transmit(*(deaf.request(number, "inline.big", size=60_000) for number in range(200)))
    stage.wait_idle()
    began = time.monotonic()
    stage.stop()
    assert time.monotonic() - began < 10
    assert log.wait_for("! left behind, still busy")["threads"] == ["worker-0"]
    assert stuck.notified() == "system.draining"
    assert stuck.close_reason() == "draining"
    assert stage.application.effects.count("read.ping") == 0
    stage.application.go()
    assert not stage.server._call_workers.join(10)


def test_nothing_is_left_of_a_server(stage: Stage) -> None:
    files, threads = open_files(), threading.active_count()
    stage.serve(io_threads=2)
    clients = [stage.connect() for _ in range(4)]
    silent = stage.dial()
    assert all(client.is_served() for client in clients)
    clients[0].say_bye()
    clients[0].rest()
    for client in clients:
        client.hang_up()
    silent.close()
    stage.stop()
    assert open_files() == files
    assert threading.active_count() == threads


def test_a_notification_after_the_end_goes_nowhere(stage: Stage) -> None:
    server = stage.serve()
    client = stage.connect()
    client.call("session.login", account=1)
    (peer,) = stage.peers()
    (io,) = server._io_threads
    client.hang_up()
    stage.stop()
    io.post(peer.notify, "chat.typing", {})
    server.notify([1], "chat.typing", {})
