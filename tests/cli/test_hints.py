"""What a refusal's data are good for, also where a server sends others than it should."""

from typing import Any

import pytest

from securedelivery.cli import failures
from securedelivery.cli.service import Advised, advising
from securedelivery.errors import Reason, Refusal, UnknownRefusal


@pytest.mark.parametrize(
    ("reason", "data", "hint"),
    [
        (Reason.OUT_OF_STOCK, {"sku": "A", "available": 3}, "order at most 3: A:3"),
        (Reason.OUT_OF_STOCK, {"sku": "A", "available": 0}, "see what there is: securedelivery catalog"),
        (Reason.OUT_OF_STOCK, {"available": "many"}, "see what there is: securedelivery catalog"),
        (Reason.NOT_ENOUGH_POINTS, {"points": 7}, "redeem at most 7: --redeem 7"),
        (Reason.NOT_ENOUGH_POINTS, {"points": -7}, "see what there is: securedelivery rewards"),
        (Reason.VERSION_CONFLICT, {"version": 2}, "see what it is now: securedelivery order show NUMBER"),
        (
            Reason.ILLEGAL_TRANSITION,
            {"status": "packed", "allowed": ["confirmed", "cancelled"]},
            "what you may make of it now: confirmed, cancelled (securedelivery order cancel NUMBER)",
        ),
        (
            Reason.ILLEGAL_TRANSITION,
            {"status": "delivered", "allowed": []},
            "you cannot change it any more; ask the shop: securedelivery chat",
        ),
        (
            Reason.ILLEGAL_TRANSITION,
            {"allowed": 7},
            "you cannot change it any more; ask the shop: securedelivery chat",
        ),
        (Reason.WRONG_CODE, {"tries_left": 1}, "have the customer read it out again; 1 try is left"),
        (Reason.WRONG_CODE, {"tries_left": 4}, "have the customer read it out again; 4 tries are left"),
        (
            Reason.WRONG_CODE,
            {"tries_left": 0},
            "there are no more tries until the shop has looked at the order: ask it",
        ),
        (
            Reason.CONVERSATION_TAKEN,
            {"agent": "amy"},
            "it is with amy, who can hand it over: securedelivery support transfer NUMBER AGENT",
        ),
        (Reason.CONVERSATION_TAKEN, {}, "see which wait for somebody: securedelivery support queue"),
        (Reason.NOT_FOUND, {"sku": "A"}, "securedelivery catalog"),
        (Reason.NOT_FOUND, {}, "securedelivery order list"),
        (Reason.RATE_LIMITED, {"retry_after": 9}, "try again in 9 seconds"),
        (Reason.RATE_LIMITED, {}, "try again in a moment"),
        (Reason.INVALID_PARAMS, {"path": "/lines/3/sku"}, failures._OPTIONS["/lines"]),
        (Reason.INVALID_PARAMS, {"path": "/moon"}, ""),
        (Reason.BAD_CREDENTIALS, {}, failures._HINTS[Reason.BAD_CREDENTIALS]),
    ],
)
def test_hints(reason: Reason, data: dict[str, Any], hint: str) -> None:
    assert failures._hint_for(Refusal(reason, "no", **data)) == hint


def test_a_reason_of_another_time() -> None:
    assert failures._hint_for(UnknownRefusal("teapot", 1418, "no")).endswith("update securedelivery")


def test_a_commands_own_hints() -> None:
    with pytest.raises(Advised) as caught, advising({Reason.NOT_FOUND: "look there"}):
        raise Refusal(Reason.NOT_FOUND, "no", sku="A")
    assert failures._hint_for(caught.value) == "look there"
    assert (str(caught.value), caught.value.data) == ("no", {"sku": "A"})
    with pytest.raises(Refusal) as refused, advising({Reason.NOT_FOUND: "look there"}):
        raise Refusal(Reason.FORBIDDEN, "no")
    assert type(refused.value) is Refusal


def test_every_reason_that_needs_one_has_a_hint() -> None:
    without = {reason for reason in Reason if not failures._hint_for(Refusal(reason, "no"))}
    assert without == {Reason.PARSE_ERROR, Reason.INVALID_REQUEST}  # bugs of this side
