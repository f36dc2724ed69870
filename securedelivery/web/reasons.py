"""What each reason of a refusal means to somebody who writes a client, and what to do about it: for the API's document
and its page.
"""

from typing import NamedTuple

from securedelivery.errors import Reason
from securedelivery.web.problems import HTTP_REASONS, status_of

__all__ = ["EXPLAINED", "Explained", "status_of_slug"]


class Explained(NamedTuple):
    """data: the members that a problem of this reason has beside those of every problem, each with what it is."""

    meaning: str
    remedy: str
    data: dict[str, str] = {}  # noqa: RUF012 -- read only


_SAME_TAG = "GET the order again, look at what has changed, and send its new ETag in If-Match."

EXPLAINED: dict[str, Explained] = {
    "parse_error": Explained("The body is not JSON.", "Send UTF-8 JSON, without anything behind it."),
    "invalid_request": Explained(
        "This is not what a request looks like: a body that is no object, or an If-Match that is no list of tags.",
        "Send one JSON object, and an ETag as it came, with its quotes.",
    ),
    "invalid_params": Explained(
        "A parameter is missing, is too long, or is not what it has to be.",
        "Mend the one that path names; detail says what is expected.",
        {"path": "a JSON Pointer to the parameter: /lines/0/quantity. Empty where all of it is meant"},
    ),
    "not_logged_in": Explained(
        "Nobody is logged in: no session, or one that has ended, and no certificate with an account.",
        "POST /api/session, keep its cookie, and try again.",
    ),
    "bad_credentials": Explained(
        "The username or the password is wrong, or this account cannot log in this way. Which one is not said.",
        "Try again, with care: wrong ones are counted.",
    ),
    "forbidden": Explained(
        "The account's role may not do this; or a change was asked for without X-CSRF-Token or by another site; or the "
        "certificate is not good any more.",
        "detail says which. Send back the X-CSRF-Token of the last answer, or log in as somebody who may.",
    ),
    "disabled": Explained("The shop has locked this account out.", "Write to the shop."),
    "not_found": Explained(
        "There is no such thing, or it is somebody else's.",
        "Look at the number or name again; a list says what there is.",
        {"sku": "the product that is unknown, or not sold any more"},
    ),
    "method_not_found": Explained("There is nothing at this address.", "This page lists what there is."),
    "method_not_allowed": Explained(
        "There is something at this address, but not for this verb.", "Allow has the verbs."
    ),
    "request_timeout": Explained("The body took too long to arrive.", "Send it again, over a better line."),
    "username_taken": Explained("The name is somebody else's, was once, or is kept.", "Take another one."),
    "version_conflict": Explained(
        "The order has changed since the version that If-Match names.",
        _SAME_TAG,
        {"version": "the version that it has now"},
    ),
    "precondition_failed": Explained(
        "The order has none of the versions that If-Match names.", _SAME_TAG, {"version": "the version that it has now"}
    ),
    "precondition_required": Explained(
        "An edit has to say which version it is an edit of.", "Send the ETag of the order in If-Match."
    ),
    "idempotency_conflict": Explained(
        "This Idempotency-Key has been used for something else.",
        "A new intent takes a new key; a retry sends what was sent before, all of it.",
    ),
    "out_of_stock": Explained(
        "There are fewer of a product than are wanted. Nothing was taken.",
        "Order what is there, or leave it out.",
        {"sku": "the product", "available": "how many there are"},
    ),
    "illegal_transition": Explained(
        "An order or a conversation cannot go there from where it is, or not by this caller.",
        "Take one of those in allowed, if there is any.",
        {"current_status": "the status that it has", "allowed": "the statuses that this caller may give it now"},
    ),
    "not_enough_points": Explained(
        "More points are to be redeemed than there are.", "Redeem fewer.", {"points": "how many there are"}
    ),
    "wrong_code": Explained(
        "This is not the order's delivery code. After 5 wrong ones only staff can go on.",
        "Ask the customer for the code again.",
        {"tries_left": "how many tries are left"},
    ),
    "conversation_taken": Explained(
        "Another agent has this conversation.",
        "Leave it to that one, or have it transferred.",
        {"agent": "who has it"},
    ),
    "open_orders": Explained(
        "An account whose order is on its way cannot be deleted.", "Wait for the delivery, or cancel the order."
    ),
    "upgrade_required": Explained("There is a WebSocket here, and nothing else.", "Open it as one: wss, not https."),
    "content_too_large": Explained("The body is larger than a request may be.", "Send less at once."),
    "unsupported_media_type": Explained("A body came that is not declared as JSON.", "Content-Type: application/json"),
    "rate_limited": Explained(
        "Too many wrong passwords, or too many new accounts, from this network or for this name.",
        "Wait; Retry-After has the seconds.",
        {"retry_after": "the seconds until the next try"},
    ),
    "internal": Explained(
        "The service has made a mistake. Whether anything was changed is not known.",
        "Tell the shop the incident's number; the log has the rest.",
        {"incident": "the number of it in the log"},
    ),
    "unavailable": Explained(
        "The service is too busy, its database cannot be reached, or it is about to stop. Nothing was changed.",
        "Try the same again, with the same Idempotency-Key, after Retry-After.",
    ),
}


def status_of_slug(slug: str) -> int:
    """The status that goes with a reason."""
    if slug in HTTP_REASONS:
        return HTTP_REASONS[slug]
    (reason,) = (one for one in Reason if one.slug == slug)
    return 412 if reason is Reason.VERSION_CONFLICT else status_of(reason)
