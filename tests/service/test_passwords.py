"""Which passwords are taken, and how they are kept."""

import threading
import time

import pytest
from argon2 import Parameters
from argon2.exceptions import InvalidHashError
from argon2.profiles import RFC_9106_LOW_MEMORY
from service.shop import CHEAP

from securedelivery.errors import Reason, Refusal
from securedelivery.service.passwords import Passwords, check_acceptable


def test_a_password_is_known_again() -> None:
    passwords = Passwords(profile=CHEAP)
    stored = passwords.hash("correct horse")
    assert stored != passwords.hash("correct horse")
    assert passwords.verify(stored, "correct horse")
    assert not passwords.verify(stored, "correct horsf")
    assert not passwords.verify(None, "correct horse")
    with pytest.raises(InvalidHashError):
        passwords.verify("correct horse", "correct horse")


def test_the_profile_is_that_of_rfc_9106() -> None:
    stored = Passwords().hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert Passwords()._nobody.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert len(Passwords()._nobody) == len(stored)
    assert Passwords(profile=CHEAP).outdated(stored)
    assert not Passwords().outdated(stored)


def test_nobodys_password_takes_as_long() -> None:
    """Not timed: the same parameters are the same work."""
    passwords = Passwords(profile=RFC_9106_LOW_MEMORY)
    assert not passwords.outdated(passwords._nobody)
    assert not passwords.verify(None, "correct horse")


def test_no_more_than_some_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords(at_once=2, profile=CHEAP)
    now, most, lock = 0, 0, threading.Lock()
    go_on = threading.Event()

    class Hasher:
        def verify(self, *_: object) -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
                if now == 2:
                    go_on.set()
            assert go_on.wait(10)
            time.sleep(0.001)  # lets others in, if they could
            with lock:
                now -= 1

    monkeypatch.setattr(passwords, "_hasher", Hasher())
    threads = [threading.Thread(target=passwords.verify, args=("", "")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


@pytest.mark.parametrize(
    "password",
    ["", "short 7", "x" * 257, "password", "Password123", "PASSWORD", "12345678", "qwertyuiop", "alice-b.", "ALICE-B.",
     ".b-ecila", "alice-b.alice-b.", "aaaaaaaaaaaa", "abababab", "iloveyou", "geforce2025"],
)  # fmt: skip
def test_passwords_that_are_not_taken(password: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_acceptable(password, "alice-b.")
    assert (refused.value.reason, refused.value.data) == (Reason.INVALID_PARAMS, {"path": "/password"})


@pytest.mark.parametrize("password", ["correct horse", "x7#kQ2!z", "пароль из слов", "x" * 250 + "abcdef"])
def test_passwords_that_are(password: str) -> None:
    check_acceptable(password, "alice")


def test_parameters_are_used() -> None:
    profile = Parameters(
        type=CHEAP.type, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=16, parallelism=1
    )
    assert "m=16,t=2,p=1" in Passwords(profile=profile).hash("correct horse")
