"""SQL that SQLAlchemy writes once and the driver then runs as it is.

A Core statement costs 31 us to execute where the driver needs 6, and a batch of orders runs fifteen of them; so a
Statement is built at import, rendered at its first use on a dialect, and from then on handed to the driver with its
parameters by position, for a driver that gets names looks each of them up in each row. The price: no conversion of
types on the way. The schema uses none that would need it (integers, text, bytes).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Dialect,
    FromClause,
    Select,
    Table,
    bindparam,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

MAX_ROWS = 64  # in one INSERT: a power of two

Parameters = dict[str, Any]
"""Values by the names of the statement's bindparams."""

# By position in both: `?` for sqlite3, `%s` for psycopg.
_DIALECTS: dict[str, Dialect] = {"sqlite": sqlite.dialect(paramstyle="qmark")}


class Rendered(NamedTuple):
    """sql: the text for a dialect. names: of the parameters, by position. literals: the statement's own, by name."""

    sql: str
    names: tuple[str, ...]
    literals: Parameters

    def positions(self, parameters: Parameters) -> list[Any]:
        """The parameters as the driver takes them."""
        if self.literals:
            parameters = self.literals | parameters
        return [parameters[name] for name in self.names]


class Statement:
    """A Core statement: a bindparam for each value from outside, literals for the rest."""

    def __init__(self, clause: Executable) -> None:
        assert isinstance(clause, ClauseElement)
        self._clause = clause
        self._rendered: dict[str, Rendered] = {}

    def render(self, dialect: str) -> Rendered:
        """For the dialect of this name."""
        rendered = self._rendered.get(dialect)
        if rendered is None:
            compiled = self._clause.compile(dialect=_DIALECTS[dialect])
            literals = {
                name: parameter.value
                for name, parameter in compiled.binds.items()  # type: ignore[attr-defined]
                if not parameter.required
            }
            names = tuple(compiled.positiontup or ())  # type: ignore[attr-defined]
            rendered = self._rendered[dialect] = Rendered(str(compiled), names, literals)
        return rendered


class Insertion:
    """Rows for a table: tuples of these columns, which stand in the table's order.

    Many rows go into one statement: the driver lets go of the interpreter's lock for each statement, and gets it back
    only in competition with the threads that serve connections. In sizes of powers of two, so that a handful of texts
    does for any number of rows and stays prepared.
    """

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        assert list(columns) == [column.name for column in table.columns if column.name in columns], table
        self._one = Statement(insert(table).values({name: bindparam(name) for name in columns}))
        self._texts: dict[tuple[str, int], str] = {}

    def statements(self, dialect: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
        """Texts for the dialect of this name, each with its parameters by position, which insert all of the rows."""
        done, size = 0, MAX_ROWS
        while done < len(rows):
            while size > len(rows) - done:
                size //= 2
            yield self._text(dialect, size), list(chain.from_iterable(rows[done : done + size]))
            done += size

    def _text(self, dialect: str, rows: int) -> str:
        text = self._texts.get((dialect, rows))
        if text is None:
            head, word, values = self._one.render(dialect).sql.partition(" VALUES ")
            text = self._texts[dialect, rows] = head + word + ", ".join([values] * rows)
        return text


def gathered(rows: Select[Any]) -> Statement:
    """For Transaction.gathered(): all rows in one, as JSON, for the reason that Insertion has. No column of bytes."""
    found = rows.subquery()
    return Statement(select(func.json_group_array(func.json_array(*found.columns))))


def listed(name: str) -> Select[Any]:
    """A subquery of the values in the parameter `name`, which is a listing(): one text of SQL for any number of
    values.
    """
    return select(func.json_each(bindparam(name)).table_valued("value").c.value)


def listed_rows(name: str, *columns: str) -> FromClause:
    """The same for rows of as many values, as a table to join with that has these columns.

    An UPDATE from it is one statement for many rows, as with Insertion; each row of the table may be named once.
    """
    value: ColumnElement[Any] = func.json_each(bindparam(name)).table_valued("value").c.value
    cells = (func.json_extract(value, literal_column(f"'$[{index}]'")) for index in range(len(columns)))
    return select(*(cell.label(column) for cell, column in zip(cells, columns, strict=True))).subquery()


def listing(values: Iterable[Any]) -> str:
    """The parameter for listed() and listed_rows()."""
    return msgspec.json.encode(list(values)).decode()
