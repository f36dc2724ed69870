"""What a connection keeps while it is quiet, and after it has gone."""

import ctypes
import gc

import pytest
from transport.stage import Stage

from securedelivery.protocol.connection import CloseReceived
from securedelivery.protocol.jsonrpc import Request, Response
from securedelivery.protocol.noise import HandshakeState
from securedelivery.transport.handshake import Handshake
from securedelivery.transport.peer import Peer

FEW, LARGE = 32, 60_000  # requests at once, bytes of each answer


class MallocInfo(ctypes.Structure):
    """struct mallinfo2 of <malloc.h>."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def allocated() -> int:
    """Bytes that this process has of malloc()."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallocInfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def living(*kinds: type) -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, kinds)]


def test_nothing_of_the_handshake_is_kept(stage: Stage) -> None:
    gc.collect()
    of_other_tests = len(living(Handshake, HandshakeState))
    stage.serve()
    clients = [stage.connect() for _ in range(3)]
    assert all(client.is_served() for client in clients)
    gc.collect()
    assert len(living(Peer)) >= 3
    assert len(living(Handshake, HandshakeState)) <= of_other_tests


def test_a_connection_that_has_gone_leaves_nothing_to_a_collection_of_cycles(stage: Stage) -> None:
    stage.serve()
    gc.collect()
    of_other_tests = len(living(Peer))
    gc.disable()
    try:
        for _ in range(3):
            client = stage.connect()
            assert client.is_served()
            client.say_bye()
            assert client.close_reason() == "bye"
            client.hang_up()
        stage.wait_gone()
        stage.wait_idle()
        assert len(living(Peer)) <= of_other_tests + 1  # a loop's variable may still name the last one
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc says what is allocated")
def test_a_quiet_connection_is_small_again_after_large_answers(stage: Stage) -> None:
    stage.serve()
    clients = [stage.connect() for _ in range(10)]
    assert all(client.is_served() for client in clients)
    gc.collect()
    before = allocated()
    for client in clients:
        client.transmit(*(client.request(number, "inline.big", size=LARGE) for number in range(FEW)))
        for number in range(FEW):
            answer = client.answer()
            assert isinstance(answer, Response)
            assert (answer.id, len(answer.result)) == (number, LARGE + 2)
        client.received.clear()
        assert client.is_served()
    stage.wait_idle()
    gc.collect()
    # Of both sides, as both are here: a few answers' worth for each connection, not the 32 that were there at once.
    assert allocated() - before < len(clients) * 4 * LARGE


def test_requests_in_records_of_their_own_behind_auth_in_one_segment(stage: Stage) -> None:
    stage.serve()
    client = stage.client()
    client.tls()
    client.hello()
    frames = [client.core.send_auth(), *(client.request(number, "read.ping") for number in range(20))]
    client.sock.sendall(b"".join(map(client.raw, frames)))
    welcome = client.event()
    assert isinstance(welcome, Request)
    assert client.answers(20) == list(range(20))
    client.say_bye()
    events, end = client.rest()
    assert (events, end) == ([CloseReceived("bye", "")], "close_notify")
