"""SIGKILL at a random moment while everybody is at work: customers, agents, a courier. What was acknowledged is there.

Everyone keeps a journal of what was asked and answered. After the last start the journals are held against what the
service shows, and the auditor (bookkeeping.py) against the database itself.
"""

import itertools
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from end_to_end.bookkeeping import Books
from end_to_end.customers import Record, RingOf, StartServer, all_at_once, every, log_in, order
from end_to_end.server_process import ServerProcess
from planted import planted
from wire_client import ConnectionEnded, Refused, WireClient

CRASHES = 20
CUSTOMERS = ("alice", "bob", "carol")
AGENTS = ("sam", "pam")
COURIER = "kim"
PIPELINED = 4
STOCK = {"CPU-1": 1_000_000, "GPU-1": 500_000, "RAM-1": 2_000_000, "RARE-1": 40}
RECENT = 80  # orders that somebody may still think of

Call = tuple[str, dict[str, Any]]

NEXT = {
    "placed": {"placed", "confirmed", "cancelled"},  # again placed: an edit
    "confirmed": {"packed", "cancelled"},
    "packed": {"out_for_delivery", "cancelled"},
    "out_for_delivery": {"packed", "delivered"},
    "delivered": {"returned"},
    "returned": set(),
    "cancelled": set(),
}
"""docs/protocol.md, "Orders"."""

# What a call of somebody who does not know the latest may be told.
EXPECTED = {
    "order.place": {"out_of_stock", "not_enough_points"},
    "order.update": {"version_conflict", "illegal_transition", "out_of_stock"},
    "order.cancel": {"illegal_transition"},
    "order.advance": {"illegal_transition"},
    "order.get": set(),
    "delivery.confirm": {"illegal_transition", "wrong_code"},
    "account.update": set(),
    "chat.send": {"conversation_taken"},
    "chat.mark_read": set(),
}
REPEATABLE = ("order.place", "chat.send")  # by their keys: it happens once, however often it is asked


@dataclass
class Deed:
    """A call, and what became of it; neither answer nor refusal: nobody knows."""

    who: str
    method: str
    params: dict[str, Any]
    answer: dict[str, Any] | None = None
    refused: str | None = None

    @property
    def open(self) -> bool:
        return self.answer is None and self.refused is None


@dataclass
class Board:
    """What everybody at work knows of each other, from answers alone; written and read by all threads.

    orders: the last known state by number; codes: the customers' delivery codes; conversations: by customer.
    """

    orders: dict[int, dict[str, Any]] = field(default_factory=dict)
    codes: dict[int, str] = field(default_factory=dict)
    conversations: dict[str, int] = field(default_factory=dict)

    def note(self, deed: Deed) -> None:
        assert deed.answer is not None
        if "lines" in deed.answer:
            known = self.orders.get(deed.answer["order"])
            if known is None or known["version"] <= deed.answer["version"]:
                self.orders[deed.answer["order"]] = deed.answer
            if code := deed.answer.get("delivery_code"):
                self.codes[deed.answer["order"]] = code
        elif deed.method == "chat.send" and deed.who in CUSTOMERS:
            self.conversations[deed.who] = deed.answer["conversation"]

    def recent(self, *statuses: str, account: str | None = None) -> list[dict[str, Any]]:
        """Orders of these statuses (any, where none is named), as they were last seen."""
        newest = list(self.orders.copy().values())[-RECENT:]
        return [
            one
            for one in newest
            if (not statuses or one["status"] in statuses) and (account is None or one["account"] == account)
        ]


class Work:
    """What the people of the shop think of doing next."""

    def __init__(self, board: Board, name: str, chance: random.Random) -> None:
        self.board = board
        self.name = name
        self.chance = chance

    def key(self) -> str:
        return f"{self.chance.getrandbits(64):016x}"

    def some(self, wishes: dict[Callable[[], Call | None], int]) -> Call:
        """One of these, by weight. What cannot be done now gives None."""
        while True:
            wish = self.chance.choices(list(wishes), list(wishes.values()))[0]
            call = wish()
            if call is not None:
                return call

    def one(self, orders: list[dict[str, Any]]) -> dict[str, Any] | None:
        return self.chance.choice(orders) if orders else None


class Customer(Work):
    """settled: also changes the account's address; one connection of each account does."""

    def __init__(self, board: Board, name: str, chance: random.Random, *, settled: bool) -> None:
        super().__init__(board, name, chance)
        self._wishes = {self.place: 8, self.update: 4, self.cancel: 2, self.say: 4}
        if settled:
            self._wishes[self.move] = 1

    def __call__(self) -> Call:
        return self.some(self._wishes)

    def _lines(self) -> dict[str, int]:
        skus = self.chance.sample(list(STOCK), self.chance.randint(1, len(STOCK)))
        return {sku: self.chance.randint(1, 3) for sku in skus}

    def place(self) -> Call:
        wanted = order(self.key(), **self._lines())
        if self.chance.random() < 0.3:
            wanted["redeem_points"] = self.chance.randint(1, 40)
        return "order.place", wanted

    def update(self) -> Call | None:
        known = self.one(self.board.recent("placed", account=self.name))
        if known is None:
            return None
        change: dict[str, Any] = {}
        if self.chance.random() < 0.8:
            change["lines"] = order("", **self._lines())["lines"]
        if not change or self.chance.random() < 0.3:
            change["address"] = planted(f"{self.key()} Street")
        return "order.update", {"order": known["order"], "version": known["version"], **change}

    def cancel(self) -> Call | None:
        known = self.one(self.board.recent("placed", "confirmed", account=self.name))
        return known and ("order.cancel", {"order": known["order"], "reason": planted("changed my mind")})

    def say(self) -> Call:
        key = self.key()
        return "chat.send", {"text": planted(f"{self.name} asks {key}"), "message_key": key}

    def move(self) -> Call:
        return "account.update", {"address": planted(f"{self.key()} Road")}


class Agent(Work):
    def __call__(self) -> Call:
        return self.some({self.advance: 10, self.cancel: 1, self.reply: 3, self.read: 1, self.look: 1})

    def advance(self) -> Call | None:
        known = self.one(self.board.recent("placed", "confirmed", "packed", "delivered"))
        if known is None or (known["status"] == "delivered" and self.chance.random() < 0.7):
            return None
        status = {
            "placed": "confirmed", "confirmed": "packed", "packed": "out_for_delivery", "delivered": "returned",
        }[known["status"]]  # fmt: skip
        more = {"courier": COURIER} if status in ("packed", "out_for_delivery") else {"note": planted("seen to")}
        return "order.advance", {"order": known["order"], "status": status, **more}

    def cancel(self) -> Call | None:
        known = self.one(self.board.recent("placed", "confirmed", "packed"))
        return known and ("order.cancel", {"order": known["order"], "reason": planted("sold out")})

    def _conversation(self) -> int | None:
        return self.chance.choice([*self.board.conversations.copy().values(), None])

    def reply(self) -> Call | None:
        conversation, key = self._conversation(), self.key()
        text = planted(f"{self.name} answers {key}")
        return conversation and ("chat.send", {"text": text, "message_key": key, "conversation": conversation})

    def read(self) -> Call | None:
        conversation = self._conversation()
        return conversation and ("chat.mark_read", {"conversation": conversation, "up_to": self.chance.randint(0, 99)})

    def look(self) -> Call | None:
        """Which also unlocks it after wrong codes."""
        known = self.one(self.board.recent())
        return known and ("order.get", {"order": known["order"]})


class Courier(Work):
    def __call__(self) -> Call:
        return self.some({self.out: 3, self.deliver: 6, self.fail: 1, self.wait: 1})

    def _mine(self, status: str) -> dict[str, Any] | None:
        return self.one([one for one in self.board.recent(status) if one["courier"] == COURIER])

    def out(self) -> Call | None:
        known = self._mine("packed")
        return known and ("order.advance", {"order": known["order"], "status": "out_for_delivery"})

    def deliver(self) -> Call | None:
        known = self._mine("out_for_delivery")
        if known is None or known["order"] not in self.board.codes:
            return None
        code = self.board.codes[known["order"]] if self.chance.random() < 0.8 else "wrong!"
        return "delivery.confirm", {"order": known["order"], "code": code}

    def fail(self) -> Call | None:
        known = self._mine("out_for_delivery")
        note = planted("nobody at home")
        return known and ("order.advance", {"order": known["order"], "status": "packed", "note": note})

    def wait(self) -> Call:
        return "account.update", {"name": planted("Kim")}


class Worker(threading.Thread):
    """One connection of somebody at work, until it ends under them. answered: counts over all of them."""

    def __init__(self, client: WireClient, work: Work, answered: threading.Semaphore) -> None:
        super().__init__()
        self.deeds: list[Deed] = []
        self.surprise: Exception | None = None
        self._client = client
        self._work = work
        self._answered = answered

    def run(self) -> None:
        try:
            while True:
                calls = [self._work() for _ in range(self._work.chance.randint(1, PIPELINED))]
                deeds = [Deed(self._work.name, method, params) for method, params in calls]
                self.deeds += deeds
                for number, deed in zip(self._client.send_all(*calls), deeds, strict=True):
                    answer(self._client, number, deed, self._work.board)
                    self._answered.release()
        except ConnectionEnded:
            pass  # as planned
        except Exception as error:  # noqa: BLE001 -- raised again on the test's thread
            self.surprise = error


def answer(client: WireClient, number: int, deed: Deed, board: Board) -> None:
    try:
        deed.answer = client.answer(number)
        board.note(deed)
    except Refused as refused:
        if refused.reason not in EXPECTED[deed.method]:
            raise
        deed.refused = refused.reason


def crash_at_work(server: ServerProcess, ring: RingOf, board: Board, chance: random.Random) -> list[Deed]:
    """All that was asked until the kill."""

    def dice() -> random.Random:
        return random.Random(chance.getrandbits(64))

    crew: list[Work] = [Customer(board, name, dice(), settled=number == 0) for name in CUSTOMERS for number in (0, 1)]
    crew += [Agent(board, name, dice()) for name in AGENTS]
    crew.append(Courier(board, COURIER, dice()))
    answered = threading.Semaphore(0)
    workers = [Worker(log_in(server, work.name, ring(work.name)), work, answered) for work in crew]
    for worker in workers:
        worker.start()
    for _ in range(chance.randint(1, 500)):
        assert answered.acquire(timeout=30)
    # An answer follows a commit: without this the kill would always hit the same moment behind one.
    threading.Event().wait(chance.uniform(0, 0.02))
    server.kill()
    for worker in workers:
        worker.join()
        if worker.surprise is not None:
            raise worker.surprise
    return [deed for worker in workers for deed in worker.deeds]


def repeat_what_is_open(
    server: ServerProcess, ring: RingOf, deeds: list[Deed], board: Board, chance: random.Random
) -> None:
    """As their programs do: what has a key is asked again until it is answered, and some that was answered, too."""
    clients: dict[str, WireClient] = {}
    for deed in deeds:
        if deed.method not in REPEATABLE or not (deed.open or (deed.answer and chance.random() < 0.05)):
            continue
        if deed.who not in clients:
            clients[deed.who] = log_in(server, deed.who, ring(deed.who))
        number = clients[deed.who].send(deed.method, **deed.params)
        if deed.open:
            answer(clients[deed.who], number, deed, board)
        else:
            again = clients[deed.who].answer(number)
            kept = ("order", "placed_at", "delivery_code") if deed.method == "order.place" else tuple(again)
            assert {name: again[name] for name in kept} == {name: deed.answer[name] for name in kept}
    for client in clients.values():
        client.close()


@pytest.mark.timeout(300)
def test_the_whole_shop_survives_twenty_kills(start_server: StartServer, ring: RingOf, record_property: Record) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it with a failure
    chance = random.Random(seed)
    server = start_server(stock=STOCK)
    books = Books(server.database)
    staff = [(COURIER, "courier"), *((name, "agent") for name in AGENTS)]
    all_at_once(staff, lambda one: server.create_account(*one))
    board = Board()
    deeds: list[Deed] = []
    open_at_a_kill = 0

    for _ in range(CRASHES):
        done = crash_at_work(server, ring, board, chance)
        open_at_a_kill += sum(deed.open for deed in done)
        server.check_log()
        server.start()
        assert books.faults(STOCK) == []
        repeat_what_is_open(server, ring, done, board, chance)
        deeds += done

    clients = {name: log_in(server, name, ring(name)) for name in (*CUSTOMERS, *AGENTS, COURIER)}
    check_orders(books, clients, deeds)
    check_messages(clients, board, deeds)
    check_accounts(clients, deeds)
    for client in clients.values():
        client.close()
    assert books.faults(STOCK) == []
    assert "whole" in server.admin("audit", "verify")
    assert server.stop()[0] == 0
    assert books.damage() == []
    answered = Counter(deed.method for deed in deeds if deed.answer is not None)
    statuses = dict(books.rows("SELECT status, count(*) FROM orders GROUP BY status"))
    reasons = dict(books.rows("SELECT reason, count(*) FROM points_ledger GROUP BY reason"))
    assert answered.keys() == EXPECTED.keys()
    assert statuses.keys() == NEXT.keys()
    assert reasons.keys() == {"earned", "redeemed", "reversed", "returned"}
    assert open_at_a_kill > 0
    record_property("acknowledged", sum(answered.values()))
    record_property("unanswered_at_a_kill", open_at_a_kill)
    record_property("messages", answered["chat.send"])
    record_property("orders", statuses)


def check_orders(books: Books, clients: dict[str, WireClient], deeds: list[Deed]) -> None:
    """Each acknowledged order is there once, as it was acknowledged or as it could become from there."""
    placed = {
        (deed.who, deed.params["idempotency_key"]): deed.answer["order"]
        for deed in deeds
        if deed.method == "order.place" and deed.answer is not None
    }
    assert books.orders() == placed  # and nothing that nobody asked for
    assert len(set(placed.values())) == len(placed)
    now = {}
    for name in CUSTOMERS:
        listed = every(clients[name], "order.list")
        assert [one["order"] for one in listed] == sorted(
            (number for (who, _), number in placed.items() if who == name), reverse=True
        )
        now |= {one["order"]: one for one in listed}

    newest: dict[int, int] = defaultdict(int)
    open_changes: Counter[int] = Counter()
    for deed in deeds:
        if deed.answer is not None and "lines" in deed.answer:
            check_later(deed.answer, now[deed.answer["order"]])
            number = deed.answer["order"]
            newest[number] = max(newest[number], deed.answer["version"])
        elif deed.open and deed.method in ("order.update", "order.cancel", "order.advance", "delivery.confirm"):
            open_changes[deed.params["order"]] += 1
    for number, one in now.items():
        assert one["version"] - newest[number] <= open_changes[number], one
        path = [entry["status"] for entry in one["history"]]
        assert (path[0], path[-1], len(path)) == ("placed", one["status"], one["version"])
        assert all(after in NEXT[before] for before, after in itertools.pairwise(path)), one


def check_later(acknowledged: dict[str, Any], now: dict[str, Any]) -> None:
    seen = {name: value for name, value in acknowledged.items() if name != "delivery_code"}
    later = {name: value for name, value in now.items() if name != "delivery_code"}
    assert later["version"] >= seen["version"]
    if later["version"] == seen["version"]:
        assert later == seen
    entries = len(seen["history"])
    assert later["history"][:entries] == seen["history"]
    assert (later["account"], later["placed_at"]) == (seen["account"], seen["placed_at"])
    if not any(entry["status"] == "placed" for entry in later["history"][entries:]):  # no edit since
        for name in ("lines", "subtotal", "discount", "total", "address", "points_earned", "points_redeemed"):
            assert later[name] == seen[name]


def check_messages(clients: dict[str, WireClient], board: Board, deeds: list[Deed]) -> None:
    """Each acknowledged message is at its sequence, each that was sent is there once, and no other."""
    sent = {deed.params["message_key"]: deed for deed in deeds if deed.method == "chat.send" and not deed.refused}
    found = 0
    for customer, number in board.conversations.items():
        history = every(clients[customer], "chat.history")
        assert every(clients["sam"], "chat.history", conversation=number) == history
        assert [message["sequence"] for message in history] == list(range(1, len(history) + 1))
        for message in history:
            assert message == sent[message["message_key"]].answer
            assert message["text"] == sent[message["message_key"]].params["text"]
        found += len({message["message_key"] for message in history})
    assert found == len(sent)


def check_accounts(clients: dict[str, WireClient], deeds: list[Deed]) -> None:
    """Each balance is what its ledger sums up to, each address the last that was acknowledged, or one nobody knows."""
    for name, client in clients.items():
        account = client.call("account.get")
        ledger = every(client, "rewards.history")
        assert account["points"] == client.call("rewards.get")["points"] == sum(entry["points"] for entry in ledger)
        assert [entry["entry"] for entry in ledger] == list(range(len(ledger), 0, -1))
        if name in CUSTOMERS:
            counting = [one for one in every(client, "order.list") if one["status"] not in ("cancelled", "returned")]
            assert account["order_count"] == len(counting)
            possible: set[str] = set()
            for deed in deeds:
                if (deed.who, deed.method) == (name, "account.update"):
                    possible = {deed.params["address"]} if deed.answer else possible | {deed.params["address"]}
            assert not possible or account["address"] in possible
