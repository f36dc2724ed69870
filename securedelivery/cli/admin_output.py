"""How what only operators see looks, as text and as JSON; a part of output.py that customers need not import."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from securedelivery.api.messages import Page
from securedelivery.cli import output
from securedelivery.cli.terminal import Column, json, line, note, table
from securedelivery.cli.text import moment
from securedelivery.model import Account, AccountId, AuditRecord, MailRoute, MailState, route_of

if TYPE_CHECKING:
    from securedelivery.doctor import Finding
    from securedelivery.store.accounts import Lock
    from securedelivery.store.outbox import OutboxRow

_DATE = 10  # characters of a moment
_SIGNS = {"ok": "ok", "note": "--", "wrong": "!!"}


def accounts(shown: Sequence[Account], following: str | None, locks: Mapping[str, "Lock"], *, as_json: bool) -> None:
    """following: the cursor of what comes next, None at the end."""
    if as_json:
        json(Page(list(shown), following))
        return
    table(
        [
            Column("Account", wide=True),
            Column("Role"),
            Column("Logs in by"),
            Column("Orders", right=True),
            Column("Tier"),
            Column("Since"),
        ],
        [
            [
                one.username,
                one.role.value,
                _ways(one, locks.get(one.username)),
                f"{one.order_count:,}",
                one.tier,
                moment(one.created_at)[:_DATE],
            ]
            for one in shown
        ],
    )
    _more(following)


def _ways(shown: Account, lock: "Lock | None") -> str:
    if lock is not None:
        return "(disabled)" if lock.disabled else "certificate only"
    if shown.certificate is None:
        return "password" if shown.has_password else output.NONE
    return "both" if shown.has_password else "certificate"


def audit(shown: Sequence[AuditRecord], following: str | None, *, as_json: bool) -> None:
    """Newest first. following: the cursor of the older ones, None at the end."""
    if as_json:
        json(Page(list(shown), following))
        return
    table(
        [
            Column("Entry", right=True),
            Column("When"),
            Column("Who", wide=True),
            Column("What"),
            Column("About", wide=True),
        ],
        [
            [
                str(one.entry),
                moment(one.at),
                one.actor or output.NONE,
                one.action,
                " ".join([*([one.subject] if one.subject else []), *_details(one.detail)]),
            ]
            for one in shown
        ],
    )
    _more(following)


def _details(detail: dict[str, Any]) -> list[str]:
    """`old=customer`; what is nothing is left out."""
    return [
        f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in detail.items()
        if value is not None
    ]


def mail(
    shown: Sequence["OutboxRow"],
    following: int | None,
    names: Mapping[AccountId, str],
    counts: Mapping[tuple[MailRoute, MailState], int],
    *,
    as_json: bool,
) -> None:
    """following: the number to go on behind, None at the end. names: of the accounts. counts: of all mail."""
    if as_json:
        totals: dict[str, dict[str, int]] = {}
        for (route, state), count in counts.items():
            totals.setdefault(route, {})[state] = count
        json({"items": [_mail_json(row, names) for row in shown], "next": following, "counts": totals})
        return
    if shown:
        _mail_table(shown, names)
    for route in MailRoute:
        told = [f"{count:,} {state}" for state in MailState if (count := counts.get((route, state), 0))]
        if told:
            line(f"{route.value.capitalize()}: {', '.join(told)}")
    if any(row.interrupted for row in shown):
        note("* may have gone out already, which nobody can know. Each try has the same Message-ID.")
    if following is not None:
        note(f"There are more: --limit NUMBER, or go on with --after {following}")


def _mail_json(row: "OutboxRow", names: Mapping[AccountId, str]) -> dict[str, object]:
    """With words of the shop in the place of the table's."""
    return {
        "number": row.id,
        "kind": row.kind,
        "route": route_of(row.kind),
        "account": _recipient(row, names),
        "order": row.order_id,
        "month": row.period,
        "up_to": row.up_to,
        "state": row.state,
        "attempts": row.attempts,
        "interrupted": row.interrupted,
        "created_at": row.created_at,
        "due_at": row.due_at,
        "answer": row.answer,
    }


def _mail_table(shown: Sequence["OutboxRow"], names: Mapping[AccountId, str]) -> None:
    table(
        [
            Column("Mail", right=True),
            Column("About"),
            Column("To", wide=True),
            Column("State"),
            Column("Tries", right=True),
            Column("Next, or since"),
        ],
        [
            [
                str(row.id),
                _about(row),
                _recipient(row, names) or "the operator",
                row.state.value,
                f"{row.attempts}{'*' if row.interrupted else ''}",
                "now" if row.state is MailState.SENDING else moment(row.due_at),
            ]
            for row in shown
        ],
    )
    line()
    answered = [[str(row.id), row.answer] for row in shown if row.answer]
    if answered:  # below, for they are long
        table([Column("Mail", right=True), Column("What came of it", wide=True)], answered)
        line()


def _recipient(row: "OutboxRow", names: Mapping[AccountId, str]) -> str | None:
    """None for the operator."""
    return None if row.account_id is None else names[row.account_id]


def _about(row: "OutboxRow") -> str:
    """`order 17 placed`, `month 2026-10`, `missed chat`."""
    if row.order_id is not None:
        return f"order {row.order_id} {row.kind.value.removeprefix('order_')}"
    return "missed chat" if row.period is None else f"month {row.period}"


def finding(shown: "Finding") -> None:
    line(f"{_SIGNS[shown.state]}  {shown.what}")
    if shown.remedy:
        line(f"    {shown.remedy}")


def _more(following: str | None) -> None:
    if following is not None:
        note(f"There are more: --limit NUMBER, or go on with --after {following}")
