"""The generators for chat and for quiet connections find out what did not arrive, or arrived elsewhere."""

from collections.abc import Callable
from typing import Any

import psutil
import pytest

pytest.importorskip("matplotlib", reason="it is not installed: pip install -e '.[bench]'")

from benchmarks.load import chat
from benchmarks.measure import World

BEGAN = 1_000.0


class Somebody:
    def __init__(self, name: str) -> None:
        self.name = name


CUSTOMER, AGENT = Somebody("customer"), Somebody("agent")


def said() -> list[chat.Message]:
    """Four messages of one conversation, 0.1 s apart, each of which took 10 ms more than the one before."""
    messages = []
    for number in range(4):
        speaker, hearer = (CUSTOMER, AGENT) if number % 2 == 0 else (AGENT, CUSTOMER)
        message = chat.Message(number, number * 0.1, speaker, hearer, "a text")  # type: ignore[arg-type]
        message.sent = BEGAN + message.due + 0.001
        message.arrived = BEGAN + message.due + (number + 1) * 0.01
        message.answered = True
        message.sequence = 7 + number
        messages.append(message)
    return messages


def figures(messages: list[chat.Message]) -> dict[str, Any]:
    return chat.figures(messages, BEGAN, parts=2, seconds=0.2)


def test_delays_count_from_the_moment_a_message_was_due() -> None:
    found = figures(said())
    assert found["errors"] == 0
    assert found["checked"] == 4
    assert found["p99_us"] == pytest.approx(40_000)
    assert found["p99_us_of_parts"] == pytest.approx([20_000, 40_000])
    assert found["max_us"] == pytest.approx(40_000)
    assert found["late_p99_us"] == pytest.approx(1_000)


def unanswered(messages: list[chat.Message]) -> None:
    messages[1].answered = False


def unheard(messages: list[chat.Message]) -> None:
    messages[1].arrived = 0.0


def twice_the_same_place(messages: list[chat.Message]) -> None:
    messages[3].sequence = messages[2].sequence


@pytest.mark.parametrize("wrong", [unanswered, unheard, twice_the_same_place])
def test_what_went_wrong_is_an_error(wrong: Callable[[list[chat.Message]], None]) -> None:
    messages = said()
    wrong(messages)
    assert figures(messages)["errors"] == 1


def test_two_that_speak_at_once_may_change_places() -> None:
    messages = said()
    messages[1].sequence, messages[2].sequence = messages[2].sequence, messages[1].sequence
    assert figures(messages)["errors"] == 0


def test_quiet_connections_stay_until_their_generator_ends() -> None:
    with World.temporary(quick=True) as world, world.service() as server:

        def connected() -> int:
            return len(
                [one for one in psutil.Process(server.pid).net_connections("tcp") if one.status == "ESTABLISHED"]
            )

        with world.load("quiet", server, "--connections", 12, "--accounts", 5) as load:
            outcome = load.go()
            assert outcome.requests == outcome.checked == 12
            assert connected() == 12
        while connected():  # the test's own time limit bounds it
            pass
