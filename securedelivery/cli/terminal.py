"""The only module that writes to stdout and stderr: data to stdout, everything else to stderr.

Rich draws tables on a terminal; into a pipe or a file go plain columns, and Rich is not even imported.
"""

import codecs
import contextlib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import typer

from securedelivery.cli.text import ascii_json, clean, columns_of, escape_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Column",
    "document",
    "error",
    "fields",
    "flush",
    "json",
    "json_text",
    "line",
    "note",
    "note_lines",
    "paragraph",
    "prepare",
    "progress",
    "table",
    "warning",
]

PARAGRAPH_COLUMNS = 100  # longer lines are hard to follow
CLOSED_PIPE = 141  # 128 + SIGPIPE: what a shell reports for a program whose reader went away


class Column(msgspec.Struct, frozen=True):
    """right: numbers stand at the right; wide: the one that gives way on a narrow terminal."""

    title: str
    right: bool = False
    wide: bool = False


def prepare() -> bool:
    """Characters that this terminal cannot show are replaced instead of failing. False: there is no stdout at all."""
    if sys.stderr is None:  # closed (`2>&-`): nobody is told, and no other file gets its number
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- as long as the process
    if sys.stdout is None:
        return False
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    return True


def line(text: str = "") -> None:
    """One line of data, at once: whoever waits for `listening on ...` reads a pipe."""
    _write(f"{clean(text)}\n")
    flush()


def document(text: str) -> None:
    """Data of a format of its own, in UTF-8 whatever the terminal's encoding is: it is for a file or a program."""
    flush()
    with _closed_pipe():
        sys.stdout.buffer.write(text.encode())
    flush()


def paragraph(runs: Sequence[tuple[str, str]], *, indent: int = 0) -> None:
    """Text that is folded to the width of the terminal, and to 100 columns at most.

    runs: text, which may have blanks at its ends, and its style in Rich's words; a pipe gets no styles.
    """
    cleaned = [(clean(text), style) for text, style in runs]
    if sys.stdout.isatty():
        _draw_paragraph(cleaned, indent)
        return
    text = "".join(text for text, _ in cleaned)
    lines = textwrap.wrap(text, PARAGRAPH_COLUMNS - indent, break_on_hyphens=False)
    _write("".join(f"{' ' * indent}{line}\n" for line in lines or [""]))


def json(value: object) -> None:
    """A structure of the protocol. Where not every character can be written, those beyond ASCII are escapes."""
    text = json_text(value)
    _write(text if codecs.lookup(sys.stdout.encoding).name == "utf-8" else ascii_json(text))


def json_text(value: object) -> str:
    """The same as a text with its line end."""
    return escape_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()) + "\n"


def note(text: str) -> None:
    """Something beside the data."""
    _diagnose(clean(text))


def note_lines(text: str) -> None:
    """Text of this program alone, with its line ends, beside the data."""
    _diagnose(text.rstrip("\n"))


def warning(message: str) -> None:
    _diagnose(f"warning: {clean(message)}")


def error(message: str, hint: str = "") -> None:
    _diagnose(f"error: {clean(message)}")
    if hint:
        _diagnose(f"hint: {clean(hint)}")


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values below each other."""
    width = max((columns_of(name) for name, _ in pairs), default=0)
    _write("".join(f"{_pad(name, width)}  {clean(value)}\n" for name, value in pairs))


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(columns, cells)
        return
    titles = [column.title.upper() for column in columns]
    widths = [max(map(columns_of, column)) for column in zip(titles, *cells, strict=True)]
    for row in (titles, *cells):
        padded = (
            _pad(cell, width, right=column.right) for cell, width, column in zip(row, widths, columns, strict=True)
        )
        _write("  ".join(padded).rstrip() + "\n")


@contextlib.contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal. Gives a function to call with how many are done by now."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.progress import Progress

    with Progress(console=_console(sys.stderr), transient=True) as bars:
        task = bars.add_task(doing, total=total)
        yield lambda done: bars.update(task, completed=done)


def flush() -> None:
    """Write out what is buffered, so that a full disk or a closed pipe is noticed while it can be told."""
    with _closed_pipe():
        sys.stdout.flush()


def _write(text: str) -> None:
    with _closed_pipe():
        sys.stdout.write(text)


@contextlib.contextmanager
def _closed_pipe() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        # Nobody reads any more, as with `securedelivery catalog | head`: end quietly, also when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(CLOSED_PIPE) from None


def _diagnose(text: str) -> None:
    with contextlib.suppress(OSError):  # if stderr is gone, too, there is nobody to tell
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _pad(text: str, width: int, *, right: bool = False) -> str:
    space = " " * (width - columns_of(text))
    return space + text if right else text + space


def _draw(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    style = None if os.environ.get("NO_COLOR") else "bold"
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style=style)
    for column in columns:
        options: dict[str, Any] = {"overflow": "fold"} if column.wide else {"no_wrap": True, "overflow": "ellipsis"}
        drawn.add_column(column.title, justify="right" if column.right else "left", **options)
    for row in rows:
        drawn.add_row(*map(Text, row))
    _console(sys.stdout).print(drawn)


def _draw_paragraph(runs: Sequence[tuple[str, str]], indent: int) -> None:
    from rich.padding import Padding
    from rich.text import Text

    styled = not os.environ.get("NO_COLOR")
    text = Text.assemble(*((text, style if styled else "") for text, style in runs))
    console = _console(sys.stdout)
    console.print(Padding(text, (0, 0, 0, indent)), width=min(console.width, PARAGRAPH_COLUMNS))


def _console(stream: TextIO) -> "Console":
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)  # it honours NO_COLOR and TERM=dumb
