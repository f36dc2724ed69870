"""A chat over a line that breaks a thousand times: nothing is lost, nothing is said twice, both sides saw the same."""

import random
import threading
from collections import Counter

import pytest
from end_to_end.bookkeeping import Books
from end_to_end.customers import ADDRESS, Enter, ProfileOf, Record, StartServer, all_at_once, whole_history
from end_to_end.cutting_relay import CuttingRelay
from planted import planted

from securedelivery.client import Client
from securedelivery.client.conversation import Event, LiveConversation, Lost
from securedelivery.model import Message

DISCONNECTS = 1_000
PAIRS = 4
LAST_WORDS = 10  # behind the disconnects, each of them while every connection breaks
ARRIVAL_SECONDS = 15.0


class Side:
    """A customer or an agent: one thread follows the conversation, another says something again and again."""

    def __init__(self, client: Client, name: str, number: int | None) -> None:
        self.name = name
        self.client = client
        self.talk = LiveConversation(client, number)
        self.seen: list[Message] = []
        self.lost = 0
        self.said: dict[str, Message] = {}
        """What send() gave back, by text."""
        self._arrived = threading.Condition()
        self._failure: Exception | None = None
        self._follower = threading.Thread(target=self._follow, name=f"{name} follows")

    def start(self) -> None:
        self._follower.start()

    def talk_over(self, relay: CuttingRelay) -> None:
        """Talk as long as the line breaks."""
        while not relay.done:
            self.say()

    def say(self) -> Message:
        text = planted(f"{self.name} says {len(self.said)}")
        message = self.talk.send(text, message_key=f"{self.name} {len(self.said)}")
        self.said[text] = message
        return message

    def wait_for(self, sequence: int) -> None:
        """Until the message of this number was seen live."""
        with self._arrived:
            assert self._arrived.wait_for(
                lambda: self._failure is not None or (self.seen and self.seen[-1].sequence >= sequence),
                ARRIVAL_SECONDS,
            ), f"{self.name} has seen {len(self.seen)} messages of {sequence}"

    def stop(self) -> None:
        self.talk.stop()
        self._follower.join()
        self.client.close()
        if self._failure is not None:
            raise AssertionError(f"{self.name} could not follow: {self._failure!r}") from self._failure

    def _follow(self) -> None:
        try:
            for event in self.talk.events():
                self._heard(event)
        except Exception as error:  # noqa: BLE001 -- raised again by stop()
            self._failure = error
        with self._arrived:
            self._arrived.notify_all()

    def _heard(self, event: Event) -> None:
        self.lost += isinstance(event, Lost)
        if isinstance(event, Message):
            with self._arrived:
                self.seen.append(event)
                self._arrived.notify_all()


def last_word(speaker: Side, pair: tuple[Side, Side]) -> None:
    """Nothing follows it that would tell of a gap: whoever was away has to ask for it."""
    sequence = speaker.say().sequence
    for side in pair:
        side.wait_for(sequence)


@pytest.mark.timeout(240)
def test_a_chat_survives_a_thousand_disconnects(
    start_server: StartServer, enter: Enter, profile_of: ProfileOf, record_property: Record
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it with a failure
    server = start_server()
    agents = [f"agent-{number}" for number in range(PAIRS)]
    all_at_once(agents, lambda name: server.create_account(name, "agent"))
    with CuttingRelay(server.address, DISCONNECTS, random.Random(seed)) as relay:

        def pair_up(agent: str) -> tuple[Side, Side]:
            """A customer who has said a word, and the agent who has taken up the conversation."""
            name = agent.replace("agent", "customer")
            customer = Side(Client(profile_of(relay.address, name)), name, None)
            customer.client.create_account(name, address=ADDRESS)
            first = customer.say()
            answering = Side(Client(profile_of(relay.address, agent)), agent, first.conversation)
            answering.client.login_certificate()
            answering.client.claim(first.conversation)
            return customer, answering

        pairs = [pair_up(agent) for agent in agents]
        sides = [side for pair in pairs for side in pair]
        relay.arm(relay.carried // len(sides))
        for side in sides:
            side.start()
        all_at_once(sides, lambda side: side.talk_over(relay))
        for number in range(LAST_WORDS):
            relay.sever()
            all_at_once(pairs, lambda pair, number=number: last_word(pair[number % 2], pair))
        for side in sides:
            side.stop()

    for customer, agent in pairs:
        with enter(server, customer.name) as directly, enter(server, agent.name) as beside:
            history = whole_history(directly)
            assert history == whole_history(beside, agent.seen[0].conversation)
        assert [message.sequence for message in history] == list(range(1, len(history) + 1))
        assert Counter(message.text for message in history) == Counter([*customer.said, *agent.said])
        for side in (customer, agent):
            assert side.seen == history
            assert all(history[message.sequence - 1] == message for message in side.said.values())
            in_order = [message.text for message in history if message.text in side.said]
            assert in_order == list(side.said)
            assert side.lost > 0
    assert relay.cuts >= DISCONNECTS
    assert relay.torn > DISCONNECTS // 10
    books = Books(server.database)
    assert books.faults({}) == []
    assert books.damage() == []
    record_property("disconnects", relay.cuts)
    record_property("mid_frame", relay.torn)
    record_property("in_the_handshake", relay.early_cuts)
    record_property("messages", books.count("messages"))
