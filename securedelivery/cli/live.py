"""A line that is typed while others speak: on a terminal it stays below what is printed; pipes are read line by line.

    with Console() as console:
        name = console.ask("Your name: ")               # one question
        console.open("> ")                              # a line that stays
        while (entered := console.wait(None)) is not END:
            if entered is not None:                     # else woken by wake(), from any thread
                with console.above():
                    terminal.line(f"you said {entered}")

A terminal is taken only where stdin and stdout both are one that can move its cursor; with TERM=dumb, for screen
readers, it is read like a pipe. Ctrl-C stays a KeyboardInterrupt. Beside terminal.py this is the only module that
writes: the line itself.
"""

import codecs
import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import termios
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any, Self

import msgspec

from securedelivery.cli import terminal
from securedelivery.cli.line_editor import END, End, LineEditor
from securedelivery.cli.text import ascii_json, clean, columns_of, escape_json

__all__ = ["END", "Console", "End", "fitting", "json_line", "wrapped"]

STDIN = 0
READ_BYTES = 65_536
TERMINATED = 128 + signal.SIGTERM  # what a shell reports
_CLEAR = "\r\x1b[J"  # this line and everything below
_UP = "\x1b[A"
_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
_BOLD, _FAINT, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Console:
    """For the main thread; only wake() is for any. plain: as in a pipe even on a terminal, for output in JSON."""

    def __init__(self, *, plain: bool = False) -> None:
        self.moving = not plain and _can_move()
        """Whether the line is drawn here; else it is the terminal's business, or there is none."""
        self._colours = self.moving and not os.environ.get("NO_COLOR")
        self._tty = sys.stdin is not None and os.isatty(STDIN)
        self._editor = LineEditor()
        self._pipe = _Lines(ended=sys.stdin is None)
        self._prompt: str | None = None  # None: no line is open
        self._secret = False
        self._status = ""
        self._status_drawn = False
        self._depth = 0  # of above() within above()
        self._drawn = ""  # what stands behind the prompt, where the cursor is at its end
        self._stopped = False  # and goes on: the shell may have changed the terminal
        self._alarm, self._bell = socket.socketpair()
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._undo.callback(self._alarm.close)
        self._undo.callback(self._bell.close)
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        if self.moving:
            self._undo.callback(self._leave_terminal)
            # A signal may reach any thread; its handler runs when this one wakes.
            former = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
            self._undo.callback(signal.set_wakeup_fd, former)
            self._former = termios.tcgetattr(STDIN)
            self._take_terminal()
            for number, act in (
                (signal.SIGTERM, _terminated),
                (signal.SIGCONT, self._continued),
                (signal.SIGWINCH, _waken),
            ):
                self._undo.callback(signal.signal, number, signal.signal(number, act))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def columns(self) -> int:
        """How wide the terminal is."""
        return max(8, shutil.get_terminal_size().columns)

    @property
    def typed(self) -> str:
        """What stands in the line, and was not entered yet."""
        return self._editor.text

    # The line

    def open(self, prompt: str, *, text: str = "", secret: bool = False, remember: bool = False) -> None:
        """Show a line to type in, until close(). text: what stands in it already; secret: nothing of it is shown."""
        self._editor.put(text)
        self._editor.remember = remember
        self._prompt, self._secret = prompt, secret
        self._draw()

    def close(self) -> None:
        self._erase()
        self._prompt, self._status = None, ""

    def refill(self, text: str) -> None:
        """Give it back to be changed, where nothing else has been begun meanwhile."""
        if self.moving and not self._editor.text:
            self._editor.put(clean(text))
            self._draw()

    def status(self, text: str) -> None:
        """A word above the line, until another or "" takes its place. Only on a terminal."""
        if text != self._status:
            self._erase()
            self._status = text
            self._draw()

    @contextlib.contextmanager
    def above(self) -> Iterator[None]:
        """What is printed within comes above the line."""
        self._erase()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self._draw()

    def note(self, text: str) -> None:
        """Within above(): something beside the data, on stderr; on a terminal wrapped."""
        for row in wrapped(text, self.columns - 1) if self.moving else (text,):
            terminal.note(row)

    def faint(self, text: str) -> None:
        """A line of its own, within above() where a line is open: what is only said to help."""
        self._put(self._styled(_FAINT, clean(text)) + "\n")

    def bold(self, text: str) -> None:
        """As faint(), for a title."""
        self._put(self._styled(_BOLD, clean(text)) + "\n")

    def say(self, when: str, who: str, text: str, *, own: bool) -> None:
        """On a terminal, within above(): `18:45 bob: text`, wrapped, with further rows indented. own: said here."""
        indent = min(6, self.columns // 4)
        who = clean(who)
        rows = wrapped(text, self.columns - 1, first=columns_of(f"{when} {who}: "), indent=indent)
        head = f"{self._styled(_FAINT, when)} {self._styled(_FAINT if own else _BOLD, who)}:{' ' if rows[0] else ''}"
        self._put(head + f"\n{' ' * indent}".join(rows) + "\n")

    # Keys

    def wait(self, seconds: float | None) -> str | End | None:
        """A line that was entered; END at the end of the input. None after that time (None: no limit) or wake()."""
        entered = self._wait(seconds)
        self._draw()
        return entered

    def rest(self, seconds: float | None) -> None:
        """As wait(), for wake() alone: what is typed now is not heard."""
        self._sleep([self._alarm], seconds)

    def wake(self) -> None:
        """Have wait() return, from any thread."""
        with contextlib.suppress(OSError):  # full: it is awake anyway; closed: nobody waits
            self._bell.send(b"!")

    def ask(self, prompt: str, *, text: str = "", secret: bool = False) -> str:
        """Put one question; returns the line without blanks around it (a secret as typed). Raises EOFError."""
        self.open(prompt, text=text, secret=secret)
        with _unseen() if secret and self._tty and not self.moving else contextlib.nullcontext():
            if not self.moving:
                self._put(prompt)
            while (line := self._wait(None)) is None:
                self._draw()
        shown = "" if secret or line is End.END else clean(line)
        if self.moving:
            self._put(f"\r{fitting(prompt + shown, self.columns - 1)}\x1b[K\n")
        elif secret or not self._tty:  # nobody has typed it here: the answer is to be seen
            self._put(f"{shown}\n")
        self._prompt, self._drawn = None, ""
        if line is End.END:
            raise EOFError
        return line if secret else line.strip()

    def _wait(self, seconds: float | None) -> str | End | None:
        source = self._editor if self.moving else self._pipe
        entered = source.take()
        if entered is None and STDIN in self._sleep([self._alarm, STDIN], seconds):
            data = _read()
            if self.moving and not data:
                return END
            source.feed(data)
            entered = source.take()
        return entered

    def _sleep(self, sources: list[Any], seconds: float | None) -> list[Any]:
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._alarm in ready:
            with contextlib.suppress(BlockingIOError):
                self._alarm.recv(READ_BYTES)
            if self._stopped:
                self._stopped = False
                self._take_terminal()
        return ready

    # On the terminal

    def _draw(self) -> None:
        """The status, where there is one, and the line below it; the cursor where it belongs."""
        if self._prompt is None or self._depth or not self.moving:
            return
        room = self.columns - 1
        if self._status and not self._status_drawn:
            self._put(f"{_CLEAR}{self._styled(_FAINT, fitting(self._status, room))}\n")
            self._status_drawn = True
        prompt = fitting(self._prompt, max(room // 2, room - 20))
        seen, column = ("", 0) if self._secret else self._editor.view(max(2, room - columns_of(prompt)))
        behind = columns_of(seen) - column
        if self._drawn and not behind and seen.startswith(self._drawn):
            self._put(seen[len(self._drawn) :])  # the new characters alone: quiet for slow lines and screen readers
        else:
            self._put(f"\r{prompt}{seen}\x1b[K" + (f"\x1b[{behind}D" if behind else ""))
        self._drawn = "" if behind else seen

    def _erase(self) -> None:
        if self._prompt is None or self._depth or not self.moving:
            return
        self._put((f"\r{_UP}" if self._status_drawn else "") + _CLEAR)
        self._status_drawn, self._drawn = False, ""

    def _styled(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._colours else text

    def _put(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            terminal.flush()

    def _take_terminal(self) -> None:
        _set(self._former, without=("ICANON", "ECHO"))
        self._put(_PASTE_ON)
        self._drawn = ""

    def _leave_terminal(self) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self.close()
            self._put(_PASTE_OFF)
            _set(self._former)

    def _continued(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True


class _Lines:
    """Lines out of the bytes of a pipe."""

    def __init__(self, *, ended: bool) -> None:
        self._ended = ended
        self._rest = b""
        self._lines: deque[bytes] = deque()

    def feed(self, data: bytes) -> None:
        """b"" is the end, also of a line that has none."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._lines += lines
        if not data:
            self._ended = True
            if self._rest:
                self._lines.append(self._rest)
                self._rest = b""

    def take(self) -> str | End | None:
        if self._lines:
            return self._lines.popleft().decode("utf-8", "replace").rstrip("\r")
        return END if self._ended else None


def wrapped(text: str, columns: int, *, first: int = 0, indent: int = 0) -> list[str]:
    """Rows of a text that has any line ends, each made harmless. first: columns that are taken before the first row.

    indent: those before each other row. There is one row at least.
    """
    rows, room = [""], max(4, columns - first)
    below = max(4, columns - indent)
    for number, line in enumerate([line for line in text.splitlines() if line.strip()]):
        if number:
            rows.append("")
            room = below
        for word in clean(line).split(" "):
            piece = f" {word}" if rows[-1] else word
            if columns_of(piece) <= room:
                rows[-1] += piece
                room -= columns_of(piece)
                continue
            for part in _parts(word, below):
                if rows[-1] or columns_of(part) > room:
                    rows.append("")
                    room = below
                rows[-1] = part
                room -= columns_of(part)
    return rows


def json_line(value: object) -> None:
    """A structure of the protocol on one line of its own, in ASCII where the output knows no more."""
    text = escape_json(msgspec.json.encode(value).decode())
    terminal.line(text if codecs.lookup(sys.stdout.encoding).name == "utf-8" else ascii_json(text))


def _parts(word: str, columns: int) -> Iterable[str]:
    """A word that is longer than a row, cut where it must be."""
    part = ""
    for character in word:
        if part and columns_of(part + character) > columns:
            yield part
            part = ""
        part += character
    yield part


def fitting(text: str, columns: int) -> str:
    """As much of a text as fits, made harmless."""
    text = clean(text)
    while columns_of(text) > columns:
        text = text[:-1]
    return text


def _can_move() -> bool:
    if sys.stdin is None or os.environ.get("TERM", "") in ("", "dumb"):
        return False
    return os.isatty(STDIN) and sys.stdout.isatty()


def _read() -> bytes:
    with contextlib.suppress(OSError):  # the terminal is gone
        return os.read(STDIN, READ_BYTES)
    return b""


def _set(attributes: list[Any], *, without: Sequence[str] = ()) -> None:
    """attributes: as termios.tcgetattr() gave them; without: some of the local modes."""
    changed = [*attributes]
    for name in without:
        changed[3] &= ~getattr(termios, name)
    with contextlib.suppress(termios.error):  # the terminal may be gone
        termios.tcsetattr(STDIN, termios.TCSADRAIN, changed)


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    """A terminal that is read line by line shows nothing of them."""
    former = termios.tcgetattr(STDIN)
    _set(former, without=("ECHO",))
    try:
        yield
    finally:
        _set(former)


def _waken(_number: int, _frame: FrameType | None) -> None:
    """The signal has rung already; there is nothing more to do."""


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
