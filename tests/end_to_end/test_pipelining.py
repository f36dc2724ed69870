"""Requests sent behind one another, without waiting."""

from random import Random
from typing import Any

from end_to_end.customers import ADDRESS, Enter, RingOf, all_at_once, order, refusal
from end_to_end.server_process import ServerProcess
from wire_client import Refused, WireClient

CROWD = 16
ROUNDS = 4
EACH = 4  # of every kind of request, in a round


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


def test_in_a_crowd_every_answer_is_that_of_its_request(server: ServerProcess, enter: Enter) -> None:
    """Many connections' orders share commits; refused ones and other requests stand between them, all told apart."""
    clients = {f"crowd-{number}": enter(server, f"crowd-{number}") for number in range(CROWD)}

    def run(name: str) -> list[str]:
        client, random = clients[name], Random(name)
        wrong: list[str] = []
        for turn in range(ROUNDS):
            # Each mark occurs in one request of all, and has to come back in that one's answer.
            requests = [one for part in range(EACH) for one in marked_requests(f"{name}-{turn}-{part}", turn, part)]
            random.shuffle(requests)
            ids = client.send_all(*[(method, params) for method, params, _ in requests])
            for number, (method, params, mark) in zip(ids, requests, strict=True):
                try:
                    found = mark_of(client.answer(number))
                except Refused as refused:
                    found = (refused.reason, *mark_of(refused.data))
                if found != mark:
                    wrong.append(f"{method} {params}: {found}, not {mark}")
        return wrong

    assert [wrong for of_one in all_at_once(list(clients), run) for wrong in of_one] == []
    for name, client in clients.items():
        client.call("system.ping")
        told = [params for method, params in client.notifications if method == "order.changed"]
        assert len(told) == ROUNDS * EACH
        assert {one["account"] for one in told} == {name}


def marked_requests(mark: str, turn: int, part: int) -> list[tuple[str, dict[str, Any], tuple[object, ...]]]:
    """Method, parameters, and what mark_of() has to find in the answer."""
    quantity = 1 + turn * EACH + part
    placed = {**order(mark, CPU_1=quantity), "address": mark}
    return [
        ("order.place", placed, (mark, quantity)),
        ("order.place", {**order(f"no-{mark}"), "lines": [{"sku": mark, "quantity": 1}]}, ("not_found", mark)),
        (
            "order.place",
            order(f"much-{mark}", GPU_1=9_999 - quantity, RAM_1=0),
            ("invalid_params", "/lines/1/quantity"),
        ),
        ("order.place", {"idempotency_key": f"bare-{mark}"}, ("invalid_params", "/lines")),
        ("catalog.get", {"sku": mark}, ("not_found", mark)),
        ("catalog.get", {"sku": "RAM-1"}, ("RAM-1",)),
        (f"shop.{part}", {}, ("method_not_found",)),
        ("system.ping", {}, ()),
    ]


def mark_of(answer: dict[str, Any]) -> tuple[object, ...]:
    """What tells an answer from others."""
    if "lines" in answer:
        return answer["address"], answer["lines"][0]["quantity"]
    return tuple(answer[name] for name in ("sku", "path") if name in answer)
