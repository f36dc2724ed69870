"""The table: what somebody does, over either door, and what comes of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from web.parity.doors import NOBODY, Actor
from web.stage import PASSWORD

from securedelivery.model import Role
from securedelivery.service.accounts import AccountSettings
from securedelivery.service.attempts import Allowance, LoginLimits


class Of(NamedTuple):
    """A value from a result that an earlier step has kept: member, or member of a member."""

    kept: str
    member: str


class Step(NamedTuple):
    """refused: the reason, or None where it succeeds. keep: a name for the result; verb: of the route, where a method
    has two. seconds: for which the clock is moved before.
    """

    who: str
    method: str
    params: Mapping[str, Any]
    refused: str | None = None
    keep: str | None = None
    verb: str | None = None
    seconds: float = 1.0


class Scenario(NamedTuple):
    name: str
    actors: tuple[Actor, ...]
    steps: tuple[Step, ...]
    settings: Mapping[str, Any] = {}


def ok(who: str, method: str, /, *, keep: str | None = None, verb: str | None = None, **params: Any) -> Step:
    return Step(who, method, params, None, keep, verb)


def no(who: str, refused: str, method: str, /, *, verb: str | None = None, **params: Any) -> Step:
    return Step(who, method, params, refused, None, verb)


def wait(step: Step, seconds: float) -> Step:
    return step._replace(seconds=seconds)


def _line(sku: str, quantity: int) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": quantity}]


ORDER = Of("order", "order")
TALK = Of("said", "conversation")
MEMORY = _line("RAM-1", 1)
NEW_PASSWORD = "another 1234"

ALMA = Actor("alma")
BRUNO = Actor("bruno")
AGNES = Actor("agnes", Role.AGENT)
AUGUST = Actor("august", Role.AGENT)
CARLA = Actor("carla", Role.COURIER)
ROOT = Actor("root", Role.ADMIN)

TWO_TRIES = {
    "accounts": AccountSettings(logins=LoginLimits(name_and_address=Allowance(2, 60), creations=Allowance(2, 60)))
}

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "the shop and what describes it",
        (NOBODY,),
        (
            ok("nobody", "system.info"),
            ok("nobody", "system.ping"),
            ok("nobody", "rpc.discover", section="order"),
            no("nobody", "invalid_params", "rpc.discover", section="nonsense"),
        ),
    ),
    Scenario(
        "an account from first to last",
        (NOBODY, BRUNO),
        (
            no("nobody", "invalid_params", "account.create", username="X", password=PASSWORD),
            no("nobody", "invalid_params", "account.create", username="alma", password="short"),
            no("nobody", "invalid_params", "account.create", username="alma", password="password1"),
            no("nobody", "invalid_params", "account.create", username="alma"),
            no("nobody", "username_taken", "account.create", username="bruno", password=PASSWORD),
            ok("nobody", "account.create", username="alma", password=PASSWORD, name="Alma", email="alma@example.net"),
            ok("nobody", "account.get"),
            ok("nobody", "account.update", address="2 Quay", mail={"summaries": False}, name=None),
            no("nobody", "invalid_params", "account.update", email="nowhere"),
            no("nobody", "invalid_params", "account.update", mail={"receipts": 7}),
            no("nobody", "bad_credentials", "account.change_password", old_password="wrong", new_password=NEW_PASSWORD),
            no("nobody", "invalid_params", "account.change_password", old_password=PASSWORD, new_password="short"),
            ok("nobody", "account.change_password", old_password=PASSWORD, new_password=NEW_PASSWORD),
            no("nobody", "forbidden", "account.bind_certificate"),
            ok("nobody", "account.export"),
            no("nobody", "invalid_params", "account.export", after="nonsense"),
            ok("nobody", "account.logout"),
            no("nobody", "not_logged_in", "account.logout"),
            no("nobody", "not_logged_in", "account.get"),
            no("nobody", "bad_credentials", "account.login", username="alma", password=PASSWORD),
            no("nobody", "bad_credentials", "account.login", username="nobody", password=PASSWORD),
            no("nobody", "invalid_params", "account.login", username="alma"),
            no("nobody", "bad_credentials", "account.login_certificate"),
            ok("nobody", "account.login", username="alma", password=NEW_PASSWORD),
            no("nobody", "bad_credentials", "account.delete", password=PASSWORD),
            ok("nobody", "account.delete", password=NEW_PASSWORD),
        ),
    ),
    Scenario(
        "a login while logged in is another's",
        (ALMA, BRUNO),
        (
            ok("alma", "account.login", username="bruno", password=PASSWORD),
            ok("alma", "account.get"),
            no("alma", "bad_credentials", "account.login", username="alma", password="wrong"),
            ok("alma", "account.get"),
        ),
    ),
    Scenario(
        "too many tries",
        (NOBODY, ALMA),
        (
            *(no("nobody", "bad_credentials", "account.login", username="alma", password="wrong") for _ in range(2)),
            no("nobody", "rate_limited", "account.login", username="alma", password=PASSWORD),
            no("alma", "rate_limited", "account.change_password", old_password=PASSWORD, new_password=NEW_PASSWORD),
            no("alma", "rate_limited", "account.delete", password=PASSWORD),
            wait(ok("nobody", "account.login", username="alma", password=PASSWORD), 120),
            ok("nobody", "account.create", username="bruno", password=PASSWORD),
            ok("nobody", "account.create", username="bert", password=PASSWORD),
            no("nobody", "rate_limited", "account.create", username="bella", password=PASSWORD),
        ),
        TWO_TRIES,
    ),
    Scenario(
        "certificates",
        (
            Actor("clara", certificate="clara", account=False, login=False),
            Actor("doris", certificate="doris", login=False),
            Actor("emil", certificate="emil", account=False, login=False),
            ALMA,
            ROOT,
        ),
        (
            no("clara", "bad_credentials", "account.login_certificate"),
            no("clara", "forbidden", "account.create", username="somebody", password=PASSWORD),
            no("clara", "forbidden", "account.login", username="alma", password=PASSWORD),
            ok("clara", "account.create", username="clara"),
            ok("clara", "account.get"),
            ok("clara", "account.logout"),
            no("clara", "not_logged_in", "account.get"),
            ok("clara", "account.login_certificate"),
            ok("clara", "account.get"),
            ok("doris", "account.login", username="doris", password=PASSWORD),
            ok("doris", "account.bind_certificate"),
            ok("doris", "account.get"),
            ok("emil", "account.create", username="emil"),
            ok("emil", "account.logout"),
            ok("root", "account.disable", username="emil", disabled=True),
            no("emil", "disabled", "account.login_certificate"),
        ),
    ),
    Scenario(
        "what an admin does with accounts",
        (ALMA, BRUNO, ROOT, NOBODY),
        (
            ok("root", "account.list"),
            ok("root", "account.list", query="alm"),
            ok("root", "account.list", limit=1, keep="page"),
            ok("root", "account.list", limit=1, after=Of("page", "next")),
            no("root", "invalid_params", "account.list", limit=0),
            no("root", "invalid_params", "account.list", after="nonsense"),
            no("alma", "forbidden", "account.list"),
            ok("root", "account.set_role", username="alma", role="agent"),
            no("root", "invalid_params", "account.set_role", username="alma", role="king"),
            no("root", "invalid_params", "account.set_role", username="root", role="customer"),
            no("root", "not_found", "account.set_role", username="nobody", role="agent"),
            ok("root", "account.disable", username="bruno", disabled=True),
            no("root", "invalid_params", "account.disable", username="bruno", disabled="yes"),
            no("root", "not_found", "account.disable", username="nobody", disabled=True),
            no("nobody", "disabled", "account.login", username="bruno", password=PASSWORD),
            ok("root", "account.disable", username="bruno", disabled=False),
            ok("nobody", "account.login", username="bruno", password=PASSWORD),
            ok("root", "audit.list", account="bruno"),
            ok("root", "audit.list", action="account.disabled"),
            ok("root", "audit.list", limit=2, keep="audit"),
            ok("root", "audit.list", limit=2, after=Of("audit", "next")),
            no("root", "not_found", "audit.list", account="nobody"),
            no("root", "invalid_params", "audit.list", limit=201),
        ),
    ),
    Scenario(
        "the catalog",
        (NOBODY, ALMA, ROOT),
        (
            ok("nobody", "catalog.list"),
            ok("nobody", "catalog.list", query="memory"),
            *(ok("nobody", "catalog.list", query=words) for words in ("CPU-1", "16", "true", "ä&b=c+d #%", "")),
            ok("nobody", "catalog.list", unheard_of="of"),
            ok("nobody", "catalog.list", limit=2, keep="page"),
            ok("nobody", "catalog.list", limit=2, after=Of("page", "next")),
            no("nobody", "invalid_params", "catalog.list", limit=1000),
            no("nobody", "invalid_params", "catalog.list", query="x" * 201),
            ok("nobody", "catalog.get", sku="RAM-1"),
            no("nobody", "not_found", "catalog.get", sku="OLD-1"),
            no("nobody", "not_found", "catalog.get", sku="a b/c?d#e%f"),
            ok("root", "catalog.get", sku="OLD-1"),
            ok("root", "catalog.put", sku="A/B-1", name="Ärmel", description="", price=1, stock=0, active=True),
            ok("nobody", "catalog.get", sku="A/B-1"),
            no("root", "invalid_params", "catalog.put", sku="B-1", name="", price=1, stock=1, active=True),
            no("root", "invalid_params", "catalog.put", sku="B-1", name="B"),
            no("alma", "forbidden", "catalog.put", sku="B-1", name="B"),
        ),
    ),
    Scenario(
        "orders of a customer",
        (NOBODY, ALMA, BRUNO, Actor("dario", address=None), ROOT, AGNES),
        (
            ok("alma", "order.place", keep="order", idempotency_key="one", lines=_line("CPU-1", 2)),
            ok("alma", "order.place", idempotency_key="one", lines=_line("CPU-1", 2)),
            no("alma", "idempotency_conflict", "order.place", idempotency_key="one", lines=_line("CPU-1", 3)),
            no("alma", "not_found", "order.place", idempotency_key="two", lines=_line("OLD-1", 1)),
            no("alma", "out_of_stock", "order.place", idempotency_key="two", lines=_line("GPU-1", 6)),
            no("alma", "not_enough_points", "order.place", idempotency_key="2", lines=MEMORY, redeem_points=999),
            no("alma", "invalid_params", "order.place", idempotency_key="two", lines=[]),
            no("alma", "invalid_params", "order.place", idempotency_key="two", lines=_line("RAM-1", 0)),
            no("alma", "invalid_params", "order.place", lines=MEMORY),
            no("dario", "invalid_params", "order.place", idempotency_key="two", lines=MEMORY),
            ok("alma", "order.place", idempotency_key="two", lines=MEMORY, redeem_points=100, address="3 Quay"),
            ok("alma", "order.get", order=ORDER),
            no("bruno", "not_found", "order.get", order=ORDER),
            no("alma", "not_found", "order.get", order=4711),
            no("alma", "invalid_params", "order.get", order="x"),
            no("alma", "invalid_params", "order.get", order=0),
            ok("agnes", "order.get", order=ORDER),
            ok("alma", "order.list"),
            ok("alma", "order.list", status="placed", limit=1, keep="page"),
            ok("alma", "order.list", status="placed", limit=1, after=Of("page", "next")),
            ok("alma", "order.list", changed_since="2026-11-22T12:00:00Z"),
            ok("agnes", "order.list", account="alma"),
            no("alma", "invalid_params", "order.list", status="eaten"),
            no("alma", "invalid_params", "order.list", changed_since="yesterday"),
            no("agnes", "not_found", "order.list", account="nobody"),
            ok("alma", "order.update", order=ORDER, version=1, lines=_line("CPU-1", 1)),
            ok("alma", "order.update", verb="PATCH", order=ORDER, version=2, address="4 Quay"),
            no("alma", "version_conflict", "order.update", order=ORDER, version=1, lines=_line("CPU-1", 1)),
            no("alma", "version_conflict", "order.update", verb="PATCH", order=ORDER, version=9, address="x"),
            no("alma", "out_of_stock", "order.update", order=ORDER, version=3, lines=_line("LAST-1", 2)),
            no("alma", "not_found", "order.update", order=ORDER, version=3, lines=_line("NO-1", 2)),
            no("bruno", "not_found", "order.update", verb="PATCH", order=ORDER, version=3, address="x"),
            no("alma", "invalid_params", "order.update", order=ORDER, version=3, address=""),
            no("bruno", "not_found", "order.cancel", order=ORDER),
            no("alma", "invalid_params", "order.cancel", order=ORDER, reason="x" * 501),
            no("alma", "open_orders", "account.delete", password=PASSWORD),
            ok("alma", "order.cancel", order=ORDER, reason="Changed my mind"),
            ok("alma", "order.cancel", order=ORDER),
            no("alma", "illegal_transition", "order.update", order=ORDER, version=4, address="5 Quay"),
            ok("alma", "rewards.get"),
            no("nobody", "not_logged_in", "rewards.get"),
            ok("alma", "rewards.history"),
            ok("alma", "rewards.history", limit=1, keep="page"),
            ok("alma", "rewards.history", limit=1, after=Of("page", "next")),
            no("alma", "invalid_params", "rewards.history", after="nonsense"),
            no("alma", "invalid_params", "rewards.history", limit=-1),
            ok("alma", "account.export"),
            ok("root", "report.figures", **{"from": "2026-11-01", "to": "2026-11-30"}),
            no("root", "invalid_params", "report.figures", **{"from": "2026-11-30", "to": "2026-11-01"}),
            no("root", "invalid_params", "report.figures", **{"from": "1 November", "to": "2026-11-01"}),
            no("root", "invalid_params", "report.figures", to="2026-11-30"),
            ok("root", "audit.list"),
        ),
    ),
    Scenario(
        "an order on its way",
        (ALMA, AGNES, CARLA, Actor("cyril", Role.COURIER)),
        (
            ok("alma", "order.place", keep="order", idempotency_key="one", lines=_line("CPU-1", 2)),
            no("carla", "not_found", "order.get", order=ORDER),
            no("agnes", "illegal_transition", "order.advance", order=ORDER, status="packed"),
            no("agnes", "not_found", "order.advance", order=4711, status="confirmed"),
            no("agnes", "invalid_params", "order.advance", order=ORDER, status="eaten"),
            no("alma", "forbidden", "order.advance", order=ORDER, status="confirmed"),
            ok("agnes", "order.advance", order=ORDER, status="confirmed", note="in stock"),
            ok("agnes", "order.advance", order=ORDER, status="confirmed"),
            ok("agnes", "order.advance", order=ORDER, status="packed"),
            no("alma", "illegal_transition", "order.cancel", order=ORDER),
            no("agnes", "invalid_params", "order.advance", order=ORDER, status="out_for_delivery"),
            no(
                "agnes", "invalid_params", "order.advance",
                order=ORDER, status="out_for_delivery", courier="alma",
            ),
            ok("agnes", "order.advance", order=ORDER, status="out_for_delivery", courier="carla"),
            ok("carla", "delivery.list"),
            ok("cyril", "delivery.list"),
            no("carla", "invalid_params", "delivery.list", limit=0),
            no("alma", "forbidden", "delivery.list"),
            no("cyril", "not_found", "delivery.confirm", order=ORDER, code="000000"),
            no("carla", "wrong_code", "delivery.confirm", order=ORDER, code="not that"),
            no("carla", "invalid_params", "delivery.confirm", order=ORDER, code=7),
            ok("carla", "order.advance", order=ORDER, status="packed", note="nobody there"),
            no("carla", "illegal_transition", "delivery.confirm", order=ORDER, code="000000"),
            ok("carla", "order.advance", order=ORDER, status="out_for_delivery"),
            ok("carla", "delivery.confirm", order=ORDER, code=Of("order", "delivery_code")),
            no("alma", "illegal_transition", "order.cancel", order=ORDER),
            ok("agnes", "order.advance", order=ORDER, status="returned", note="broken"),
            ok("alma", "order.get", order=ORDER),
            ok("alma", "rewards.history"),
        ),
    ),
    Scenario(
        "chat",
        (ALMA, BRUNO, AGNES, AUGUST),
        (
            ok("alma", "chat.history"),
            ok("alma", "chat.typing"),
            ok("alma", "chat.mark_read", up_to=0),
            ok("alma", "chat.send", keep="said", text="Where is it?\n\N{PACKAGE}", message_key="one"),
            ok("alma", "chat.send", text="Where is it?\n\N{PACKAGE}", message_key="one"),
            no("alma", "idempotency_conflict", "chat.send", text="And now?", message_key="one"),
            no("alma", "invalid_params", "chat.send", text="", message_key="two"),
            no("alma", "invalid_params", "chat.send", text="And now?"),
            no("bruno", "not_found", "chat.send", text="Me too", message_key="one", conversation=TALK),
            ok("agnes", "chat.queue"),
            ok("agnes", "chat.queue", status="assigned"),
            no("agnes", "invalid_params", "chat.queue", status="asleep"),
            no("alma", "forbidden", "chat.queue"),
            ok("agnes", "chat.claim", conversation=TALK),
            ok("agnes", "chat.claim", conversation=TALK),
            no("august", "conversation_taken", "chat.claim", conversation=TALK),
            no("august", "conversation_taken", "chat.release", conversation=TALK),
            no("august", "conversation_taken", "chat.resolve", conversation=TALK),
            no("august", "conversation_taken", "chat.transfer", conversation=TALK, agent="august"),
            no(
                "august", "conversation_taken", "chat.send",
                conversation=TALK, text="Hello", message_key="one",
            ),
            no("alma", "forbidden", "chat.claim", conversation=TALK),
            ok("agnes", "chat.send", conversation=TALK, text="On its way", message_key="one"),
            ok("agnes", "chat.typing", conversation=TALK),
            ok("alma", "chat.history", limit=1),
            ok("alma", "chat.history", after=1, limit=1),
            ok("agnes", "chat.history", conversation=TALK),
            no("alma", "invalid_params", "chat.history", after=-1),
            no("bruno", "not_found", "chat.history", conversation=TALK),
            ok("alma", "chat.mark_read", up_to=2),
            no("alma", "invalid_params", "chat.mark_read", up_to="all"),
            no("bruno", "not_found", "chat.mark_read", up_to=1, conversation=TALK),
            no("bruno", "not_found", "chat.typing", conversation=4711),
            no("agnes", "invalid_params", "chat.transfer", conversation=TALK, agent="bruno"),
            ok("agnes", "chat.transfer", conversation=TALK, agent="august"),
            ok("august", "chat.release", conversation=TALK),
            ok("agnes", "chat.resolve", conversation=TALK),
            no("agnes", "illegal_transition", "chat.release", conversation=TALK),
            no("agnes", "illegal_transition", "chat.transfer", conversation=TALK, agent="august"),
            *(
                no("agnes", "not_found", f"chat.{word}", conversation=4711)
                for word in ("claim", "release", "resolve", "typing", "history")
            ),
            no("agnes", "not_found", "chat.transfer", conversation=4711, agent="august"),
            no("agnes", "not_found", "chat.send", conversation=4711, text="Hello", message_key="two"),
            no("agnes", "not_found", "chat.mark_read", conversation=4711, up_to=1),
            *(
                no("agnes", "invalid_params", f"chat.{word}", conversation=0)
                for word in ("claim", "release", "resolve", "typing", "history")
            ),
            ok("alma", "account.delete", password=PASSWORD),
            no("agnes", "illegal_transition", "chat.claim", conversation=TALK),
            no(
                "agnes", "illegal_transition", "chat.send",
                conversation=TALK, text="Hello?", message_key="three",
            ),
            ok("agnes", "chat.history", conversation=TALK),
        ),
    ),
)  # fmt: skip

NEVER_REFUSED = {
    "system.info": "takes no parameter, and is for everybody",
    "system.ping": "takes no parameter, and is for everybody",
}
"""Methods for which there is no refused scenario, and why not."""

NOT_SHOWN = {
    ("account.login_certificate", "forbidden"): "an identity logs in to its own account and asks for no other",
    (
        "account.login_certificate",
        "rate_limited",
    ): "it shares a row of reasons with the login by password, and no limit",
    ("chat.resolve", "illegal_transition"): "to resolve what is resolved is no change",
}
"""Reasons of a method that no scenario can bring about. Beside these: unavailable, for which the database has to fail,
and disabled at a write, which is for the moment before the account's session ends.
"""
