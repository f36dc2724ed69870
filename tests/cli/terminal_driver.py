r"""A command on a pseudo-terminal: type, wait for words, look at the screen.

with Terminal(shell, "chat") as terminal:
    terminal.wait_for("> ")
    terminal.type("hello\r")
    terminal.wait_for("you: hello")
    print(terminal.screen)
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import unicodedata
from typing import Any, Self

import commands
from cli.conftest import SECONDS, Shell

ENTER, CONTROL_C, CONTROL_D, UP, LEFT = "\r", "\x03", "\x04", "\x1b[A", "\x1b[D"


class Terminal:
    """columns, rows: of the terminal; real: as for commands.start(); variables: added to the shell's environment."""

    def __init__(
        self, shell: Shell, *arguments: str, columns: int = 80, rows: int = 24, real: bool = False, **variables: str
    ) -> None:
        self.raw = ""
        """All that was written, with what moves the cursor."""
        self._screen = Screen(columns)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.attributes: list[Any] = termios.tcgetattr(slave)
        """How the terminal was before."""
        self.process = commands.start(
            arguments, stdin=slave, stdout=slave, stderr=slave, terminal=True, real=real,
            environment={**shell.environment, **variables}, folder=shell.home,
        )  # fmt: skip
        self._slave = slave  # open, so that its modes can be read when the command has ended
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    @property
    def screen(self) -> str:
        """What there is to be seen, from the first line on."""
        return self._screen.text

    def wait_for(self, words: str, *, times: int = 1) -> None:
        """Until the words stand on the screen that often."""
        deadline = time.monotonic() + SECONDS
        while self.screen.count(words) < times:
            self._more(deadline, f"{words!r} ({times} times)")

    def wait_without(self, words: str) -> None:
        """Until the words are gone."""
        deadline = time.monotonic() + SECONDS
        while words in self.screen:
            self._more(deadline, f"the end of {words!r}")

    def answer(self, question: str, text: str) -> None:
        """Wait for the words in what has come since the last answer, then enter the text."""
        deadline = time.monotonic() + SECONDS
        while question not in self.screen[self._screen.mark :]:
            self._more(deadline, repr(question))
        self._screen.mark = len(self.screen)
        self.type(text + ENTER)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, rows: int = 24) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.columns = columns

    def end(self) -> int:
        """Wait for the command's end; its exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.screen}"
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode

    def usable(self) -> bool:
        """Whether the terminal is again as it was before."""
        return termios.tcgetattr(self._slave) == self.attributes

    def wait_for_modes(self) -> None:
        """Until the command has taken the terminal (again)."""
        deadline = time.monotonic() + SECONDS
        while self.usable():
            assert time.monotonic() < deadline
            self._read(0.02)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _more(self, deadline: float, awaited: str) -> None:
        left = deadline - time.monotonic()
        assert left > 0, f"no {awaited} within {SECONDS} s in\n{self.screen}"
        if not self._read(min(left, 0.5)) and self.process.poll() is not None and not self._read(0):
            raise AssertionError(f"it ended ({self.process.returncode}) without {awaited}:\n{self.screen}")

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        more = os.read(self._master, 65_536)
        self.raw += (text := more.decode(errors="replace"))
        self._screen.feed(text)
        return bool(more)


class Screen:
    """As much of a VT100 as the product uses; it does not scroll, so nothing that was shown is lost."""

    _SEQUENCE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.mark = 0
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0
        self._rest = ""

    @property
    def text(self) -> str:
        return "\n".join("".join(row) for row in self._rows)

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                sequence = self._SEQUENCE.match(text, at)
                if sequence is None:
                    assert len(text) - at < 12, f"what is {text[at : at + 12]!r}?"
                    self._rest = text[at:]
                    return
                self._control(*sequence.groups())
                at = sequence.end()
            else:
                self._write(text[at])
                at += 1

    def _write(self, one: str) -> None:
        if one == "\r":
            self._column = 0
        elif one == "\n":
            self._down()
        elif one == "\b":
            self._column = max(0, self._column - 1)
        else:
            assert one.isprintable(), f"{one!r} came to the terminal"
            width = 0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
            if self._column + width > self.columns:
                self._column = 0
                self._down()
            row = self._rows[self._row]
            row += [" "] * (self._column + width - len(row))
            if width:
                row[self._column : self._column + width] = [one, *[""] * (width - 1)]
            self._column += width

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append([])

    def _control(self, parameters: str, final: str) -> None:
        number = int(parameters) if parameters.isdigit() else 0
        match final:
            case "m" | "h" | "l":
                pass
            case "A":
                self._row = max(0, self._row - max(1, number))
            case "D":
                self._column = max(0, self._column - max(1, number))
            case "C":
                self._column += max(1, number)
            case "K":
                assert number == 0
                del self._rows[self._row][self._column :]
            case "J":
                assert number == 0
                del self._rows[self._row][self._column :]
                del self._rows[self._row + 1 :]
            case _:
                raise AssertionError(f"what is ESC [ {parameters} {final}?")
