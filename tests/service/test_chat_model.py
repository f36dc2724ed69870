"""Random conversations of several people, against a model that is a list of messages and two marks of what was read."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.chat_room import ASSIGNED, RESOLVED, WAITING, Room
from service.shop import Clock, Shop

from securedelivery.errors import Refusal
from securedelivery.model import Conversation, ConversationStatus, Message, Role
from securedelivery.service.chat import (
    ConversationCommand,
    MarkReadCommand,
    SendCommand,
    TransferCommand,
)
from securedelivery.service.chat_events import ConversationChanged, MessageSent
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store.engine import Database

ROLES = {
    "ada": Role.CUSTOMER,
    "bob": Role.CUSTOMER,
    "cyd": Role.COURIER,
    "dan": Role.AGENT,
    "eve": Role.AGENT,
    "fay": Role.ADMIN,
}
STAFF = ("dan", "eve", "fay")
SESSIONS: dict[str, Session] = {}


@dataclass(frozen=True)
class Act:
    what: str
    who: str
    number: int | None
    key: str
    up_to: int
    agent: str


@dataclass
class Talk:
    """seen: up to where the customer, and staff, have read; None where nothing is unread whatever comes before."""

    customer: str
    status: str = "waiting"
    agent: str | None = None
    said: list[tuple[str, str]] = field(default_factory=list)  # (sender, text)
    seen: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})

    def unread(self, *, staff: bool) -> int:
        return sum((sender == self.customer) is staff for sender, _ in self.said[self.seen[staff] :])


@dataclass
class Model:
    talks: list[Talk] = field(default_factory=list)
    used: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def do(self, act: Act) -> Any:
        """A refusal's slug, or (sequence,) of a message, None of a read, (status, agent, unread) of a conversation."""
        staff = act.who in STAFF
        own = next((n for n, talk in enumerate(self.talks, start=1) if talk.customer == act.who), None)
        number = own if act.number is None else act.number
        if act.what == "say" and (act.who, act.key) in self.used:
            where, sequence = self.used[act.who, act.key]
            same = where == number and self.talks[where - 1].said[sequence - 1][1] == act.agent
            return (where, sequence) if same else "idempotency_conflict"
        if act.what not in ("say", "read"):
            if not staff:
                return "forbidden"
            if act.what == "transfer" and act.agent not in STAFF:
                return "invalid_params"
        if number is None:
            return self._say(act, self._begun(act.who)) if act.what == "say" else None
        if number > len(self.talks) or not (staff or number == own):
            return "not_found"
        talk = self.talks[number - 1]
        if act.what == "say":
            return self._say(act, number)
        if act.what == "read":
            side = act.who != talk.customer
            talk.seen[side] = max(talk.seen[side], min(act.up_to, len(talk.said)))
            return None
        return self._decide(act, talk)

    def _begun(self, customer: str) -> int:
        self.talks.append(Talk(customer))
        return len(self.talks)

    def _say(self, act: Act, number: int) -> Any:
        talk = self.talks[number - 1]
        if act.who != talk.customer:
            if talk.agent not in (None, act.who):
                return "conversation_taken"
            talk.status, talk.agent = "assigned", act.who
        elif talk.status == "resolved":
            talk.status = "waiting"
        talk.said.append((act.who, act.agent))
        self.used[act.who, act.key] = (number, len(talk.said))
        return number, len(talk.said)

    def _decide(self, act: Act, talk: Talk) -> Any:
        others = talk.agent not in (None, act.who)
        target = {"release": None, "resolve": None, "claim": act.who, "transfer": act.agent}[act.what]
        if talk.status == "resolved" and (act.what == "release" or (act.what == "transfer" and act.who != "fay")):
            return "illegal_transition"
        if others and (act.what == "claim" or act.who != "fay"):
            return "conversation_taken"
        talk.agent = target
        talk.status = {"release": "waiting", "resolve": "resolved"}.get(act.what, "assigned")
        return talk.status, talk.agent, talk.unread(staff=act.who != talk.customer)


WHO = {"ada": 4, "bob": 1, "cyd": 1, "dan": 4, "eve": 2, "fay": 1}
WHAT = {"say": 6, "read": 6, "claim": 1, "release": 1, "resolve": 1, "transfer": 1}
acts = st.builds(
    Act,
    what=st.sampled_from([what for what, weight in WHAT.items() for _ in range(weight)]),
    who=st.sampled_from([who for who, weight in WHO.items() for _ in range(weight)]),
    number=st.sampled_from([1, 1, 1, 1, 1, None, 2, 3, 4]),
    key=st.integers(0, 200).map(str),
    up_to=st.integers(0, 8),
    agent=st.sampled_from(["dan", "eve", "fay", "ada"]),  # whom to transfer to; and what is said
)
batches = st.lists(
    st.tuples(
        st.sampled_from(["mixed", "mixed", "mixed", "say", "read", "claim"]), st.lists(acts, min_size=1, max_size=12)
    ),
    max_size=10,
)
BEGINNING = ("say", [Act("say", who, None, "first", 0, "Hello") for who in ("ada", "bob", "eve")])
"""So that most of what follows is about a conversation that there is; one of them is an agent's own."""


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A shop with six accounts, to be copied: migrating takes longer than an example."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        with Database.open(f"sqlite:///{path}") as database:
            shop = Shop(database, Clock(), RewardRules(), Path("names.txt"))
            SESSIONS.update({name: shop.customer(name, role) for name, role in ROLES.items()})
        yield path


def command(act: Act) -> Any:
    session = SESSIONS[act.who]
    match act.what:
        case "say":
            return SendCommand(session, act.agent, act.key, act.number)
        case "read":
            return MarkReadCommand(session, act.number, act.up_to)
        case "transfer":
            return TransferCommand(session, act.number or 1, act.agent)
    return ConversationCommand(session, act.number or 1)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches)
def test_batches_do_what_one_after_the_other_would(template: Path, history: list[tuple[str, list[Act]]]) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(template, folder))
        shutil.copy(f"{template}.key", folder)
        with Database.open(f"sqlite:///{path}") as database:
            room = Room(Shop(database, Clock(), RewardRules(), Path("names.txt")))
            methods = {
                "say": room.chat.send,
                "read": room.chat.mark_read,
                "claim": room.chat.claim,
                "release": room.chat.release,
                "resolve": room.chat.resolve,
                "transfer": room.chat.transfer,
            }
            for kind, batch in (BEGINNING, *history):
                # One method's commands as one batch, or each as a batch of its own.
                acts = [
                    act if kind == "mixed" else Act(kind, act.who, act.number, act.key, act.up_to, act.agent)
                    for act in batch
                ]
                acts = [act if act.what in ("say", "read") or act.number else _first(act) for act in acts]
                if kind == "mixed":
                    outcomes = [room.batch(methods[act.what], command(act))[0] for act in acts]
                else:
                    outcomes = room.batch(methods[kind], *(command(act) for act in acts))
                room.shop.clock.forward(seconds=1)
                for act, outcome in zip(acts, outcomes, strict=True):
                    assert told(outcome) == model.do(act), act
                check(room, model)


def _first(act: Act) -> Act:
    return Act(act.what, act.who, 1, act.key, act.up_to, act.agent)


def told(outcome: object) -> Any:
    match outcome:
        case Refusal():
            return outcome.reason.slug
        case Message():
            return outcome.conversation, outcome.sequence
        case Conversation():
            return outcome.status.value, outcome.agent, outcome.unread
    return outcome


def check(room: Room, model: Model) -> None:
    """What everybody sees is what the model has, and who has only listened to the events knows no less."""
    sides = {
        number: [
            Conversation(
                number,  # type: ignore[arg-type]
                talk.customer,
                {"waiting": WAITING, "assigned": ASSIGNED, "resolved": RESOLVED}[talk.status],
                talk.agent,
                talk.unread(staff=staff),
                len(talk.said),
                None,
            )
            for staff in (False, True)
        ]
        for number, talk in enumerate(model.talks, start=1)
    }
    for who in STAFF:
        seen = {}
        for status in (WAITING, ASSIGNED, RESOLVED):
            found = room.all_queued(SESSIONS[who], status, 2)
            times = [each.waiting_since for each in found]
            assert times == (sorted(times) if status is WAITING else [None] * len(times))  # type: ignore[type-var]
            seen |= {each.conversation: timeless(each) for each in found}
        mine = {n: talk for n, talk in enumerate(model.talks, start=1) if talk.agent in (None, who)}
        assert seen == {number: sides[number][talk.customer != who] for number, talk in mine.items()}
    for number, talk in enumerate(model.talks, start=1):
        found = room.everything(SESSIONS[talk.customer], limit=5)
        assert [(message.sender, message.text) for message in found] == talk.said
        assert [message.sequence for message in found] == list(range(1, len(found) + 1))
        assert [message.role is Role.CUSTOMER for message in found] == [who == talk.customer for who, _ in talk.said]
        sent = [event.message for event in room.events if isinstance(event, MessageSent)]
        assert [message for message in sent if message.conversation == number] == found
        for staff in (False, True):
            expected = sides[number][staff]
            assert heard(room.events, number, staff=staff) == (expected.status, expected.agent, expected.unread)
    unread = room.shop.sql("SELECT id, customer_unread, staff_unread FROM conversations ORDER BY id")
    assert unread == [(number, *(side.unread for side in both)) for number, both in sides.items()]


def heard(events: list[object], number: int, *, staff: bool) -> tuple[ConversationStatus, str | None, int]:
    """Status, agent and what is unread, as known to one who has only listened."""
    status, agent, unread = WAITING, None, 0
    for event in events:
        match event:
            case MessageSent(message=message) if message.conversation == number:
                unread += (message.role is Role.CUSTOMER) is staff
            case ConversationChanged() if event.for_staff.conversation == number:
                if event.agents if staff else event.customer is not None:
                    seen = event.for_staff if staff else event.for_customer
                    status, agent, unread = seen.status, seen.agent, seen.unread
    return status, agent, unread


def timeless(conversation: Conversation) -> Conversation:
    return Conversation(
        conversation.conversation,
        conversation.customer,
        conversation.status,
        conversation.agent,
        conversation.unread,
        conversation.last_sequence,
        None,
    )
