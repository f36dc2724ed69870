"""How often a login may be tried.

Three buckets, each of which fills up again with time, so that nobody is locked out for good:

- an address: whoever tries many names;
- a name from everywhere: whoever guesses one password from many addresses;
- a name from one address: whoever guesses it from there.

A stranger can empty the first two on purpose. So they do not count for a name and an address that have been right
together before: there only the third one does, which nobody else can empty who does not share the address. (One who
does can make the owner wait for a minute at a time; a login by certificate is not limited at all.) A success gives
back what it took and empties the name's counts. State lives in memory: a restart forgives.
"""

import ipaddress
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime

import msgspec

from securedelivery.errors import Reason, Refusal
from securedelivery.model import USERNAME

REMEMBERED = 50_000
"""Buckets of a kind, and addresses known as an owner's. Beyond, the one longest unused goes: some 10 MiB at the
most."""


class Allowance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """burst: attempts at once, seconds: until one more is allowed."""

    burst: int
    seconds: float

    def __post_init__(self) -> None:
        if self.burst < 1 or not 0 < self.seconds <= 86_400:  # noqa: PLR2004 -- a day
            raise ValueError("burst is at least 1, seconds are above 0 and at most a day (86400)")


class Buckets:
    """A bucket of attempts for each key. Not safe for threads by itself. clock: seconds, steadily growing."""

    def __init__(self, allowance: Allowance, clock: Callable[[], float], remembered: int = REMEMBERED) -> None:
        self._allowance = allowance
        self._clock = clock
        self._remembered = remembered
        # When the bucket will be full again; a key without an entry is full.
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def wait(self, key: Hashable) -> float:
        """Seconds until an attempt is allowed; 0 for now."""
        used_up = self._full_at.get(key, 0.0) - self._clock() - (self._allowance.burst - 1) * self._allowance.seconds
        return max(0.0, used_up)

    def take(self, key: Hashable) -> None:
        self._full_at[key] = max(self._full_at.get(key, 0.0), self._clock()) + self._allowance.seconds
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._remembered:
            self._full_at.popitem(last=False)

    def give_back(self, key: Hashable) -> None:
        if key in self._full_at:
            self._full_at[key] -= self._allowance.seconds

    def clear(self, key: Hashable) -> None:
        self._full_at.pop(key, None)


class LoginLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: Allowance = Allowance(60, 5)
    """Failures from one address (IPv6: one /64), whatever the name. An office behind one address has many who
    mistype."""

    name_and_address: Allowance = Allowance(5, 60)
    """Failures for one name from one address."""

    name: Allowance = Allowance(50, 30)
    """Failures for one name from all addresses that its owner has not logged in from."""

    creations: Allowance = Allowance(100, 30)
    """Accounts made from one address without a certificate: each costs an Argon2, and tells whether a name is taken."""


class LoginAttempts:
    """Ask attempt() before each login, and call succeeded() after a good one. Safe for threads."""

    def __init__(self, limits: LoginLimits, clock: Callable[[], datetime]) -> None:
        def seconds() -> float:
            return clock().timestamp()

        self._addresses = Buckets(limits.address, seconds)
        self._pairs = Buckets(limits.name_and_address, seconds)
        self._names = Buckets(limits.name, seconds)
        self._creations = Buckets(limits.creations, seconds)
        self._owners: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def attempt(self, username: str, remote: str) -> None:
        """Count an attempt, or raise Refusal `rate_limited`, which counts nothing."""
        address = network(remote)
        name = username if USERNAME.fullmatch(username) else ""  # no account has such a name: one bucket for them all
        pair = (name, address)
        with self._lock:
            buckets: list[tuple[Buckets, Hashable]] = [(self._pairs, pair)]
            if pair not in self._owners:
                buckets += [(self._addresses, address), (self._names, name)]
            _take_all(buckets)

    def succeeded(self, username: str, remote: str) -> None:
        address = network(remote)
        pair = (username, address)
        with self._lock:
            if pair not in self._owners:
                self._addresses.give_back(address)
            self._pairs.clear(pair)
            self._names.clear(username)
            self._owners[pair] = None
            self._owners.move_to_end(pair)
            if len(self._owners) > REMEMBERED:
                self._owners.popitem(last=False)

    def creation(self, remote: str) -> None:
        """Count an account made without a certificate, or raise Refusal `rate_limited`."""
        with self._lock:
            _take_all([(self._creations, network(remote))])


def _take_all(buckets: list[tuple[Buckets, Hashable]]) -> None:
    wait = max(bucket.wait(key) for bucket, key in buckets)
    if wait > 0:
        seconds = max(1, math.ceil(wait))
        raise Refusal(Reason.RATE_LIMITED, f"too many attempts; again in {seconds} s", retry_after=seconds)
    for bucket, key in buckets:
        bucket.take(key)


def network(remote: str) -> str:
    """What counts as one address: an IPv4 address, or an IPv6 /64, which is what one customer of a provider has."""
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
