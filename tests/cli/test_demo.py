"""Transcripts of `securedelivery demo`: in a pipe, on a terminal, with pauses, and where it cannot work."""

import re
import shlex
import signal
import time
from pathlib import Path

import pytest
from cli.conftest import Done, Shell, fails, said
from cli.terminal_driver import CONTROL_C, CONTROL_D, ENTER, Terminal

FILES = {
    "1-on-the-wire.pcapng", "2-tls-opened.pcapng", "3-all-opened.pcapng", "frame-keys.log", "lesson.html",
    "securedelivery.lua", "tls-keys.log", "wireshark",
}  # fmt: skip
ACT = re.compile(r"^Act (\d): \S", re.MULTILINE)


def acts(done: Done | str) -> list[int]:
    """The numbers of the acts that were told."""
    text = done if isinstance(done, str) else done.stdout
    return [int(number) for number in ACT.findall(text)]


@pytest.fixture
def empty(shell: Shell) -> Shell:
    shell.environment["PYTHONWARNINGS"] = "error"
    return shell


def test_an_overview_in_a_pipe(empty: Shell) -> None:
    done = empty("demo")
    assert (done.stderr, done.code) == ("", 0)
    assert "\x1b" not in done.stdout
    assert acts(done) == list(range(1, 9))
    lines = done.stdout.splitlines()
    assert len(lines) < 160
    for words in (
        "Two envelopes: what encryption does, in eight acts",
        "Again: replay",
        "With every byte, explanations, questions and answers: lesson.html, --act NUMBER or --pause.",
    ):
        assert words in lines
    assert "    shop says: ! protocol error error='frame 2 does not decrypt: it was altered, lost," in done.stdout
    assert max(map(len, lines[:-1])) <= 100
    assert re.search(r"^  packet \d+: The same packet, one envelope less$", done.stdout, re.MULTILINE)
    assert re.search(r"^  computed, belongs to packet \d+: For comparison: ", done.stdout, re.MULTILINE)


def test_all_of_it_in_a_pipe(empty: Shell) -> None:
    done = empty("demo", *(word for number in range(1, 9) for word in ("--act", str(number))))
    assert (done.stderr, done.code) == ("", 0)
    assert "\x1b" not in done.stdout
    assert acts(done) == list(range(1, 9))
    assert done.stdout.startswith("Two envelopes: what encryption does, in eight acts\n")
    folder = empty.home / "securedelivery-demo"
    assert {path.name for path in folder.iterdir()} == FILES
    for words in (
        "To remember: Encryption hides what is said.",
        "      TLS 1.3  the name of the server that is wanted (SNI), 9 bytes: localhost\n",
        "        6c 6f 63 61 6c 68 6f 73 74\n",
        '"sku": "GPU-NV-4070S",\n',
        "EUR 619.00",
        "  shop says: ! protocol error error='frame 2 does not decrypt: it was altered, lost,",
        "Answers\n  1. ",
    ):
        assert words in done.stdout
    assert re.search(r"^  packet \d+ in all three files, alice to shop, connection 0$", done.stdout, re.MULTILINE)
    computed = r"^  computed, in none of the files; belongs to packet \d+, alice to shop, connection \d+$"
    assert len(re.findall(computed, done.stdout, re.MULTILINE)) == 1  # the other is of the shop's HANDSHAKE
    assert len(re.findall(r"^  computed, in none of the files; ", done.stdout, re.MULTILINE)) == 2
    long = [line for line in done.stdout.splitlines()[:-1] if len(line) > 100]
    assert all("  " in line.lstrip() for line in long)  # rows of tables, whose columns are for programs to read


def test_the_page_is_of_the_same_run(empty: Shell) -> None:
    done = empty("demo", "--act", "4", "--out", "out")
    (now,) = re.findall(r"One bit flipped, at offset 133 of these bytes: (\w\w = [01]{8})", done.stdout)
    assert (
        f"One bit flipped, at offset 133 of these bytes: <code>{now}</code>"
        in (empty.home / "out/lesson.html").read_text()
    )


def test_the_command_at_the_end_is_one_for_a_shell(empty: Shell) -> None:
    done = empty("demo", "--act", "8", "--out", "my lesson's folder")
    *_, asked, command = done.stdout.splitlines()
    assert asked == "Open it in Wireshark with:"
    configuration, *words = shlex.split(command)
    folder = "my lesson's folder"
    assert configuration == f"WIRESHARK_CONFIG_DIR={folder}/wireshark"
    assert words == [
        "wireshark", "-C", "securedelivery", "-X", f"lua_script:{folder}/securedelivery.lua",
        f"{folder}/3-all-opened.pcapng",
    ]  # fmt: skip
    assert all((empty.home / path).exists() for path in (f"{folder}/wireshark/profiles/securedelivery", words[-1]))


def test_some_acts(empty: Shell) -> None:
    assert acts(empty("demo", "--act", "4")) == [4]
    assert acts(empty("demo", "--act", "7", "--act", "2")) == [2, 7]  # a second run replaces the files of the first


@pytest.mark.parametrize("number", ["0", "9", "-1"])
def test_an_act_that_there_is_not(empty: Shell, number: str) -> None:
    assert said(empty("demo", "--act", number)) == fails(f"--act: there is no act {number}", "they are 1 to 8", 2)
    assert list(empty.home.iterdir()) == []


def test_a_pause_needs_a_terminal(empty: Shell) -> None:
    assert said(empty("demo", "--pause")) == fails("--pause: there is no terminal to wait at", "leave it out", 2)
    assert list(empty.home.iterdir()) == []


def test_a_folder_that_is_a_file(empty: Shell) -> None:
    (empty.home / "taken").write_text("mine")
    done = empty("demo", "--out", "taken")
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr.startswith("error: --out: taken cannot be written into (")
    assert "hint: name another folder\n" in done.stderr
    assert (empty.home / "taken").read_text() == "mine"


def test_on_a_terminal_it_has_colours(empty: Shell) -> None:
    with Terminal(empty, "demo", "--act", "4", columns=100) as terminal:
        assert terminal.end() == 0
    assert acts(terminal.screen) == [4]
    for colour in ("\x1b[1;31m", "\x1b[94m", "\x1b[35m", "\x1b[32m"):
        assert colour in terminal.raw
    assert re.search(r"\x1b\[1;7;31m\[\w\w\]\x1b\[0m", terminal.raw)


def test_a_narrow_terminal_without_colours(empty: Shell) -> None:
    with Terminal(empty, "demo", "--act", "4", columns=60, NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert "\x1b[" not in terminal.raw
    assert max(len(line) for line in terminal.screen.splitlines()) <= 60


def test_pauses(empty: Shell) -> None:
    with Terminal(empty, "demo", "--pause", "--act", "4", "--act", "5", columns=100) as terminal:
        terminal.wait_for("Enter goes on with act 4, Ctrl-D ends ")
        assert acts(terminal.screen) == []
        terminal.type(ENTER)
        terminal.wait_for("Enter shows the answers ")
        assert acts(terminal.screen) == [4]
        assert "Questions" in terminal.screen
        assert "Answers" not in terminal.screen
        terminal.type(ENTER)
        terminal.wait_for("Enter goes on with act 5 ")
        assert "Answers" in terminal.screen
        terminal.type(ENTER)
        terminal.wait_for("Enter shows the answers ", times=2)
        terminal.type(ENTER)
        assert terminal.end() == 0
        assert terminal.usable()
    assert acts(terminal.screen) == [4, 5]
    assert "Open it in Wireshark with:" in terminal.screen


@pytest.mark.parametrize(("key", "code"), [(CONTROL_D, 0), (CONTROL_C, 130)])
def test_enough_in_the_middle(empty: Shell, key: str, code: int) -> None:
    with Terminal(empty, "demo", "--pause", columns=100) as terminal:
        terminal.wait_for("Enter goes on with act 1, Ctrl-D ends ")
        terminal.type(ENTER)
        terminal.wait_for("Enter shows the answers ")
        terminal.type(key)
        assert terminal.end() == code
    assert acts(terminal.screen) == [1]
    assert "error" not in terminal.screen.lower().partition("written into")[2]
    assert "Written into securedelivery-demo:" in terminal.screen  # what was made is there, and is told
    assert {path.name for path in (empty.home / "securedelivery-demo").iterdir()} == FILES


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1)])
def test_a_signal_amid_the_play_leaves_nothing(empty: Shell, tmp_path: Path, number: signal.Signals, code: int) -> None:
    stages = tmp_path / "stages"
    stages.mkdir()
    empty.environment["TMPDIR"] = str(stages)
    process = empty.start("demo")
    deadline = time.monotonic() + 60
    while not any(stages.glob("securedelivery-demo-*/ca.crt")):  # the stage is being built
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("", "", code)
    assert list(stages.iterdir()) == list((empty.home / "securedelivery-demo").iterdir()) == []


def test_a_reader_who_goes_away_is_no_error(empty: Shell, tmp_path: Path) -> None:
    process = empty.start("demo")
    assert process.stdout is not None
    process.stdout.close()  # at once, for what it has to say may fit the pipe
    assert process.wait(60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
