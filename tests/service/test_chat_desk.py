"""Who has a conversation: claim, release, resolve, transfer, the queue, and agents who come and go."""

# ruff: noqa: S608 -- the values are these tests' own

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from service.chat_room import ASSIGNED, RESOLVED, WAITING, Room, refusal, together
from service.shop import Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import Conversation, ConversationStatus, Role, Timestamp
from securedelivery.service import cursors
from securedelivery.service.chat import ConversationCommand, TransferCommand
from securedelivery.service.chat_events import ConversationChanged
from securedelivery.service.session import Session
from securedelivery.store import audit


@dataclass
class Desk(Room):
    """With a customer, two agents, an admin and a courier; the customer has said something."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alice = self.person("alice")
        self.agnes, self.anton = self.person("agnes", Role.AGENT), self.person("anton", Role.AGENT)
        self.adam, self.carl = self.person("adam", Role.ADMIN), self.person("carl", Role.COURIER)
        self.say(self.alice, "Hello")
        self.began = self.now()
        self.shop.clock.forward(minutes=5)
        self.events.clear()

    def put(self, status: ConversationStatus, agent: str | None = None) -> None:
        """As if it had been so since it began, without a word to anybody."""
        of = "NULL" if agent is None else f"(SELECT id FROM accounts WHERE username = '{agent}')"
        self.shop.sql(f"UPDATE conversations SET status = '{status}', agent_id = {of}, since = '{self.began}'")

    def state(self) -> tuple[str, str | None, str]:
        ((status, agent, since),) = self.shop.sql(
            "SELECT c.status, a.username, c.since FROM conversations c LEFT JOIN accounts a ON a.id = c.agent_id"
        )
        return status, agent, since  # type: ignore[return-value]

    def audited(self) -> list[audit.AuditEntry]:
        with self.shop.database.read() as tx:
            return [row.entry for row in audit.everything(tx)]


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


TAKEN = (Reason.CONVERSATION_TAKEN, {"agent": "agnes"})
ILLEGAL = (Reason.ILLEGAL_TRANSITION, {"status": "resolved", "allowed": []})

# method, by whom, from (status, agent), to (status, agent) or the refusal
CASES: list[tuple[str, str, tuple[str, str | None], tuple[object, object]]] = [
    ("claim", "agnes", ("waiting", None), ("assigned", "agnes")),
    ("claim", "agnes", ("resolved", None), ("assigned", "agnes")),
    ("claim", "agnes", ("assigned", "agnes"), ("assigned", "agnes")),
    ("claim", "anton", ("assigned", "agnes"), TAKEN),
    ("claim", "adam", ("assigned", "agnes"), TAKEN),
    ("claim", "adam", ("waiting", None), ("assigned", "adam")),
    ("release", "agnes", ("assigned", "agnes"), ("waiting", None)),
    ("release", "agnes", ("waiting", None), ("waiting", None)),
    ("release", "agnes", ("resolved", None), ILLEGAL),
    ("release", "anton", ("assigned", "agnes"), TAKEN),
    ("release", "adam", ("assigned", "agnes"), ("waiting", None)),
    ("release", "adam", ("resolved", None), ILLEGAL),
    ("resolve", "agnes", ("assigned", "agnes"), ("resolved", None)),
    ("resolve", "agnes", ("waiting", None), ("resolved", None)),
    ("resolve", "agnes", ("resolved", None), ("resolved", None)),
    ("resolve", "anton", ("assigned", "agnes"), TAKEN),
    ("resolve", "adam", ("assigned", "agnes"), ("resolved", None)),
    ("transfer", "agnes", ("assigned", "agnes"), ("assigned", "anton")),
    ("transfer", "agnes", ("assigned", "anton"), (Reason.CONVERSATION_TAKEN, {"agent": "anton"})),
    ("transfer", "agnes", ("waiting", None), ("assigned", "anton")),
    ("transfer", "agnes", ("resolved", None), ILLEGAL),
    ("transfer", "anton", ("assigned", "anton"), ("assigned", "anton")),
    ("transfer", "anton", ("assigned", "agnes"), TAKEN),
    ("transfer", "adam", ("assigned", "agnes"), ("assigned", "anton")),
    ("transfer", "adam", ("assigned", "anton"), ("assigned", "anton")),
    ("transfer", "adam", ("resolved", None), ("assigned", "anton")),
]
DONE = {"claim": "claimed", "release": "released", "resolve": "resolved", "transfer": "transferred"}


@pytest.mark.parametrize(("method", "who", "before", "after"), CASES)
def test_who_may_do_what(
    desk: Desk, method: str, who: str, before: tuple[str, str | None], after: tuple[object, object]
) -> None:
    desk.put(ConversationStatus(before[0]), before[1])
    caller: Session = getattr(desk, who)
    call = getattr(desk, method)
    arguments = (caller, 1, "anton") if method == "transfer" else (caller, 1)
    if isinstance(after[0], Reason):
        assert refusal(call, *arguments) == after
        assert desk.state() == (*before, desk.began)
        assert desk.events == []
        assert desk.audited() == []
        return
    got = call(*arguments)
    since = desk.began if before == after else desk.now()
    status = ConversationStatus(after[0])
    assert desk.state() == (*after, since)
    assert got == Conversation(1, "alice", status, after[1], 1, 1, since if status is WAITING else None)  # type: ignore[arg-type]
    if before == after:
        assert desk.events == []
        assert desk.audited() == []
        return
    (event,) = desk.events
    staff = (desk.agnes.account_id, desk.anton.account_id, desk.adam.account_id)
    assert event == ConversationChanged(desk.alice.account_id, staff, msgspec.structs.replace(got, unread=0), got)
    detail: dict[str, int] = {"conversation": 1}
    if method == "transfer":
        detail["agent"] = desk.anton.account_id
    (row,) = desk.audited()
    assert row._replace(detail=None) == audit.AuditEntry(
        desk.now(), caller.account_id, f"chat.{DONE[method]}", f"account:{desk.alice.account_id}"
    )
    assert msgspec.json.decode(row.detail or "") == detail


@pytest.mark.parametrize("method", ["claim", "release", "resolve", "transfer"])
def test_for_agents_and_admins_alone(desk: Desk, method: str) -> None:
    call: Callable[..., object] = getattr(desk, method)
    more = ("agnes",) if method == "transfer" else ()
    desk.say(desk.carl, "Hello")
    for caller, own in ((desk.alice, 1), (desk.carl, 2)):
        for number in (own, 3 - own, 3):
            assert refusal(call, caller, number, *more)[0] is Reason.FORBIDDEN
    for caller in (desk.agnes, desk.adam):
        assert refusal(call, caller, 3, *more) == (Reason.NOT_FOUND, {})
    assert desk.shop.sql("SELECT DISTINCT status FROM conversations") == [("waiting",)]


@pytest.mark.parametrize("target", ["alice", "carl", "nobody", "idle", "gone", "", "Agnes", "agnes' --"])
def test_a_transfer_goes_to_somebody_who_can_answer(desk: Desk, target: str) -> None:
    desk.person("idle", Role.AGENT)
    desk.person("gone", Role.ADMIN)
    desk.shop.sql("UPDATE accounts SET disabled = 1 WHERE username = 'idle'")
    desk.shop.sql(f"UPDATE accounts SET deleted_at = '{desk.now()}' WHERE username = 'gone'")
    for number in (1, 2):  # parameters come before the rest
        assert refusal(desk.transfer, desk.agnes, number, target) == (Reason.INVALID_PARAMS, {"path": "/agent"})
    assert desk.state() == ("waiting", None, desk.began)


def test_the_role_that_counts_is_the_accounts(desk: Desk) -> None:
    """A connection learns of a new role a moment later; until then it takes nothing that it could not keep."""
    desk.shop.sql("UPDATE accounts SET role = 'customer' WHERE username = 'agnes'")
    for call in (desk.claim, desk.release, desk.resolve):
        assert refusal(call, desk.agnes, 1)[0] is Reason.FORBIDDEN
    assert refusal(desk.transfer, desk.anton, 1, "agnes")[0] is Reason.INVALID_PARAMS
    assert refusal(desk.chat.history, desk.agnes, 1)[0] is Reason.FORBIDDEN
    assert refusal(desk.say, desk.agnes, "Hello", 1)[0] is Reason.NOT_FOUND
    assert refusal(desk.read, desk.agnes, 1, 1)[0] is Reason.NOT_FOUND
    assert desk.audited() == []


def test_two_claims_in_one_batch_give_it_to_the_first(desk: Desk) -> None:
    commands = [ConversationCommand(who, 1) for who in (desk.anton, desk.agnes, desk.anton, desk.adam)]
    first, second, again, third = desk.batch(desk.chat.claim, *commands)
    assert first == again
    assert first.agent == "anton"
    for refused in (second, third):
        assert (refused.reason, refused.data) == (Reason.CONVERSATION_TAKEN, {"agent": "anton"})
    assert [row.action for row in desk.audited()] == ["chat.claimed"]
    assert len(desk.events) == 1


def test_claims_from_many_threads_give_it_to_one(desk: Desk) -> None:
    agents = [desk.person(f"agent{n}", Role.AGENT) for n in range(8)]
    for _ in range(5):
        desk.put(WAITING)
        outcomes = together(lambda n: desk.claim(agents[n], 1), len(agents))
        (one,) = (outcome for outcome in outcomes if isinstance(outcome, Conversation))
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert [(each.reason, each.data) for each in refused] == [(Reason.CONVERSATION_TAKEN, {"agent": one.agent})] * 7
        assert desk.state()[1] == one.agent


def test_several_conversations_in_one_batch(desk: Desk) -> None:
    desk.say(desk.carl, "Hello")
    desk.claim(desk.agnes, 1)
    desk.events.clear()
    command = ConversationCommand
    outcomes = desk.batch(desk.chat.release, command(desk.agnes, 1), command(desk.anton, 2), command(desk.anton, 1))
    assert [outcome.status for outcome in outcomes] == [WAITING] * 3
    outcomes = desk.batch(
        desk.chat.transfer,
        TransferCommand(desk.agnes, 1, "anton"),
        TransferCommand(desk.agnes, 1, "adam"),
        TransferCommand(desk.anton, 1, "adam"),
        TransferCommand(desk.anton, 2, "nobody"),
        TransferCommand(desk.anton, 2, "agnes"),
    )
    assert [getattr(outcome, "agent", None) for outcome in outcomes] == ["anton", None, "adam", None, "agnes"]
    assert [
        outcome.status for outcome in desk.batch(desk.chat.resolve, command(desk.adam, 1), command(desk.adam, 2))
    ] == [
        RESOLVED,
        RESOLVED,
    ]
    # One event for a conversation and batch, with what it came to.
    changes = [event.for_staff for event in desk.events if isinstance(event, ConversationChanged)]
    assert [(each.conversation, each.status.value, each.agent) for each in changes] == [
        (1, "waiting", None),
        (1, "assigned", "adam"),
        (2, "assigned", "agnes"),
        (1, "resolved", None),
        (2, "resolved", None),
    ]


def test_disabled_and_deleted_staff_are_not_told(desk: Desk) -> None:
    desk.shop.sql("UPDATE accounts SET disabled = 1 WHERE username = 'anton'")
    desk.shop.sql(f"UPDATE accounts SET deleted_at = '{desk.now()}' WHERE username = 'adam'")
    desk.claim(desk.agnes, 1)
    (event,) = desk.events
    assert isinstance(event, ConversationChanged)
    assert event.agents == (desk.agnes.account_id,)


# The queue


def test_who_has_waited_longest_comes_first(desk: Desk) -> None:
    people = [desk.person(f"customer{n}") for n in range(5)]
    for person in people:
        desk.say(person, "Hello")
        desk.shop.clock.forward(seconds=1)
    for person in reversed(people[:2]):  # two who came at one time
        desk.shop.sql(f"UPDATE conversations SET since = '{desk.now()}' WHERE customer_id = {person.account_id}")
    names = ["alice", "customer2", "customer3", "customer4", "customer0", "customer1"]
    for limit in (1, 2, 5, 6, 7, 200):
        assert [each.customer for each in desk.all_queued(desk.agnes, WAITING, limit)] == names
    desk.claim(desk.agnes, 4)
    desk.shop.clock.forward(seconds=1)
    desk.claim(desk.agnes, 1)
    desk.claim(desk.anton, 2)
    desk.resolve(desk.anton, 3)
    mine = [each.customer for each in desk.all_queued(desk.agnes, ASSIGNED, 1)]
    assert mine == ["customer2", "alice"]
    assert [each.customer for each in desk.all_queued(desk.anton, ASSIGNED)] == ["customer0"]
    assert desk.all_queued(desk.adam, ASSIGNED) == []
    for agent in (desk.agnes, desk.anton, desk.adam):
        assert [each.customer for each in desk.all_queued(agent, RESOLVED)] == ["customer1"]
        assert [each.customer for each in desk.all_queued(agent)] == ["customer3", "customer4"]


def test_a_queue_that_changes_between_two_pages(desk: Desk) -> None:
    people = {}
    for n in range(2, 9):
        people[n] = desk.person(f"customer{n}")
        desk.say(people[n], "Hello")
        desk.shop.clock.forward(seconds=1)
    page, after = desk.chat.queue(desk.agnes, WAITING, None, 4)
    assert [item.conversation.conversation for item in page] == [1, 2, 3, 4]
    assert after == page[-1].cursor
    desk.claim(desk.anton, 4)  # the one that the cursor names
    desk.claim(desk.anton, 6)
    desk.release(desk.anton, 6)  # waits anew, behind the others
    desk.claim(desk.anton, 2)
    desk.say(desk.person("customer9"), "Hello")
    rest, following = desk.chat.queue(desk.agnes, WAITING, after, 4)
    assert [item.conversation.conversation for item in rest] == [5, 7, 8, 6]
    assert following is not None
    last, following = desk.chat.queue(desk.agnes, WAITING, following, 4)
    assert [item.conversation.conversation for item in last] == [9]
    assert following is None
    # Cut anywhere, it goes on behind the item.
    again, _ = desk.chat.queue(desk.agnes, WAITING, rest[1].cursor, 1)
    assert again == rest[2:3]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "cToy",
        cursors.encode("o", "1"),
        cursors.encode("q", "2026/x"),
        cursors.encode("q", f"2026/{2**54}0"),
        "q:1",
    ],
)
def test_cursors_that_are_none(desk: Desk, cursor: str) -> None:
    assert refusal(desk.chat.queue, desk.agnes, WAITING, cursor) == (Reason.INVALID_PARAMS, {"path": "/after"})


def test_the_largest_page_of_a_queue_fits_a_frame() -> None:
    """200 conversations with the longest of everything: the queue is never cut."""
    from securedelivery.api.messages import Page

    number, name = 2**53 - 1, "x" * 32
    at = Timestamp("2026-03-01T12:00:00.123456Z")
    largest = Conversation(number, name, ASSIGNED, name, number, number, at)  # type: ignore[arg-type]
    assert len(msgspec.json.encode(Page([largest] * 200, "x" * 100))) < 65_472 - 512


# Agents who go


def test_the_conversations_of_one_who_goes_wait_again(desk: Desk) -> None:
    desk.say(desk.carl, "Hello")
    desk.say(desk.adam, "Hello")
    for number in (1, 2):
        desk.claim(desk.agnes, number)
    desk.claim(desk.anton, 3)
    desk.shop.clock.forward(hours=1)
    desk.events.clear()
    desk.shop.sql("UPDATE accounts SET disabled = 1 WHERE username = 'agnes'")
    desk.release_all(desk.agnes.account_id)
    assert [each.conversation for each in desk.all_queued(desk.anton)] == [1, 2]
    assert {each.waiting_since for each in desk.all_queued(desk.anton)} == {desk.now()}
    assert [each.conversation for each in desk.all_queued(desk.anton, ASSIGNED)] == [3]
    told = (desk.anton.account_id, desk.adam.account_id)
    for event, customer in zip(desk.events, (desk.alice, desk.carl), strict=True):
        assert isinstance(event, ConversationChanged)
        assert (event.customer, event.agents) == (customer.account_id, told)
        assert event.for_staff.status is WAITING
    released = [row for row in desk.audited() if row.action == "chat.released"]
    assert [(row.actor, row.subject) for row in released] == [
        (desk.agnes.account_id, f"account:{who.account_id}") for who in (desk.alice, desk.carl)
    ]
    desk.events.clear()
    desk.release_all(desk.agnes.account_id)
    desk.release_all(desk.alice.account_id)
    assert desk.events == []


def test_nothing_said_outlives_its_customer(desk: Desk, tmp_path: Path) -> None:
    marker = "the-quick-brown-fox"
    desk.say(desk.alice, marker)
    for n in range(20):
        desk.say(desk.agnes, f"{marker} {n}", 1)
    desk.say(desk.carl, marker)
    desk.events.clear()
    desk.shop.sql("UPDATE accounts SET username = 'deleted~01234567' WHERE username = 'alice'")
    keys = [message.message_key for message in desk.everything(desk.adam, 1)]
    desk.erase(desk.alice.account_id)
    changed = [key != now.message_key for key, now in zip(keys, desk.everything(desk.adam, 1), strict=True)]
    assert changed == [True] * 2 + [False] * 20  # the customer's own are words of the customer
    assert {message.text for message in desk.everything(desk.adam, 1)} == {"[erased]"}
    assert [message.sequence for message in desk.everything(desk.adam, 1)] == list(range(1, 23))
    assert [message.text for message in desk.everything(desk.carl)] == [marker]
    (event,) = desk.events
    assert isinstance(event, ConversationChanged)
    assert event.for_staff == Conversation(1, "deleted~01234567", RESOLVED, None, 0, 22, None)  # type: ignore[arg-type]
    files = [path for path in tmp_path.iterdir() if path.name.startswith("shop.db") and path.suffix != ".key"]
    assert {path.name for path in files} >= {"shop.db", "shop.db-wal"}
    for path in files:
        assert marker.encode() not in path.read_bytes()
    # Again, for one who never said anything, and for one whose conversation is resolved.
    desk.resolve(desk.agnes, 2)
    desk.events.clear()
    desk.erase(desk.agnes.account_id)
    assert desk.events == []
    desk.erase(desk.carl.account_id)
    assert [message.text for message in desk.everything(desk.adam, 2)] == ["[erased]"]
    assert len(desk.events) == 1


def test_nobody_answers_a_customer_who_is_gone(desk: Desk) -> None:
    desk.claim(desk.agnes, 1)
    desk.shop.sql(f"UPDATE accounts SET deleted_at = '{desk.now()}', disabled = 1 WHERE username = 'alice'")
    desk.erase(desk.alice.account_id)
    assert refusal(desk.say, desk.agnes, "Still there?", 1) == ILLEGAL
    assert refusal(desk.claim, desk.agnes, 1) == ILLEGAL
    assert refusal(desk.transfer, desk.adam, 1, "agnes") == ILLEGAL
    assert desk.resolve(desk.agnes, 1).status is RESOLVED
    desk.read(desk.agnes, 1, 1)
    assert len(desk.everything(desk.agnes, 1)) == 1
