"""Requests sent behind one another, without waiting."""

from end_to_end.customers import ADDRESS, Enter, RingOf, order, refusal
from end_to_end.server_process import ServerProcess
from wire_client import WireClient


def test_auth_and_forty_requests_in_one_segment_are_answered_in_order(server: ServerProcess, ring: RingOf) -> None:
    placed = [("order.place", order(f"key-{number}", CPU_1=1)) for number in range(12)]
    requests = [
        ("account.create", {"username": "hasty", "address": ADDRESS}),
        ("account.get", {}),
        *placed,
        ("system.ping", {}),
        ("order.list", {"limit": 200}),
        *[("system.info", {}), ("catalog.get", {"sku": "CPU-1"})] * 12,
    ]
    assert len(requests) == 40  # more than the 32 that may be unanswered: the server stops reading, and goes on
    client = WireClient(server.address, ring("hasty"))
    client.start_tls()
    client.start_noise()

    ids = client.authenticate(*requests)
    answers = [client.answer(number) for number in ids]

    assert client.arrivals[0] == "system.welcome"
    assert [one for one in client.arrivals if isinstance(one, int)] == ids
    assert answers[0] == answers[1]
    numbers = [answer["order"] for answer in answers[2:14]]
    assert numbers == sorted(set(numbers))
    assert [one["order"] for one in answers[15]["items"]] == numbers[::-1]


def test_a_list_behind_an_order_holds_the_order(server: ServerProcess, enter: Enter) -> None:
    client = enter(server, "reader")
    for turn in range(30):
        place, listing, show = client.send_all(
            ("order.place", order(f"key-{turn}", CPU_1=1)), ("order.list", {"limit": 1}), ("account.get", {})
        )
        placed = client.answer(place)
        assert client.answer(listing)["items"] == [placed]
        assert client.answer(show)["order_count"] == turn + 1


def test_requests_behind_a_logout_are_nobodys(server: ServerProcess, enter: Enter) -> None:
    client = enter(server, "leaver")
    _, after, again, back = client.send_all(
        ("account.logout", {}), ("account.get", {}), ("account.login_certificate", {}), ("account.get", {})
    )
    assert refusal(lambda: client.answer(after)).reason == "not_logged_in"
    assert client.answer(again)["username"] == "leaver"
    assert client.answer(back)["username"] == "leaver"
