"""Many at once: those who say nothing, or stop half way, do not keep a customer out (and cost no processor time)."""

import resource
from collections.abc import Iterator

import pytest
from transport.driver import dial
from transport.stage import Stage

CROWD = 1_000
HALF_DONE = 500


@pytest.fixture(autouse=True)
def room() -> Iterator[None]:
    """Both ends of each connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * (CROWD + HALF_DONE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted) if soft != -1 else soft, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def crowd(stage: Stage, words: bytes, count: int, first_address: int) -> None:
    """So many connections that say the words and no more, 250 of each of a few addresses."""
    for number in range(count):
        sock = dial(stage.port, f"127.0.0.{first_address + number // 250}")
        stage.at_end(sock.close)
        sock.sendall(words)


def test_a_thousand_silent_and_five_hundred_half_done_do_not_stop_a_customer(stage: Stage) -> None:
    stage.serve()  # with the limits as they come
    customer = stage.connect()
    sample = stage.client()
    assert not sample.channel.handshake()
    client_hello = sample.channel.take_raw()
    crowd(stage, b"", CROWD, 10)
    crowd(stage, client_hello, HALF_DONE, 20)
    stage.wait_idle()
    assert len(stage.server._handshaking) == stage.server.limits.handshakes  # the rest has given way
    newcomer = stage.connect()
    assert newcomer.is_served()
    assert customer.is_served()


def test_a_crowd_that_has_hung_up_or_finished_costs_nothing(stage: Stage) -> None:
    """No stage of a connection makes the I/O thread spin, whatever the other side's socket does."""
    stage.serve()
    running = [stage.connect() for _ in range(4)]
    for client in running:
        client.transmit(client.request(1, "write.wait"))
    stage.application.wait_begun(*["write.wait"] * 4)
    half_closed, closing, paused, talking = running
    half_closed.transmit(half_closed.core.send_close("bye"))
    half_closed.sock.shutdown(1)
    closing.say_bye()
    paused.transmit(*(paused.request(number, "inline.ping") for number in range(50)))
    paused.sock.shutdown(1)
    talking.transmit(talking.request(2, "inline.ping")[:9])
    stage.dial().sendall(b"\x16\x03\x01")
    unfinished = stage.client()
    unfinished.tls()
    unfinished.hello()
    lingering = stage.connect()
    lingering.transmit(lingering.core.send_close("bye"))
    stage.wait_idle()
    assert stage.connect().is_served()
    for _ in range(4):
        stage.application.commit()
    stage.wait_idle()
