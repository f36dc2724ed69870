"""How often a login may be tried."""

import pytest
from service.shop import Clock

from securedelivery.errors import Reason, Refusal
from securedelivery.service import attempts
from securedelivery.service.attempts import Allowance, Buckets, LoginAttempts, LoginLimits, network

HOME, OFFICE = "192.0.2.1", "198.51.100.7"
LIMITS = LoginLimits(
    address=Allowance(10, 5), name_and_address=Allowance(3, 60), name=Allowance(8, 30), creations=Allowance(2, 100)
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(clock: Clock) -> LoginAttempts:
    return LoginAttempts(LIMITS, clock)


def wait(logins: LoginAttempts, name: str, remote: str) -> int:
    """retry_after of an attempt, 0 for one that is allowed."""
    try:
        logins.attempt(name, remote)
    except Refusal as refusal:
        refused = refusal
    else:
        return 0
    assert refused.reason is Reason.RATE_LIMITED
    seconds = refused.data["retry_after"]
    assert isinstance(seconds, int)
    return seconds


def test_guessing_one_password(logins: LoginAttempts, clock: Clock) -> None:
    assert [wait(logins, "alice", HOME) for _ in range(5)] == [0, 0, 0, 60, 60]
    assert wait(logins, "bob", HOME) == 0
    assert wait(logins, "alice", OFFICE) == 0
    clock.forward(seconds=59.5)
    assert wait(logins, "alice", HOME) == 1
    clock.forward(seconds=0.5)
    assert [wait(logins, "alice", HOME) for _ in range(2)] == [0, 60]
    clock.forward(hours=1)
    assert [wait(logins, "alice", HOME) for _ in range(4)] == [0, 0, 0, 60]


def test_trying_many_names(logins: LoginAttempts, clock: Clock) -> None:
    assert [wait(logins, f"name{n}", HOME) for n in range(11)] == [0] * 10 + [5]
    assert wait(logins, "alice", OFFICE) == 0
    clock.forward(seconds=5)
    assert wait(logins, "alice", HOME) == 0


def test_guessing_from_many_addresses_does_not_lock_out_the_owner(logins: LoginAttempts) -> None:
    logins.attempt("alice", HOME)
    logins.succeeded("alice", HOME)
    assert [wait(logins, "alice", f"203.0.113.{n}") for n in range(9)] == [0] * 8 + [30]
    assert wait(logins, "alice", OFFICE) == 30
    assert [wait(logins, "alice", HOME) for _ in range(4)] == [0, 0, 0, 60]


def test_a_success_resets_the_names_counts(logins: LoginAttempts) -> None:
    for _ in range(3):
        logins.attempt("alice", HOME)
    logins.succeeded("alice", HOME)
    assert [wait(logins, "alice", HOME) for _ in range(4)] == [0, 0, 0, 60]
    # To the address only the one that was right is given back: two of ten are gone.
    assert [wait(logins, f"name{n}", HOME) for n in range(9)] == [0] * 8 + [5]


def test_a_flood_from_the_owners_own_address_does_not_lock_out_the_owner(logins: LoginAttempts) -> None:
    logins.attempt("alice", HOME)
    logins.succeeded("alice", HOME)
    assert [wait(logins, f"name{n}", HOME) for n in range(11)] == [0] * 10 + [5]
    assert wait(logins, "alice", HOME) == 0


def test_right_ones_are_not_limited(logins: LoginAttempts) -> None:
    for _ in range(100):
        logins.attempt("alice", HOME)
        logins.succeeded("alice", HOME)


def test_names_that_cannot_be_share_a_bucket(logins: LoginAttempts) -> None:
    assert [wait(logins, name, HOME) for name in ("", "A", "x" * 500, "Alice")] == [0, 0, 0, 60]
    assert set(logins._pairs._full_at) == {("", HOME)}


def test_creations(logins: LoginAttempts) -> None:
    for _ in range(2):
        logins.creation(HOME)
    with pytest.raises(Refusal) as refused:
        logins.creation(HOME)
    assert refused.value.data == {"retry_after": 100}
    logins.creation(OFFICE)


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = Buckets(Allowance(1, 60), lambda: clock().timestamp(), remembered=3)
    for key in "abcd":
        buckets.take(key)
    assert list(buckets._full_at) == ["b", "c", "d"]
    buckets.give_back("a")
    buckets.clear("a")
    assert buckets.wait("a") == 0
    assert buckets.wait("b") == pytest.approx(60)

    monkeypatch.setattr(attempts, "REMEMBERED", 2)
    logins = LoginAttempts(LIMITS, clock)
    for name in ("ada", "bob", "cy1"):
        logins.succeeded(name, HOME)
    assert list(logins._owners) == [("bob", HOME), ("cy1", HOME)]


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_address(remote: str, counted: str) -> None:
    assert network(remote) == counted


@pytest.mark.parametrize(("burst", "seconds"), [(0, 1), (1, 0), (1, -1), (1, 86_401), (1, float("nan"))])
def test_allowances_that_make_no_sense(burst: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="burst is at least 1"):
        Allowance(burst, seconds)
