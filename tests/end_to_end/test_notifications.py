"""Who learns of an order, and when."""

from end_to_end.customers import Enter, order, refusal
from end_to_end.server_process import ServerProcess


def test_an_order_reaches_the_accounts_connections_and_nobody_elses(server: ServerProcess, enter: Enter) -> None:
    causing, other, stranger = enter(server, "anna"), enter(server, "anna"), enter(server, "bert")

    number = causing.send("order.place", **order("k", CPU_1=1, RAM_1=2))
    placed = causing.answer(number)

    for client in (causing, other):
        assert client.wait_for("order.changed") == placed
        rewards = client.wait_for("rewards.changed")
        assert rewards["points"] == placed["points_earned"]
        assert rewards["order_count"] == 1
    # The answer comes first on the connection that asked for it.
    order_of_arrival = causing.arrivals
    assert order_of_arrival.index(number) < order_of_arrival.index("order.changed")
    assert order_of_arrival.index(number) < order_of_arrival.index("rewards.changed")
    # What the stranger were told would be in front of the answer to this.
    stranger.call("system.ping")
    assert [method for method, _ in stranger.notifications] == ["system.welcome"]


def test_a_repeated_order_changes_nothing_and_tells_nobody(server: ServerProcess, enter: Enter) -> None:
    causing, other = enter(server, "carl"), enter(server, "carl")
    placed = causing.call("order.place", **order("k", CPU_1=1))
    other.wait_for("order.changed")
    other.wait_for("rewards.changed")
    other.notifications.clear()

    assert causing.call("order.place", **order("k", CPU_1=1)) == placed

    other.call("system.ping")
    assert other.notifications == []


def test_a_connection_that_logged_out_learns_nothing_more(server: ServerProcess, enter: Enter) -> None:
    causing, former = enter(server, "dora"), enter(server, "dora")
    former.call("account.logout")

    causing.call("order.place", **order("k", CPU_1=1))
    causing.wait_for("rewards.changed")

    former.call("system.ping")
    assert [method for method, _ in former.notifications] == ["system.welcome"]


def test_anothers_order_does_not_exist(server: ServerProcess, enter: Enter) -> None:
    owner, stranger = enter(server, "emil"), enter(server, "frida")
    placed = owner.call("order.place", **order("k", CPU_1=1))

    assert owner.call("order.get", order=placed["order"]) == placed
    hidden = refusal(lambda: stranger.call("order.get", order=placed["order"]))
    missing = refusal(lambda: stranger.call("order.get", order=2**53 - 1))
    assert (hidden.code, hidden.reason, hidden.data) == (missing.code, missing.reason, missing.data)
    assert (hidden.code, hidden.reason) == (1404, "not_found")
    assert stranger.call("order.list")["items"] == []
    assert refusal(lambda: stranger.call("order.list", account="emil")).reason == "not_found"
