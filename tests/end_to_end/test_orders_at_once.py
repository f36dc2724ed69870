"""Many customers want the same thing in the same moment."""

from collections import Counter

import pytest
from end_to_end.bookkeeping import Books
from end_to_end.customers import ADDRESS, Enter, RingOf, StartServer, all_at_once, order
from wire_client import Refused, WireClient

CONNECTIONS = 50
BUYERS = 100


def test_one_key_on_fifty_connections_is_one_order(start_server: StartServer, enter: Enter) -> None:
    stock = {"CPU-1": 1_000, "RAM-1": 1_000}
    server = start_server(stock=stock)
    clients = [enter(server, "alice") for _ in range(CONNECTIONS)]
    wanted = order("the-one-key", CPU_1=2, RAM_1=1)

    answers = all_at_once(clients, lambda client: client.call("order.place", **wanted))

    assert len(answers) == CONNECTIONS
    assert len({answer["order"] for answer in answers}) == 1
    assert all(answer == answers[0] for answer in answers)
    first = clients[0]
    assert [one["order"] for one in first.call("order.list")["items"]] == [answers[0]["order"]]
    assert first.call("catalog.get", sku="CPU-1")["stock"] == 1_000 - 2
    assert first.call("account.get")["order_count"] == 1
    assert first.call("account.get")["points"] == answers[0]["points_earned"]
    with pytest.raises(Refused) as refused:
        first.call("order.place", **order("the-one-key", CPU_1=3, RAM_1=1))
    assert (refused.value.code, refused.value.reason) == (1409, "idempotency_conflict")
    assert Books(server.database).faults(stock) == []


def test_one_key_with_two_intents_at_once_is_one_order_and_a_conflict(start_server: StartServer, enter: Enter) -> None:
    server = start_server(stock={"CPU-1": 1_000})
    clients = [enter(server, "alice") for _ in range(CONNECTIONS)]

    def place(number_and_client: tuple[int, WireClient]) -> tuple[int, object]:
        number, client = number_and_client
        quantity = 1 + number % 2
        try:
            return quantity, client.call("order.place", **order("shared", CPU_1=quantity))["order"]
        except Refused as refused:
            return quantity, refused.reason

    outcomes = Counter(all_at_once(list(enumerate(clients)), place))

    conflicts = [(quantity, count) for (quantity, what), count in outcomes.items() if what == "idempotency_conflict"]
    placed = [(quantity, count) for (quantity, what), count in outcomes.items() if isinstance(what, int)]
    assert len(placed) == 1, outcomes
    assert placed[0][1] == CONNECTIONS // 2
    assert conflicts == [(3 - placed[0][0], CONNECTIONS // 2)]


def test_one_unit_goes_to_one_of_a_hundred_buyers(start_server: StartServer, ring: RingOf) -> None:
    server = start_server(stock={"GPU-1": 1})
    names = [f"buyer-{number}" for number in range(BUYERS)]
    buyers = [WireClient.connect(server.address, ring(name)) for name in names]
    for name, buyer in zip(names, buyers, strict=True):
        buyer.call("account.create", username=name, address=ADDRESS)

    def buy(buyer: WireClient) -> object:
        try:
            return buyer.call("order.place", **order("mine", GPU_1=1))
        except Refused as refused:
            return refused

    outcomes = all_at_once(buyers, buy)

    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert len(refused) == BUYERS - 1
    assert {(one.code, one.reason, one.data["sku"], one.data["available"]) for one in refused} == {
        (1409, "out_of_stock", "GPU-1", 0)
    }
    assert buyers[0].call("catalog.get", sku="GPU-1")["stock"] == 0
    books = Books(server.database)
    assert books.count("orders") == 1
    assert books.faults({"GPU-1": 1}) == []
