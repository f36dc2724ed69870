"""Logins by password: bounded in memory, and in number."""

import select
import time
from collections import Counter

import pytest
from end_to_end.customers import Enter, Record, RingOf, StartServer, Witness, all_at_once, refusal
from wire_client import WireClient

OPTIONAL = {"server": {"client_certificates": "optional"}}
RIGHT, WRONG = "a right good passphrase", "not the passphrase"
MIB = 1024  # KiB


@pytest.mark.timeout(300)
def test_two_hundred_logins_at_once_stay_below_a_gibibyte(
    start_server: StartServer, ring: RingOf, enter: Enter, record_property: Record
) -> None:
    """A busy office logs in, and somebody else guesses: who is right gets in, who is wrong is told so 60 times."""
    limits = limited(address=allowance(60), name_and_address=allowance(5))
    server = start_server(limits, stock={"CPU-1": 100_000}, real=True)
    names = [f"user-{number}" for number in range(20)]
    with WireClient.connect(server.address, ring(None)) as client:
        for name in names:
            client.call("account.create", username=name, password=RIGHT)
    before = server.memory_kib()
    office = [(WireClient.connect(server.address, ring(None), source="127.0.2.1"), name, RIGHT) for name in 3 * names]
    guesses = [(WireClient.connect(server.address, ring(None), source="127.0.2.2"), name, WRONG) for name in 7 * names]
    for client, _, _ in office + guesses:
        client.patience_seconds = 200.0  # two at a time: the last waits for them all

    def log_in(login: tuple[WireClient, str, str]) -> tuple[str, str | None]:
        client, name, password = login
        return password, outcome(client, name, password)

    with Witness(enter(server, "good")) as witness:
        began = time.monotonic()
        outcomes = Counter(all_at_once(office + guesses, log_in))
        seconds = time.monotonic() - began
    peak = server.memory_kib()

    assert outcomes == {(RIGHT, None): 60, (WRONG, "bad_credentials"): 60, (WRONG, "rate_limited"): 80}
    record_property("seconds", round(seconds, 1))
    record_property("peak_mib", peak // MIB)
    record_property("before_mib", before // MIB)
    record_property("longest_order_beside_seconds", round(witness.longest, 3))
    assert peak < 1024 * MIB


def test_logins_do_not_hold_up_customers_who_read(
    start_server: StartServer, ring: RingOf, enter: Enter, record_property: Record
) -> None:
    """Nobody needs an account to make the server hash: that must not be at the cost of those who have one."""
    server = start_server(OPTIONAL, stock={"CPU-1": 100})
    customer = enter(server, "reader")
    strangers = [WireClient.connect(server.address, ring(None), source=f"127.0.2.{1 + n % 4}") for n in range(24)]
    for number, stranger in enumerate(strangers):
        stranger.send("account.login", username=f"nobody-{number}", password=WRONG)

    began = time.monotonic()
    assert customer.call("catalog.list")["items"]
    seconds = time.monotonic() - began

    still_waiting = sum(not answered(stranger) for stranger in strangers)
    record_property("read_seconds", round(seconds, 3))
    assert still_waiting > len(strangers) // 2, f"the catalog came after {seconds:.1f} s, when most logins were done"


def answered(client: WireClient) -> bool:
    """Whether something has arrived that the client has not read yet."""
    return bool(select.select([client.socket], [], [], 0)[0])


def outcome(client: WireClient, name: str, password: str) -> str | None:
    refused = refusal(lambda: client.call("account.login", username=name, password=password))
    if refused is None:
        return None
    if refused.reason == "rate_limited":
        assert refused.code == 1429
        assert refused.data["retry_after"] >= 1
    return refused.reason


def allowance(burst: int) -> dict[str, float]:
    """So slow that nothing comes back within a test."""
    return {"burst": burst, "seconds": 3_600.0}


def limited(**logins: dict[str, float]) -> dict[str, dict[str, object]]:
    return {**OPTIONAL, "accounts": {"logins": logins}}


@pytest.fixture
def wrong_again() -> tuple[str, ...]:
    return ("bad_credentials",) * 3 + ("rate_limited",) * 2


def test_one_account_is_guessed_at_from_one_address_a_few_times_only(
    start_server: StartServer, ring: RingOf, wrong_again: tuple[str, ...]
) -> None:
    server = start_server(limited(name_and_address=allowance(3)))
    with WireClient.connect(server.address, ring(None), source="127.0.2.1") as owner:
        owner.call("account.create", username="target", password=RIGHT)
        owner.call("account.create", username="neighbour", password=RIGHT)
        with WireClient.connect(server.address, ring(None), source="127.0.2.2") as guesser:
            assert tuple(outcome(guesser, "target", WRONG) for _ in range(5)) == wrong_again
            assert outcome(guesser, "target", RIGHT) == "rate_limited"  # even a hit stays hidden
            assert outcome(guesser, "neighbour", RIGHT) is None
        with WireClient.connect(server.address, ring(None), source="127.0.2.2") as again:
            assert outcome(again, "target", WRONG) == "rate_limited"  # a new connection forgives nothing
        assert outcome(owner, "target", RIGHT) is None


def test_one_address_guesses_a_few_times_only_whatever_the_name(
    start_server: StartServer, ring: RingOf, wrong_again: tuple[str, ...]
) -> None:
    server = start_server(limited(address=allowance(3)))
    with (
        WireClient.connect(server.address, ring(None), source="127.0.2.1") as guesser,
        WireClient.connect(server.address, ring(None), source="127.0.2.2") as neighbour,
    ):
        assert tuple(outcome(guesser, f"name-{number}", WRONG) for number in range(5)) == wrong_again
        assert outcome(neighbour, "name-9", WRONG) == "bad_credentials"


def test_one_account_is_guessed_at_from_many_addresses_a_few_times_only(
    start_server: StartServer, ring: RingOf, wrong_again: tuple[str, ...]
) -> None:
    """And its owner, where he has logged in from before, does not notice."""
    server = start_server(limited(name=allowance(3)))
    with WireClient.connect(server.address, ring(None), source="127.0.2.100") as owner:
        owner.call("account.create", username="target", password=RIGHT)
        assert outcome(owner, "target", RIGHT) is None
        guesses = []
        for number in range(5):
            with WireClient.connect(server.address, ring(None), source=f"127.0.2.{1 + number}") as guesser:
                guesses.append(outcome(guesser, "target", WRONG))
        assert tuple(guesses) == wrong_again
        assert outcome(owner, "target", RIGHT) is None


def test_accounts_without_certificate_are_made_a_few_at_a_time(start_server: StartServer, ring: RingOf) -> None:
    server = start_server(limited(creations=allowance(2)))
    with WireClient.connect(server.address, ring(None)) as client:
        for name in ("first", "second"):
            client.call("account.create", username=name, password=RIGHT)
        refused = refusal(lambda: client.call("account.create", username="third", password=RIGHT))
        assert (refused.code, refused.reason) == (1429, "rate_limited")
