"""Where the links of mails lead that end mail of a kind (RFC 8058): nobody logs in here, the link alone does it.

Only POST does: programs that look mail through follow its links with GET. A mail provider's POST brings
`List-Unsubscribe=One-Click`, the page's button brings nothing, and neither is asked for more; nor are they sent
elsewhere, which a provider would not follow.
"""

from typing import TYPE_CHECKING

from starlette.responses import Response

from securedelivery.errors import Reason, Refusal
from securedelivery.service.opt_out import MailChoice
from securedelivery.web.pages import Page

if TYPE_CHECKING:
    from securedelivery.web.desk import Desk
    from securedelivery.web.visits import Visit

__all__ = ["ROUTES"]

_WHAT = {
    MailChoice.RECEIPTS: "mail about your orders",
    MailChoice.SUMMARIES: "monthly summaries",
    MailChoice.MISSED_CHAT: "mail about missed chat",
}


async def ask(desk: "Desk", visit: "Visit") -> Response:
    """What would end."""
    token = visit.request.query_params.get("token", "")
    try:
        wish = await desk.run(lambda: desk.opt_out.look(token))
    except Refusal as refusal:
        return _unknown(desk, visit, refusal)
    return _page(desk, visit, "asks" if wish.wanted else "ended", wish.choice, token)


async def end(desk: "Desk", visit: "Visit") -> Response:
    token = visit.request.query_params.get("token", "")
    try:
        choice = await desk.run(lambda: desk.opt_out.apply(token))
    except Refusal as refusal:
        return _unknown(desk, visit, refusal)
    return _page(desk, visit, "ended", choice)


def _unknown(desk: "Desk", visit: "Visit", refusal: Refusal) -> Response:
    """Raises the refusal where it is not about the link."""
    if refusal.reason is not Reason.NOT_FOUND:
        raise refusal
    return _page(desk, visit, "unknown", None)


def _page(desk: "Desk", visit: "Visit", state: str, choice: MailChoice | None, token: str = "") -> Response:
    what = "" if choice is None else _WHAT[choice]
    status = 404 if choice is None else 200
    return desk.page(visit, "opt_out", status=status, state=state, what=what, token=token)


ROUTES = [
    Page("/mail/off", ask),
    Page("/mail/off", end, verbs=("POST",), capability=True),
]
