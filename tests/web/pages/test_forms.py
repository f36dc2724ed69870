"""What a refusal becomes on a page."""

import pytest

from securedelivery.errors import Reason, Refusal
from securedelivery.web.pages.forms import NO_ERRORS, Errors, Fields, number, sentence

PARAMS = [
    ("/address", "address: expected at most 500 characters", "address", "Make it at most 500 characters."),
    ("/address", "address: expected at least 1 characters", "address", "Write where it is to go."),
    ("/lines", "lines: expected at least 1 entries", "lines", "Something is needed here."),
    ("/lines/0/quantity", "quantity: expected `int` <= 10000", "lines.0.quantity", "Make it at most 10,000."),
    ("/lines/0/quantity", "quantity: expected `int` >= 1", "lines.0.quantity", "Make it at least 1."),
    (
        "/email",
        "email: expected an address like name@example.org",
        "email",
        "Make it an address like name@example.org.",
    ),
    ("/password", "password is missing", "password", "Password is missing."),
    ("/courier", "who delivers it? name a courier", "courier", "Who delivers it? name a courier."),
    ("/new_password", "not a common one: take another", "new_password", "Not a common one: take another."),
    ("/name", "name: a word of its own!", "name", "A word of its own!"),
]


@pytest.mark.parametrize(("path", "message", "field", "words"), PARAMS)
def test_a_parameter_is_its_field(path: str, message: str, field: str, words: str) -> None:
    errors = Errors.of(Refusal.invalid(path, message))
    assert errors
    assert errors.fields == {field: words}
    assert errors.fields["another"] == ""
    assert (errors.general, errors.status) == ("", 422)


def test_a_parameter_of_no_field() -> None:
    errors = Errors.of(Refusal.invalid("", "params cannot be read: at byte 3"))
    assert errors.fields == {}
    assert (errors.general, errors.status) == ("Params cannot be read: at byte 3.", 422)


REASONS = [
    (Refusal(Reason.OUT_OF_STOCK, "", sku="A", available=1_200), 409, "Of A there are only 1,200 left: take fewer."),
    (Refusal(Reason.NOT_ENOUGH_POINTS, "", points=1_500), 409, "You have 1,500 points to use."),
    (Refusal(Reason.RATE_LIMITED, "", retry_after=1), 429, "Wait a second, then"),
    (Refusal(Reason.RATE_LIMITED, "", retry_after=90), 429, "Wait 90 seconds, then"),
    (Refusal(Reason.RATE_LIMITED, "", retry_after=121), 429, "Wait 3 minutes, then"),
    (Refusal(Reason.UNAVAILABLE, ""), 503, "nothing has been changed"),
    (Refusal(Reason.NOT_LOGGED_IN, ""), 401, "not logged in any more"),
    (Refusal(Reason.DISABLED, ""), 403, "has locked this account"),
    (Refusal(Reason.IDEMPOTENCY_CONFLICT, ""), 409, "sent this form before"),
    (Refusal(Reason.OPEN_ORDERS, "order 7 is on its way"), 409, "Order 7 is on its way."),
    (Refusal(Reason.ILLEGAL_TRANSITION, "order 7 is out_for_delivery: no"), 409, "Order 7 is out for delivery: no."),
    (Refusal(Reason.NOT_FOUND, ""), 404, ""),
]


@pytest.mark.parametrize(("refusal", "status", "words"), REASONS)
def test_every_reason_has_words(refusal: Refusal, status: int, words: str) -> None:
    errors = Errors.of(refusal)
    assert errors.status == status
    assert words in errors.general
    assert errors.fields == {}


def test_who_is_not_logged_in_can_do_so() -> None:
    way = Errors.of(Refusal(Reason.NOT_LOGGED_IN, "log in first")).way
    assert way is not None
    assert way.path == "/login"


def test_what_the_form_does_not_show_stands_above_it() -> None:
    errors = Errors(fields=Fields(a="A.", b="B.", c="C."), general="First.", status=422)
    assert errors.placed("a", "b", "c") is errors
    assert errors.placed("b") == Errors(fields={"b": "B."}, general="First. A. C.", status=422)
    assert Errors.at("x", "No.").placed() == Errors(general="No.", status=422)
    assert NO_ERRORS.placed() is NO_ERRORS
    assert not NO_ERRORS


@pytest.mark.parametrize(
    ("text", "found"),
    [("7", 7), (" 1,200 ", 1_200), ("-3", -3), ("1 000", 1_000), ("007", 7), ("9" * 15, 10**15 - 1)],
)
def test_a_number(text: str, found: int) -> None:
    assert number(text) == found


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3", "9" * 16, "\u0663", "--1", "0x10", "1_000", "NaN"])
def test_no_number(text: str) -> None:
    assert number(text) is None


def test_a_sentence() -> None:
    assert [sentence(text) for text in ("", "a", "is it?", "Done.")] == ["", "A.", "Is it?", "Done."]
