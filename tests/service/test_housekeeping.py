"""Chores, each in its turn, on a thread that ends when it is told to. Every wait is for an event, with a bound."""

import threading
from collections.abc import Callable

import pytest

from securedelivery.service.housekeeping import QUIET_SECONDS, Chore, Housekeeper

BOUND = 20.0
OFTEN, SELDOM = 0.001, 3600.0


class Counted:
    """A chore that counts its runs. fails: whether this one does."""

    def __init__(self, fails: Callable[[int], bool] = lambda _run: False) -> None:
        self.runs = 0
        self._fails = fails
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.runs += 1
            self._changed.notify_all()
            if self._fails(self.runs):
                raise ValueError(f"run {self.runs}")

    def reached(self, runs: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.runs >= runs, BOUND)


def housekeepers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "housekeeper"]


def test_each_at_the_start_and_then_in_its_turn() -> None:
    often, seldom = Counted(), Counted()
    housekeeper = Housekeeper(Chore("seldom", SELDOM, seldom), Chore("often", OFTEN, often))
    assert housekeepers() == []
    housekeeper.start()
    assert often.reached(5)
    assert seldom.runs == 1
    housekeeper.stop()
    assert housekeepers() == []
    runs = often.runs
    housekeeper.stop()  # again does nothing
    assert often.runs == runs


def test_stop_before_start() -> None:
    run = Counted()
    Housekeeper(Chore("chore", OFTEN, run)).stop()
    assert run.runs == 0


def test_stop_does_not_wait_for_what_is_due_later_but_for_what_is_being_done() -> None:
    begun, may_end = threading.Event(), threading.Event()
    done = Counted()
    last = Counted()

    def long() -> None:
        begun.set()
        assert may_end.wait(BOUND)
        done()

    housekeeper = Housekeeper(Chore("long", SELDOM, long), Chore("behind it", SELDOM, last))
    housekeeper.start()
    assert begun.wait(BOUND)
    stopper = threading.Thread(target=housekeeper.stop)
    stopper.start()
    assert housekeeper._stopping.wait(BOUND)
    assert stopper.is_alive()
    may_end.set()
    stopper.join(BOUND)
    assert not stopper.is_alive()
    assert (done.runs, last.runs) == (1, 0)


def test_one_that_fails_is_tried_again_and_keeps_no_other_from_being_done() -> None:
    shaky, steady = Counted(fails=lambda run: run < 4), Counted()
    housekeeper = Housekeeper(Chore("shaky", OFTEN, shaky), Chore("steady", OFTEN, steady))
    housekeeper.start()
    assert shaky.reached(6)
    assert steady.reached(6)
    housekeeper.stop()


def test_failures_are_logged_with_the_name_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    seconds = iter(range(10**9))
    clock = lambda: float(next(seconds))  # each look at it is a second later
    shaky, other = Counted(fails=lambda _run: True), Counted(fails=lambda run: run == 1)
    housekeeper = Housekeeper(Chore("shaky", 0, shaky), Chore("other", 0, other), clock=clock)
    housekeeper.start()
    assert shaky.reached(60)
    housekeeper.stop()
    elapsed = next(seconds)
    records = [record for record in caplog.records if "shaky" in record.getMessage()]
    assert 2 <= len(records) <= elapsed / QUIET_SECONDS + 1
    assert records[0].exc_info is not None
    assert "run 1" in str(records[0].exc_info[1])
    assert [record.getMessage() for record in caplog.records if "other" in record.getMessage()] == [
        "! the chore 'other' has failed; it will be tried again"
    ]
