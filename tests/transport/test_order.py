"""Requests take effect in the order sent, and each is answered to its own id (docs/protocol.md, section 5)."""

import pytest
from transport.stage import Stage

from securedelivery.errors import Reason, Refusal
from securedelivery.protocol.connection import CloseReceived
from securedelivery.protocol.jsonrpc import ErrorResponse, Request


@pytest.fixture(autouse=True)
def serving(stage: Stage) -> None:
    stage.serve()


def test_writes_are_under_way_together_and_answered_each_to_its_own_id(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(*(client.request(number, "write.wait") for number in range(3)))
    stage.application.wait_begun("write.wait", "write.wait", "write.wait")
    for number in range(3):
        stage.application.commit({"number": number})
    answers = {answer.id: bytes(answer.result) for answer in (client.answer() for _ in range(3))}
    assert answers == {number: b'{"number":%d}' % number for number in range(3)}


def test_a_read_behind_a_write_waits_for_its_commit(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(client.request(1, "write.wait"), client.request(2, "read.who"), client.request(3, "write.ping"))
    stage.application.wait_begun("write.wait")
    stage.wait_idle()
    assert stage.application.effects == ["write.wait"]
    stage.application.commit()
    assert client.answers(3) == [1, 2, 3]
    assert stage.application.effects == ["write.wait", "read.who", "write.ping"]


def test_reads_run_one_at_a_time(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(client.request(1, "read.wait"), client.request(2, "read.wait"))
    stage.application.wait_begun("read.wait")
    stage.wait_idle()
    assert stage.application.effects == ["read.wait"]
    stage.application.go()
    assert client.answers(2) == [1, 2]


def test_a_request_pipelined_behind_a_login_is_made_by_the_one_logged_in(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(
        client.request(1, "session.login", account=7), client.request(2, "read.who"), client.request(3, "inline.who")
    )
    results = [bytes(client.answer().result) for _ in range(3)]
    assert results == [b"{}", b'{"session":7,"identity":"alice"}', b'{"session":7,"identity":"alice"}']


def test_what_is_answered_on_the_spot_waits_its_turn_behind_a_running_call(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(client.request(1, "read.wait"), client.request(2, "inline.ping"))
    stage.application.wait_begun("read.wait")
    stage.wait_idle()
    assert stage.application.effects == ["read.wait"]
    stage.application.go()
    assert client.answers(2) == [1, 2]


@pytest.mark.parametrize("lane", ["inline", "read", "write"])
def test_auth_forty_requests_close_and_close_notify_in_one_segment(stage: Stage, lane: str) -> None:
    client = stage.client()
    client.tls()
    client.hello()
    frames = [client.core.send_auth(), *(client.request(number, f"{lane}.ping") for number in range(40))]
    client.channel.write(b"".join(frames))
    client.channel.write(client.core.send_close("bye"))
    client.channel.close()
    client.sock.sendall(client.channel.take_raw())
    events, end = client.rest()
    assert end == "close_notify"
    welcome, *answers, close = events
    assert isinstance(welcome, Request)
    assert welcome.method == "system.welcome"
    assert [answer.id for answer in answers] == list(range(40))
    assert close == CloseReceived("bye", "")


def test_the_same_id_twice_gets_two_answers(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(client.request("x", "read.ping"), client.request("x", "inline.ping"))
    assert client.answers(2) == ["x", "x"]


def test_a_request_without_id_is_executed_and_not_answered(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(*(client.notification(f"{lane}.ping") for lane in ("inline", "read", "write", "session", "no")))
    assert client.call("inline.ping").id == "call"
    assert stage.application.effects == [
        *(f"{lane}.ping" for lane in ("inline", "read", "write", "session", "no")),
        "inline.ping",
    ]


def test_what_is_no_request_is_answered_with_a_null_id_and_the_connection_goes_on(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(client.core._send_message(b"not JSON"))
    answer = client.answer()
    assert isinstance(answer, ErrorResponse)
    assert (answer.id, answer.error.data) == (None, {"reason": "parse_error"})
    assert client.is_served()


def test_it_is_answered_in_its_turn_because_without_an_id_only_its_place_tells_which_it_was(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(
        client.request(1, "read.wait"), client.core._send_message(b"not JSON"), client.request(3, "inline.ping")
    )
    stage.application.wait_begun("read.wait")
    stage.wait_idle()
    stage.application.go()
    assert client.answers(3) == [1, None, 3]


@pytest.mark.parametrize("method", ["inline.refuse", "read.refuse", "write.refuse", "session.refuse"])
def test_a_refusal_is_answered_with_its_reason(stage: Stage, method: str) -> None:
    assert stage.connect().error(method) == "forbidden"


def test_a_write_that_fails_at_its_commit_is_answered_and_those_behind_it_go_on(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(client.request(1, "write.wait"), client.request(2, "write.wait"), client.request(3, "read.ping"))
    stage.application.commit(Refusal(Reason.UNAVAILABLE, "the disk is full"))
    stage.application.commit()
    failed = client.answer()
    assert isinstance(failed, ErrorResponse)
    assert failed.error.data["reason"] == "unavailable"
    assert client.answers(2) == [2, 3]


@pytest.mark.parametrize("method", ["inline.fail", "read.fail", "write.fail", "session.fail"])
def test_an_application_that_raises_costs_one_answer(stage: Stage, method: str) -> None:
    stage.expected_incidents = 2
    client = stage.connect()
    assert client.error(method) == "internal"
    client.transmit(client.request(1, "read.ping"), client.request(2, method), client.request(3, "inline.ping"))
    assert client.answers(3) == [1, 2, 3]


@pytest.mark.parametrize(("method", "params"), [("read.big", {"size": 70_000}), ("inline.odd", {})])
def test_a_result_that_cannot_be_sent_is_an_incident(stage: Stage, method: str, params: dict[str, int]) -> None:
    stage.expected_incidents = 1
    client = stage.connect()
    answer = client.call(method, **params)
    assert isinstance(answer, ErrorResponse)
    assert answer.error.data == {"reason": "internal", "incident": "4711"}
    assert client.is_served()


def test_an_answer_that_comes_after_the_connection_has_gone_is_forgotten(stage: Stage) -> None:
    client = stage.connect()
    client.transmit(client.request(1, "write.wait"))
    stage.application.wait_begun("write.wait")
    client.hang_up()
    stage.wait_idle()
    stage.application.commit()
    assert stage.connect().is_served()


def test_writes_begin_when_nothing_else_is_to_be_done(stage: Stage) -> None:
    client = stage.connect()
    stage.application.begun.clear()
    client.transmit(client.request(1, "write.wait"))
    assert stage.application.begun.wait(10)
    stage.application.begun.clear()
    with stage.server.together():  # as around the answers of a commit
        stage.application.commit()
    assert client.answers(1) == [1]
    assert stage.application.begun.wait(10)
