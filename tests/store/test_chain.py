"""Any change whatever to a chain is found, in the place where it was made; an intact one never is."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from securedelivery.model import AccountId, Timestamp
from securedelivery.store.chain import BEGINNING, AuditEntry, AuditRow, Head, Tampering, chained, examine

AT = Timestamp("2026-01-01T00:00:00.000000Z")


def whole(count: int) -> list[AuditRow]:
    rows: list[AuditRow] = []
    previous = BEGINNING
    for number in range(1, count + 1):
        entry = AuditEntry(AT, AccountId(number % 3), f"action.{number}", f"order:{number}", None)
        previous = chained(previous, number, entry)
        rows.append(AuditRow(number, entry, previous))
    return rows


def head_of(rows: list[AuditRow]) -> Head:
    return Head(rows[-1].number, rows[-1].hash) if rows else Head(0, BEGINNING)


@st.composite
def tampered(draw: st.DrawFn) -> tuple[list[AuditRow], list[AuditRow]]:
    """A chain, and what a thief has made of it without the head: by one to three of what one can do to a table."""
    rows = whole(draw(st.integers(1, 12)))
    changed = {row.number: row for row in rows}
    for _ in range(draw(st.integers(1, 3))):
        numbers = sorted(changed)
        if not numbers:
            break
        number = draw(st.sampled_from(numbers))
        row = changed[number]
        match draw(st.sampled_from(["alter", "hash", "remove", "number", "swap", "forge", "renumber"])):
            case "alter":
                field = draw(st.sampled_from(AuditEntry._fields))
                value: Any = draw(st.sampled_from([None, 7, "other"]))
                changed[number] = row._replace(entry=row.entry._replace(**{field: value}))
            case "hash":
                changed[number] = row._replace(hash=draw(st.binary(min_size=32, max_size=32)))
            case "remove":
                del changed[number]
            case "number":
                free = draw(st.integers(-3, 30).filter(lambda n: n not in changed))
                changed[free] = changed.pop(number)._replace(number=free)
            case "swap":
                other = draw(st.sampled_from(numbers))
                changed[number] = changed[other]._replace(number=number)
                changed[other] = row._replace(number=other)
            case "forge":
                free = draw(st.integers(-3, 30).filter(lambda n: n not in changed))
                before = changed.get(free - 1)
                entry = AuditEntry(AT, None, "forged")
                changed[free] = AuditRow(free, entry, chained(before.hash if before else BEGINNING, free, entry))
            case "renumber":
                moved = [(number, changed[number]) for number in numbers if number >= row.number]
                for old, _ in moved:
                    del changed[old]
                for old, each in moved:
                    changed[old + 1] = each._replace(number=old + 1)
    return rows, [changed[number] for number in sorted(changed)]


@settings(max_examples=600, deadline=None)
@given(tampered())
def test_every_change_is_found_where_it_was_made(case: tuple[list[AuditRow], list[AuditRow]]) -> None:
    rows, changed = case
    damage = examine(changed, head_of(rows))
    if changed == rows:
        assert damage is None
        return
    assert damage is not None
    assert damage.first <= damage.last
    assert str(damage)
    if damage.what is Tampering.HEAD:
        return
    # Numbered as the first row that is not what it was; or the next, which does not follow from it any more.
    intact = 0
    while intact < min(len(rows), len(changed)) and rows[intact] == changed[intact]:
        intact += 1
    wrong = [row.number for row in changed[intact : intact + 1]] + [intact + 1]
    assert damage.first in {number + more for number in wrong for more in (0, 1)}


@settings(max_examples=200, deadline=None)
@given(tampered(), st.integers(0, 14), st.booleans())
def test_a_head_put_anywhere_is_found_unless_it_fits(
    case: tuple[list[AuditRow], list[AuditRow]], number: int, fits: bool
) -> None:
    rows, _ = case
    stored = rows[number - 1].hash if fits and 0 < number <= len(rows) else bytes(31) + b"x"
    head = Head(number, stored)
    damage = examine(rows, head)
    assert (damage is None) == (head == head_of(rows))
