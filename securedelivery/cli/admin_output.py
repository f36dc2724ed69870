"""How what only operators see looks, as text and as JSON; a part of output.py that customers need not import."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from securedelivery.api.messages import Page
from securedelivery.cli import output
from securedelivery.cli.terminal import Column, json, line, note, table
from securedelivery.cli.text import moment
from securedelivery.model import Account, AuditRecord

if TYPE_CHECKING:
    from securedelivery.doctor import Finding
    from securedelivery.store.accounts import Lock

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


def finding(shown: "Finding") -> None:
    line(f"{_SIGNS[shown.state]}  {shown.what}")
    if shown.remedy:
        line(f"    {shown.remedy}")


def _more(following: str | None) -> None:
    if following is not None:
        note(f"There are more: --limit NUMBER, or go on with --after {following}")
