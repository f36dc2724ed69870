"""Who hears of what on open connections, and what of it: everybody of the shop listens while alice is served."""

from typing import Any

import pytest
from end_to_end.customers import ADDRESS, Enter, order
from end_to_end.server_process import ServerProcess
from planted import planted
from wire_client import WireClient

LISTENERS = ("alice.c", "mallory.c", "sam.a", "pam.a", "kim.d", "lee.d", "root.x")
ROLES = {"a": "agent", "d": "courier", "x": "admin"}


@pytest.fixture
def everybody(server: ServerProcess, enter: Enter) -> dict[str, WireClient]:
    """By name, without the ending that says the role."""
    for name in LISTENERS:
        if role := ROLES.get(name.partition(".")[2]):
            server.create_account(name, role)
    return {name.partition(".")[0]: enter(server, name) for name in LISTENERS}


def heard(clients: dict[str, WireClient], **expected: set[str]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Wait for what each has to be told, by name, and see that nobody was told anything else. All that was told."""
    for name, methods in expected.items():
        for method in methods:
            clients[name].wait_for(method)
    told = {}
    for name, client in clients.items():
        client.call("system.ping")  # what was told before is in front of this answer
        told[name] = [one for one in client.notifications if one[0] != "system.welcome"]
        client.notifications.clear()
    assert {name: {method for method, _ in of} for name, of in told.items() if of} == expected
    return told


def test_who_hears_of_an_order_and_who_of_a_chat(everybody: dict[str, WireClient]) -> None:
    alice, sam, kim = everybody["alice"], everybody["sam"], everybody["kim"]
    heard(everybody)

    number = alice.call("order.place", **order("k", CPU_1=1))["order"]
    heard(everybody, alice={"order.changed", "rewards.changed"})

    sam.call("order.advance", order=number, status="confirmed", note=planted("seen"))
    heard(everybody, alice={"order.changed"})

    sam.call("order.advance", order=number, status="packed", courier="kim.d")
    told = heard(everybody, alice={"order.changed"}, kim={"order.changed"})
    assert told["alice"][0][1]["delivery_code"]
    assert "delivery_code" not in told["kim"][0][1]
    assert told["kim"][0][1]["address"] == ADDRESS

    kim.call("order.advance", order=number, status="out_for_delivery")
    told = heard(everybody, alice={"order.changed"}, kim={"order.changed"})
    assert "delivery_code" not in told["kim"][0][1]

    sam.call("order.advance", order=number, status="packed", courier="lee.d")
    # Kim hears that it is his no more.
    told = heard(everybody, alice={"order.changed"}, kim={"order.changed"}, lee={"order.changed"})
    assert not any("delivery_code" in told[name][0][1] for name in ("kim", "lee"))

    said = alice.call("chat.send", text=planted("Hello?"), message_key="k")
    changed = {"chat.conversation"}
    heard(everybody, alice={"chat.message"}, sam=changed, pam=changed, root=changed)

    sam.call("chat.claim", conversation=said["conversation"])
    told = heard(everybody, alice=changed, sam=changed, pam=changed, root=changed)
    assert told["pam"][0][1]["unread"] == 1
    assert told["alice"][0][1]["unread"] == 0

    alice.call("chat.typing")
    told = heard(everybody, sam={"chat.typing"})
    assert told["sam"] == [("chat.typing", {"conversation": said["conversation"], "sender": "alice.c"})]
    sam.call("chat.typing", conversation=said["conversation"])
    told = heard(everybody, alice={"chat.typing"})
    assert told["alice"] == [("chat.typing", {"conversation": said["conversation"], "sender": "sam.a"})]

    answered = sam.call("chat.send", text=planted("Yes."), message_key="k", conversation=said["conversation"])
    told = heard(everybody, alice={"chat.message"}, sam={"chat.message"})
    assert told["alice"] == told["sam"] == [("chat.message", answered)]

    alice.call("chat.mark_read", up_to=answered["sequence"])
    told = heard(everybody, alice=changed)
    assert told["alice"][0][1]["unread"] == 0
    sam.call("chat.resolve", conversation=said["conversation"])
    heard(everybody, alice=changed, sam=changed, pam=changed, root=changed)
