"""One thread, one commit for many commands, and every command its own answer."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from securedelivery.errors import Reason, Refusal, StoreError
from securedelivery.store import products, writer
from securedelivery.store.engine import Database, Transaction
from securedelivery.store.products import ProductRow


def add(tx: Transaction, numbers: Sequence[int]) -> list[int | Refusal]:
    """Adds a product of each number; refuses 913; breaks at 666, after it has written."""
    outcomes: list[int | Refusal] = []
    for number in numbers:
        tx.publish(f"added {number}")
        if number == 913:
            outcomes.append(Refusal(Reason.FORBIDDEN, "not that number"))
            continue
        products.add(tx, [ProductRow(number, f"SKU-{number}", "A name", "", 100, 1, True)])
        if number == 666:
            raise RuntimeError("a bug")
        outcomes.append(number * 10)
    return outcomes


def other(tx: Transaction, numbers: Sequence[int]) -> list[int]:
    tx.publish("other")
    return [-number for number in numbers]


def short(tx: Transaction, numbers: Sequence[int]) -> list[int]:
    return list(numbers)[1:]


def all_numbers(database: Database) -> list[int]:
    with database.read() as tx:
        return [row.id for row in products.everything(tx)]


class Answers:
    """Collects what done() is called with; wait() gives it when all have come."""

    def __init__(self) -> None:
        self.got: dict[int, object] = {}
        self.order: list[object] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def to(self, key: int) -> Callable[[object], None]:
        def done(outcome: object) -> None:
            with self._changed:
                self.got[key] = outcome
                self.order.append(("answer", key))
                self.threads.add(threading.current_thread().name)
                self._changed.notify()

        return done

    def wait(self, count: int) -> dict[int, object]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) == count, 10)
        return self.got


class Gate:
    """A first command that holds the writer until open(), so that what is submitted meanwhile queues up."""

    def __init__(self, database: Database) -> None:
        self._inside, self._open = threading.Event(), threading.Event()
        self._database = database

    def __enter__(self) -> None:
        self._database.writer.submit(self._hold, None, lambda _: None)
        assert self._inside.wait(10)

    def __exit__(self, *_: object) -> None:
        self._open.set()

    def _hold(self, _tx: Transaction, commands: Sequence[None]) -> list[None]:
        self._inside.set()
        assert self._open.wait(10)
        return [None for _ in commands]


def test_a_command_is_answered_after_the_commit(database: Database) -> None:
    seen: list[list[int]] = []
    answered = threading.Event()

    def done(outcome: int | BaseException) -> None:
        assert outcome == 10
        seen.append(all_numbers(database))
        answered.set()

    database.writer.submit(add, 1, done)
    assert answered.wait(10)
    assert seen == [[1]]


def test_call_gives_the_result_or_raises(database: Database) -> None:
    assert database.writer.call(add, 1) == 10
    with pytest.raises(Refusal, match="not that number"):
        database.writer.call(add, 913)
    with pytest.raises(RuntimeError, match="a bug"):
        database.writer.call(add, 666)
    with pytest.raises(sqlite3.IntegrityError):
        database.writer.call(add, 1)
    assert all_numbers(database) == [1]


def test_the_writer_does_not_wait_for_itself(database: Database) -> None:
    def nested(tx: Transaction, commands: Sequence[None]) -> list[int]:
        return [database.writer.call(add, 1) for _ in commands]

    with pytest.raises(AssertionError, match="cannot wait for itself"):
        database.writer.call(nested, None)


def test_what_queues_up_is_one_transaction(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    control = Transaction.control
    monkeypatch.setattr(Transaction, "control", lambda tx, command: (commands.append(command), control(tx, command)))
    answers = Answers()
    with Gate(database):
        commands.clear()
        for number in range(1, 101):
            database.writer.submit(add, number, answers.to(number))
    assert answers.wait(100) == {number: number * 10 for number in range(1, 101)}
    assert [command for command in commands if "SAVEPOINT" not in command and "RELEASE" not in command] == [
        "COMMIT",  # the gate's
        "BEGIN IMMEDIATE",
        "COMMIT",
    ]
    assert answers.threads == {"writer"}


def test_a_transaction_is_bounded(database: Database) -> None:
    sizes: list[int] = []

    def count(tx: Transaction, commands: Sequence[int]) -> Sequence[int]:
        sizes.append(len(commands))
        return commands

    answers = Answers()
    with Gate(database):
        for number in range(600):
            database.writer.submit(count, number, answers.to(number))
    assert answers.wait(600) == {number: number for number in range(600)}
    assert sizes == [256, 256, 88]


def test_one_that_fails_in_a_batch_fails_alone(database: Database) -> None:
    answers = Answers()
    events: list[object] = []
    told = threading.Event()
    database.writer.on_commit = lambda happened: (events.extend(happened), told.set())
    with Gate(database):
        for key, (batch, number) in enumerate(
            [(add, 1), (add, 913), (add, 666), (add, 2), (other, 7), (add, 3), (short, 1)]
        ):
            database.writer.submit(batch, number, answers.to(key))
    got = answers.wait(7)
    assert [got[key] for key in (0, 3, 4, 5)] == [10, 20, -7, 30]
    assert isinstance(got[1], Refusal)
    assert isinstance(got[2], RuntimeError)
    assert isinstance(got[6], AssertionError)
    assert all_numbers(database) == [1, 2, 3]
    # The events of what was rolled back are gone, the others in order. (A Refusal is no rollback: what a batch function
    # publishes for one is its own affair.)
    assert told.wait(10)
    assert events == ["added 1", "added 913", "added 2", "other", "added 3"]


def test_events_come_after_the_answers(database: Database) -> None:
    answers = Answers()
    told = threading.Event()
    database.writer.on_commit = lambda events: (answers.order.append(tuple(events)), told.set())
    with Gate(database):
        for number in (1, 2):
            database.writer.submit(add, number, answers.to(number))
    assert told.wait(10)
    assert answers.order == [("answer", 1), ("answer", 2), ("added 1", "added 2")]


def test_a_listener_that_fails_stops_nobody(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("nobody home")

    database.writer.on_commit = broken
    database.writer.submit(add, 1, broken)
    assert database.writer.call(add, 2) == 20
    assert database.writer.call(other, 3) == -3
    messages = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert messages.count("! the answer to a command was not delivered") == 1
    assert "! the events of a transaction were not delivered" in messages


def test_a_commit_that_fails_is_everybodys_failure(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers()
    events: list[object] = []
    database.writer.on_commit = events.extend
    control = Transaction.control
    full = threading.Event()

    def full_disk(tx: Transaction, command: str) -> None:
        if command == "COMMIT" and full.is_set():
            full.clear()
            raise sqlite3.OperationalError("database or disk is full")
        control(tx, command)

    monkeypatch.setattr(Transaction, "control", full_disk)
    database.writer.call(add, 1)
    events.clear()
    monkeypatch.setattr(Transaction, "control", full_disk)
    with Gate(database):
        for number in (2, 913, 3):
            database.writer.submit(add, number, answers.to(number))
        database.writer.submit(lambda _, commands: [full.set() for _ in commands], None, lambda _: None)
    got = answers.wait(3)
    assert all(isinstance(outcome, StoreError) for outcome in got.values())
    assert len({id(outcome) for outcome in got.values()}) == 3
    assert "database or disk is full" in str(got[2])
    assert database.writer.call(add, 4) == 40
    assert all_numbers(database) == [1, 4]
    assert events == ["added 4"]


def test_a_rollback_of_the_whole_transaction_is_everybodys_failure(database: Database) -> None:
    """On a full disk SQLite takes back everything, the savepoint too."""

    def lose(tx: Transaction, commands: Sequence[None]) -> list[None]:
        tx.control("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    answers = Answers()
    with Gate(database):
        database.writer.submit(add, 1, answers.to(1))
        database.writer.submit(lose, None, answers.to(2))
    assert all(isinstance(outcome, StoreError) for outcome in answers.wait(2).values())
    assert all_numbers(database) == []
    assert database.writer.call(add, 1) == 10


def test_too_much_waiting_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUE", 3)
    answers = Answers()
    with Gate(database):
        for number in range(1, 6):
            database.writer.submit(add, number, answers.to(number))
        refused = dict(answers.got)
    assert set(refused) == {4, 5}
    assert all(isinstance(each, Refusal) and each.reason is Reason.UNAVAILABLE for each in refused.values())
    answers.wait(5)
    assert all_numbers(database) == [1, 2, 3]


def test_another_process_that_keeps_the_lock(database: Database) -> None:
    database.writer.call(add, 1)
    locker = sqlite3.connect(database.path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Refusal, match="in use by another program") as refused:
        database.writer.call(add, 2)
    assert refused.value.reason is Reason.UNAVAILABLE
    locker.execute("ROLLBACK")
    locker.close()
    assert database.writer.call(add, 3) == 30
    assert all_numbers(database) == [1, 3]


def test_another_process_that_is_soon_done(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer tries again, for as long as busy_seconds."""
    database.writer._busy_seconds = 10
    locker = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    locker.execute("BEGIN IMMEDIATE")
    control = Transaction.control
    tries: list[str] = []

    def unlock_after_the_first(tx: Transaction, command: str) -> None:
        tries.append(command)
        try:
            control(tx, command)
        except sqlite3.OperationalError:
            locker.execute("ROLLBACK")
            raise

    monkeypatch.setattr(Transaction, "control", unlock_after_the_first)
    assert database.writer.call(add, 1) == 10
    locker.close()
    assert tries[1:4] == ["BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "COMMIT"]


def test_a_connection_that_breaks_is_opened_again(database: Database) -> None:
    database.writer.call(add, 1)
    assert database.writer._tx is not None
    database.writer._tx._cursor.close()
    with pytest.raises(StoreError, match="nothing was written"):
        database.writer.call(add, 2)
    assert database.writer.call(add, 3) == 30


def test_closing_carries_out_what_is_queued(url: str) -> None:
    database = Database.open(url)
    answers = Answers()
    with Gate(database):
        for number in range(1, 51):
            database.writer.submit(add, number, answers.to(number))
    database.close()
    assert len(answers.got) == 50
    with pytest.raises(StoreError, match="the database is closed"):
        database.writer.call(add, 51)
    assert not any(thread.name == "writer" for thread in threading.enumerate())
    with Database.open(url) as again:
        assert all_numbers(again) == list(range(1, 51))


def test_many_threads_at_once(database: Database) -> None:
    def work(first: int) -> None:
        results.extend((number, database.writer.call(add, number)) for number in range(first, first + 50))

    results: list[tuple[int, int]] = []
    threads = [threading.Thread(target=work, args=(first,)) for first in range(1000, 1800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400
    assert all(result == number * 10 for number, result in results)


def test_a_database_that_cannot_be_reached_at_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> Transaction:
        raise sqlite3.OperationalError("unable to open database file")

    connect = database.writer._connect
    monkeypatch.setattr(database.writer, "_connect", unreachable)
    with pytest.raises(StoreError, match="nothing was written: unable to open database file"):
        database.writer.call(add, 1)
    monkeypatch.setattr(database.writer, "_connect", connect)
    assert database.writer.call(add, 2) == 20


def wait_asleep(database: Database) -> None:
    """Until the writer's thread waits for something to do."""
    deadline = time.monotonic() + 10
    while not database.writer._changed._waiters:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_is_not_to_be_done_at_once_waits_for_begin(database: Database) -> None:
    """And joins what is."""
    answers = Answers()
    writer = database.writer
    writer.begin()  # nothing waits
    for number in (1, 2):
        writer.submit(add, number, answers.to(number), at_once=False)
    wait_asleep(database)
    assert len(writer._jobs) == 2
    writer.begin()
    assert answers.wait(2) == {1: 10, 2: 20}
    writer.submit(add, 3, answers.to(3), at_once=False)
    assert writer.call(add, 4) == 40
    assert answers.wait(3) == {1: 10, 2: 20, 3: 30}


def test_what_queued_up_waits_for_a_begin_behind_the_answers(database: Database) -> None:
    """One that came before them was for what was under way."""
    answers = Answers()
    with Gate(database):
        database.writer.submit(add, 1, answers.to(1), at_once=False)
        database.writer.begin()
        delivered = threading.Event()

        @contextmanager
        def delivering() -> Iterator[None]:
            yield
            delivered.set()

        database.writer.delivering = delivering
    assert delivered.wait(10)
    wait_asleep(database)
    assert answers.got == {}
    database.writer.begin()
    assert answers.wait(1) == {1: 10}


def test_closing_carries_out_what_waits_for_begin(database: Database) -> None:
    answers = Answers()
    database.writer.submit(add, 1, answers.to(1), at_once=False)
    database.close()
    assert answers.wait(1) == {1: 10}


def test_a_full_batch_waits_for_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_BATCH", 2)
    answers = Answers()
    with Gate(database):
        for number in (1, 2, 3):
            database.writer.submit(add, number, answers.to(number), at_once=False)
    assert answers.wait(2) == {1: 10, 2: 20}
    wait_asleep(database)
    assert len(database.writer._jobs) == 1
