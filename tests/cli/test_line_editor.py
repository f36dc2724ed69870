"""Keys in, lines out."""

import pytest

from securedelivery.cli.line_editor import END, LineEditor
from securedelivery.cli.live import fitting, wrapped

LEFT, RIGHT, UP, DOWN, HOME, CLEAR = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B", "\x1b[H", "\x15"


def typed(keys: str) -> LineEditor:
    """An editor after these keys, none of which enters the line."""
    editor = LineEditor()
    editor.feed(keys.encode())
    assert editor.take() is None
    return editor


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ("hello", "hello", 5),
        ("helo" + LEFT + "l", "hello", 4),
        ("ello" + HOME + "h", "hello", 1),
        ("ello\x01h\x05!", "hello!", 6),
        ("hello\x7f\x08", "hel", 3),
        ("\x7f", "", 0),
        ("hello" + LEFT * 9 + RIGHT + "\x04", "hllo", 1),
        ("hello" + LEFT + "\x1b[3~", "hell", 4),
        ("hello\x02\x02\x06\x0b", "hell", 4),
        ("one two  \x17", "one ", 4),
        ("one two" + LEFT + "\x15", "o", 0),
        ("hi" + RIGHT * 3 + "\x1bOH" + "o", "ohi", 1),
        ("hi\x1b[1~o\x1b[4~!", "ohi!", 4),
        ("a\tb", "a b", 3),
        ("a\x1b[200~one\r\ntwo\x1b[201~b", "aone  twob", 10),
        ("a\x1b[1;5Cb\x1b[99~\x1b[Z\x1bxc\x00\x1d", "abc", 3),
        ("Ünï 部品 \U0001f5a5", "Ünï 部品 \U0001f5a5", 8),
        ("a\u202eb\u2028c\x9bd", "abcd", 4),
        ("ABH1~", "ABH1~", 5),
        (UP + "x", "x", 1),
    ],
)
def test_keys(keys: str, text: str, cursor: int) -> None:
    editor = typed(keys)
    assert (editor.text, editor.cursor) == (text, cursor)


def test_keys_that_come_in_pieces() -> None:
    whole = ("über 部品\x1b[D\x1b[3~\x1b[200~x\ny\x1b[201~\x1bOHz").encode()
    editor = LineEditor()
    for byte in whole:
        editor.feed(bytes([byte]))
        assert editor.take() is None
    assert (editor.text, editor.cursor) == ("züber 部x y", 1)


def test_bytes_that_are_no_text_are_left_out() -> None:
    editor = LineEditor()
    editor.feed(b"a\xffb\xc3(")
    assert editor.take() is None
    assert editor.text == "ab("


def test_lines_are_entered_one_by_one() -> None:
    editor = LineEditor()
    editor.feed(b"one\rtwo\nth\x04ree\r\x04left")
    assert [editor.take() for _ in range(5)] == ["one", "two", "three", END, None]
    assert editor.text == "left"


def test_what_is_too_long_is_not_taken() -> None:
    editor = LineEditor(limit=5)
    editor.feed(b"123456789\x01ab")
    assert editor.take() is None
    assert editor.text == "12345"


def test_former_lines_come_back() -> None:
    editor = LineEditor()
    editor.remember = True
    editor.feed(f"one\rtwo\rtwo\r\r{UP}{UP}".encode())
    assert [editor.take() for _ in range(5)] == ["one", "two", "two", "", None]
    assert editor.text == "one"
    editor.feed(f"{UP}{DOWN}".encode())
    assert editor.take() is None
    assert editor.text == "two"
    editor.feed(f"{DOWN}{DOWN}".encode())
    assert editor.take() is None
    assert editor.text == ""
    editor.remember = False
    editor.feed(b"a secret\r\x1b[A")
    assert [editor.take(), editor.take()] == ["a secret", None]
    editor.remember = True
    editor.feed(b"\x1b[A")
    assert editor.take() is None
    assert editor.text == "two"


def test_a_long_line_is_seen_around_its_cursor() -> None:
    editor = typed("abcdefghijklmnopqrstuvwxyz")
    seen, column = editor.view(10)
    assert seen == "abcdefghijklmnopqrstuvwxyz"[-column:]
    for keys in (HOME, RIGHT * 9, RIGHT, LEFT * 5, "\x05", "\x17x", CLEAR):
        editor.feed(keys.encode())
        assert editor.take() is None
        seen, column = editor.view(10)
        assert len(seen) <= 9 or not editor.text
        assert 0 <= column < 10
        start = editor.text.find(seen)
        assert editor.text[start : start + column] == seen[:column]
        assert start + column == editor.cursor


def test_wide_characters_take_two_columns() -> None:
    editor = typed("部品部品部品")
    assert editor.view(20) == ("部品部品部品", 12)
    seen, column = editor.view(6)
    assert column == 2 * len(seen) <= 5


def test_rubbing_out_shows_what_comes_before() -> None:
    editor = typed("abcdefghijklmnopqrstuvwxyz")
    editor.view(10)
    editor.feed(b"\x7f" * 12)
    assert editor.take() is None
    assert editor.view(10) == ("jklmn", 5)


@pytest.mark.parametrize(
    ("text", "first", "indent", "rows"),
    [
        ("one two three", 0, 0, ["one two", "three"]),
        ("one two three", 6, 2, ["one", "two", "three"]),
        ("", 3, 2, [""]),
        ("a\n\n \nb", 0, 2, ["a", "b"]),
        ("abcdefghijklmnop", 0, 2, ["abcdefgh", "ijklmnop"]),
        ("abcdefghijklmnop", 6, 2, ["", "abcdefgh", "ijklmnop"]),
        ("部品部品部品", 0, 0, ["部品部品部", "品"]),
        ("\x1b[2J\u202ex", 0, 0, ["\ufffd[2J\ufffdx"]),
    ],
)
def test_texts_are_wrapped(text: str, first: int, indent: int, rows: list[str]) -> None:
    assert wrapped(text, 10, first=first, indent=indent) == rows


def test_what_does_not_fit_is_cut() -> None:
    assert fitting("部品 and\x07 more", 7) == "部品 an"
