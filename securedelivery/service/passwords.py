"""Passwords: which are acceptable, and Argon2id within a bounded memory."""

import threading
from base64 import b64encode
from functools import cache
from importlib import resources

from argon2 import Parameters, PasswordHasher
from argon2.exceptions import VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY

from securedelivery.errors import Refusal

MIN_LENGTH, MAX_LENGTH = 8, 256
MONOTONOUS_LENGTH, MONOTONOUS_CHARACTERS = 32, 3
"""aaaaaaaa, abababab and the like stand for themselves on the list of common passwords, up to this length."""


class Passwords:
    """Hashes and verifies; blocks while `at_once` others do, because each takes the profile's memory (64 MiB).

    profile: for tests alone; the default is RFC 9106's second recommendation.
    """

    def __init__(self, *, at_once: int = 2, profile: Parameters = RFC_9106_LOW_MEMORY) -> None:
        self._hasher = PasswordHasher.from_parameters(profile)
        self._turns = threading.BoundedSemaphore(at_once)
        # Of no password: as long to verify as any other, for names that do not exist.
        salt, digest = (b64encode(bytes(size)).rstrip(b"=").decode() for size in (profile.salt_len, profile.hash_len))
        self._nobody = (
            f"$argon2id$v={profile.version}$m={profile.memory_cost},t={profile.time_cost},p={profile.parallelism}"
            f"${salt}${digest}"
        )

    def hash(self, password: str) -> str:
        """PHC form."""
        with self._turns:
            return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether this is the password. stored: PHC form, or None, which takes as long and is never right.

        A stored hash that is none is damage, and raises argon2's InvalidHashError.
        """
        with self._turns:
            try:
                self._hasher.verify(self._nobody if stored is None else stored, password)
            except VerifyMismatchError:
                return False
        return stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether it was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)


def check_acceptable(password: str, username: str, path: str = "/password") -> None:
    """Raises Refusal at `path`: too short, too long, the name itself, or one of those that are tried first."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Refusal.invalid(path, f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
    plain = password.casefold()
    if plain in (username, username[::-1], username * 2):
        raise Refusal.invalid(path, "the name is no password")
    monotonous = len(plain) <= MONOTONOUS_LENGTH and len(set(plain)) < MONOTONOUS_CHARACTERS
    if monotonous or plain in _common():
        raise Refusal.invalid(path, "this password is on the list of those that are tried first; take another")


@cache
def _common() -> frozenset[str]:
    """common_passwords.txt: one a line, in lower case, of 8 characters or more."""
    text = resources.files("securedelivery.service").joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(text.split("\n")) - {""}
