"""Support chat: customers and agents talk while others are connected and quiet.

    python -m benchmarks.load.chat --port P --certs DIR --customers chat0,chat1,... --agents agent0,agent1,...
                                   [--quiet 890] [--rate 200] [--parts 5] [--seconds 10]

Open loop: when each message is due was decided beforehand (at random, `rate` a second on average, a Poisson process),
and it is sent then, whatever became of those before. Its delay counts from the moment it was due to the moment the
bytes of its notification were there on the other side's connection. So a server that stands still for a while delays
all that became due meanwhile, and none of it is hidden. All messages are sealed before "go"; what arrives is only kept,
with its time, and is opened, assigned and compared after the run. A conversation's customer and agent speak in turn.
The run has `parts` of `seconds` each, with figures of their own (`p99_us_of_parts`).
"""

import argparse
import gc
import random
import select
import sys
import time
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.load.loop import Timing, converse
from benchmarks.load.ours import RECEIVE_BYTES, Connection
from benchmarks.load.quiet import allow, connect
from securedelivery.protocol.jsonrpc import Request, Response

SEED = 20_261_122
TEXT = "Where is my parcel? It was to come today between nine and eleven, and nobody has rung."
AFTERWARDS_SECONDS = 1.0  # without a byte from the server: all has come
OWED_SECONDS = 20.0


class Message:
    """One that is to be said. due: seconds from the beginning; sent, arrived: on the clock; sequence: as answered."""

    __slots__ = ("answered", "arrived", "due", "hearer", "key", "number", "raw", "sent", "sequence", "speaker", "text")

    def __init__(self, number: int, due: float, speaker: "Side", hearer: "Side", text: str) -> None:
        self.number = number
        self.due = due
        self.speaker = speaker
        self.hearer = hearer
        self.key = f"{speaker.name}-{uuid.uuid4().hex}"
        self.text = text
        self.raw = b""
        self.sent = self.arrived = 0.0
        self.answered = False
        self.sequence = 0


class Side(Connection):
    """A connection whose arrivals are kept with their times, to be opened later."""

    def __init__(self, port: int, certs: Path, name: str) -> None:
        super().__init__(port, certs, name)
        self.call("account.login_certificate", {})
        self.asked: dict[int, Message] = {}  # by the request's id
        self.arrivals: list[tuple[float, bytes]] = []

    def seal(self, message: Message, conversation: int | None) -> None:
        number = next(self._ids)
        self.asked[number] = message
        params: dict[str, Any] = {"text": message.text, "message_key": message.key}
        if conversation is not None:
            params["conversation"] = conversation
        self._channel.write(self._core.send_request(number, "chat.send", params))
        message.raw = self._channel.take_raw()

    def receive(self, at: float) -> None:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            sys.exit(f"error: the server has hung up on {self.name}")
        self.arrivals.append((at, data))

    def open(self, by_key: dict[str, Message]) -> None:
        """Note what was answered and what was heard, with the time at which the last byte of it was there."""
        for at, data in self.arrivals:
            self._channel.feed(data)
            while (plaintext := self._channel.read()) is not None:
                self._core.receive_data(plaintext)
            while (event := self._core.next_event()) is not None:
                if isinstance(event, Response):
                    self._answer(self.asked[int(event.id)], msgspec.json.decode(event.result))
                elif not isinstance(event, Request):
                    print(f"{self.name}: {event}", file=sys.stderr)
                elif event.method == "chat.message":
                    self._hear(by_key, msgspec.json.decode(event.params), at)

    def _answer(self, message: Message, result: dict[str, Any]) -> None:
        message.answered = (result["message_key"], result["text"]) == (message.key, message.text)
        message.sequence = result["sequence"]

    def _hear(self, by_key: dict[str, Message], said: dict[str, Any], at: float) -> None:
        message = by_key.get(said["message_key"])  # None for what was said before the run
        if message is not None and message.hearer is self and said["text"] == message.text:
            message.arrived = at


class Conversation:
    def __init__(self, customer: Side, agent: Side) -> None:
        self.customer = customer
        self.agent = agent
        begun = customer.call("chat.send", {"text": "Hello?", "message_key": uuid.uuid4().hex})
        self.number: int = begun["conversation"]
        agent.call("chat.send", {"conversation": self.number, "text": "Good day!", "message_key": uuid.uuid4().hex})
        self._next_is_customer = True

    def next_message(self, number: int, due: float) -> Message:
        speaker, hearer = self.customer, self.agent
        if not self._next_is_customer:
            speaker, hearer = hearer, speaker
        self._next_is_customer = not self._next_is_customer
        message = Message(number, due, speaker, hearer, f"{TEXT} ({number})")
        speaker.seal(message, self.number if speaker is self.agent else None)
        return message


def talk(poll: select.epoll, messages: list[Message], sides: list[Side]) -> tuple[float, float, float]:
    """Send each when it is due, and keep what comes. Gives when it began, and seconds of wall and CPU."""
    clock = time.perf_counter
    by_fd = {side.socket.fileno(): side for side in sides}
    for side in sides:
        side.socket.setblocking(False)
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    gc.collect()
    gc.disable()
    began, cpu = clock(), time.process_time()
    for message in messages:
        at = began + message.due
        while (now := clock()) < at:
            _keep(poll, by_fd, at - now)
        message.sent = now
        if message.speaker.socket.send(message.raw) != len(message.raw):
            sys.exit("error: the server does not read")
    seconds, spent = clock() - began, time.process_time() - cpu
    latest = clock() + OWED_SECONDS
    while _keep(poll, by_fd, AFTERWARDS_SECONDS) and clock() < latest:
        pass
    gc.enable()
    return began, seconds, spent


def _keep(poll: select.epoll, by_fd: dict[int, Side], wait_seconds: float) -> bool:
    """Whether something came in time.

    select() on the epoll's own descriptor counts in microseconds; epoll_wait() would round up to the next millisecond.
    """
    if not select.select([poll], [], [], wait_seconds)[0]:
        return False
    at = time.perf_counter()
    for fd, _ in poll.poll(0):
        by_fd[fd].receive(at)
    return True


def figures(messages: list[Message], began: float, parts: int, seconds: float) -> dict[str, Any]:
    """Whatever was not answered and heard, rightly and in its order, is an error."""
    errors = 0
    for message in messages:
        if not (message.answered and message.arrived):
            errors += 1
            print(f"{message.key}: answered {message.answered}, heard {message.arrived > 0}", file=sys.stderr)
    by_conversation: dict[frozenset[str], list[int]] = {}
    for message in messages:
        pair = frozenset((message.speaker.name, message.hearer.name))
        by_conversation.setdefault(pair, []).append(message.sequence)
    # Who speaks next does not wait, so two may change places on the way; but each place is taken once, without gaps.
    for sequences in by_conversation.values():
        errors += sum(b - a != 1 for a, b in pairwise(sorted(sequences)))
    delays: list[list[float]] = [[] for _ in range(parts)]
    for message in messages:
        part = min(int(message.due / seconds), parts - 1)
        delays[part].append((message.arrived - began - message.due) * 1e6)
    every = Timing(0, 0, [delay for part in delays for delay in part])
    late = Timing(0, 0, [(message.sent - began - message.due) * 1e6 for message in messages])
    return {
        "p50_us": every.at(0.5),
        "p99_us": every.at(0.99),
        "p50_us_of_parts": [Timing(0, 0, part).at(0.5) for part in delays],
        "p99_us_of_parts": [Timing(0, 0, part).at(0.99) for part in delays],
        "max_us": every.latencies[-1],
        "late_p99_us": late.at(0.99),
        "errors": errors,
        "checked": len(messages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certs", type=Path, required=True)
    parser.add_argument("--customers", required=True, help="names, with commas between")
    parser.add_argument("--agents", required=True, help="names, with commas between")
    parser.add_argument("--quiet", type=int, default=890, help="connections that say nothing: bench0, bench1, ...")
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second, of all together")
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a part")
    options = parser.parse_args()
    port, certs = options.port, options.certs
    customers, agents = options.customers.split(","), options.agents.split(",")
    poll = select.epoll()  # first, for select() takes no descriptor from 1,024 on
    allow(options.quiet + len(customers) + len(agents))
    quiet = [connect(port, certs, f"bench{number % 64}") for number in range(options.quiet)]
    answering = [Side(port, certs, name) for name in agents]
    asking = [Side(port, certs, name) for name in customers]
    conversations = [Conversation(side, answering[i % len(answering)]) for i, side in enumerate(asking)]
    dice = random.Random(SEED)
    messages: list[Message] = []
    due = dice.expovariate(options.rate)
    while due < options.parts * options.seconds:
        messages.append(dice.choice(conversations).next_message(len(messages), due))
        due += dice.expovariate(options.rate)

    def work() -> dict[str, Any]:
        began, seconds, cpu_seconds = talk(poll, messages, [*asking, *answering])
        by_key = {message.key: message for message in messages}
        for side in (*asking, *answering):
            side.open(by_key)
        said = figures(messages, began, options.parts, options.seconds)
        connected = len(quiet) + len(asking) + len(answering)
        return {
            "requests": len(messages),
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "connected": connected,
            **said,
        }

    converse(work)


if __name__ == "__main__":
    main()
