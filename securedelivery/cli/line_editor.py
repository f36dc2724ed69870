"""The line that somebody types: keys in, entered lines out, and what of it is to be seen. No I/O."""

import codecs
import re
from enum import Enum

from securedelivery.cli.text import clean, columns_of

__all__ = ["END", "End", "LineEditor"]


class End(Enum):
    """Ctrl-D on an empty line."""

    END = "end"


END = End.END
_ESCAPE = "\x1b"
# What a key sends that is no character (ECMA-48, section 5.4; xterm's SS3 keys).
_SEQUENCE = re.compile(r"\x1b(?:\[([0-9;]*)([@-~])|O([A-Za-z])|([^\[O]))")
_PASTE_BEGINS, _PASTE_ENDS = "\x1b200~", "\x1b201~"  # xterm, "bracketed paste"
_NAMES = {
    "\x01": "home", "\x02": "left", "\x05": "end", "\x06": "right", "\x08": "rub", "\x7f": "rub", "\x0b": "cut_behind",
    "\x0e": "next", "\x10": "previous", "\x15": "cut_before", "\x17": "cut_word",
    "\x1bA": "previous", "\x1bB": "next", "\x1bC": "right", "\x1bD": "left", "\x1bF": "end", "\x1bH": "home",
    "\x1b1~": "home", "\x1b3~": "delete", "\x1b4~": "end", "\x1b7~": "home", "\x1b8~": "end",
}  # fmt: skip


class LineEditor:
    """limit: characters that a line can have; more are not taken."""

    def __init__(self, *, limit: int = 16_000) -> None:
        self.text = ""
        self.cursor = 0
        self.remember = False
        """Whether lines that are entered now come back with Up."""
        self._limit = limit
        self._former: list[str] = []
        self._place = 0  # in the former lines; behind the last: the new one
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._keys = ""  # that are not worked off yet
        self._pasting = False
        self._first = 0  # the first character that is to be seen

    def feed(self, data: bytes) -> None:
        """Keys, as the terminal sends them. They wait for take()."""
        self._keys += self._decoder.decode(data)

    def take(self) -> str | End | None:
        """Have the keys change the line, as far as to the first that enters it: that line, or END. None: no more keys.

        Those behind it are for what is asked next.
        """
        while (key := self._take_key()) is not None:
            if key == "\n":
                return self._enter()
            if key == "\x04" and not self.text:
                return END
            if key == "\x04":
                self._delete()
            elif (name := _NAMES.get(key)) is not None:
                self._act(name)
            else:
                self._insert(key)
        return None

    def put(self, text: str) -> None:
        """Have this as the line, the cursor behind it."""
        self.text, self.cursor, self._first = text, len(text), 0

    def view(self, columns: int) -> tuple[str, int]:
        """The part around the cursor that fits, and the cursor's column in it; the cursor needs one of the columns."""
        if columns_of(self.text) < columns:
            self._first = 0
        elif self._first >= self.cursor:
            self._first = max(0, self.cursor - columns // 2)
        while columns_of(self.text[self._first : self.cursor]) >= columns and self._first < self.cursor:
            # By half a line at once: the text must not crawl with every key.
            self._first = min(self.cursor, self._first + max(1, columns // 2))
        last = self._first
        room = columns - 1
        while last < len(self.text) and (room := room - columns_of(self.text[last])) >= 0:
            last += 1
        return self.text[self._first : last], columns_of(self.text[self._first : self.cursor])

    def _take_key(self) -> str | None:
        """A character, an escape sequence (as _NAMES has them), or a stretch of plain text."""
        while self._keys:
            if self._keys[0] == _ESCAPE:
                sequence = _SEQUENCE.match(self._keys)
                if sequence is None:
                    return None  # the rest of it comes
                self._keys = self._keys[sequence.end() :]
                key = _meaning(sequence)
                if key in (_PASTE_BEGINS, _PASTE_ENDS):
                    self._pasting = key == _PASTE_BEGINS
                elif key in _NAMES:
                    return key
                continue
            plain = re.match(r"[^\x00-\x1f\x7f]+", self._keys)
            key = plain[0] if plain else self._keys[0]
            self._keys = self._keys[len(key) :]
            if key in ("\r", "\n"):
                return " " if self._pasting else "\n"
            if plain or key == "\x04" or key in _NAMES:
                return key
            if key == "\t":
                return " "
        return None

    def _enter(self) -> str:
        line = self.text
        self.put("")
        if self.remember and line and line not in self._former[-1:]:
            self._former.append(line)
        self._place = len(self._former)
        return line

    def _insert(self, text: str) -> None:
        text = clean(text).replace("\ufffd", "")[: max(0, self._limit - len(self.text))]
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)

    def _delete(self) -> None:
        self.text = self.text[: self.cursor] + self.text[self.cursor + 1 :]

    def _act(self, name: str) -> None:
        before, behind = self.text[: self.cursor], self.text[self.cursor :]
        match name:
            case "home":
                self.cursor = 0
            case "end":
                self.cursor = len(self.text)
            case "left":
                self.cursor = max(0, self.cursor - 1)
            case "right":
                self.cursor = min(len(self.text), self.cursor + 1)
            case "delete":
                self._delete()
            case "cut_behind":
                self.text = before
            case "previous" | "next":
                self._recall(-1 if name == "previous" else 1)
            case _:  # what goes before the cursor
                kept = {"rub": before[:-1], "cut_word": re.sub(r"\S*\s*$", "", before)}.get(name, "")
                self.text, self.cursor = kept + behind, len(kept)

    def _recall(self, step: int) -> None:
        if not (self.remember and self._former):
            return
        self._place = min(max(0, self._place + step), len(self._former))
        self.put(self._former[self._place] if self._place < len(self._former) else "")


def _meaning(sequence: re.Match[str]) -> str:
    """Its end, with its number where the end is a tilde: ESC A of Up (with Ctrl, too), ESC 3~ of Delete."""
    parameters, final, application, _meta = sequence.groups()
    number = parameters.partition(";")[0] if final == "~" else ""
    return f"{_ESCAPE}{number}{final or application or ''}"
