"""How a story looks in a terminal: what stands on the page (securedelivery.wireshark.lesson), in lines and colours.

A colour never says anything alone: each layer is named as well, so nothing is lost in a pipe or with NO_COLOR.
"""

import shlex
from pathlib import Path

from securedelivery.cli import terminal
from securedelivery.cli.terminal import Column, line, paragraph
from securedelivery.wireshark.demo import Kit
from securedelivery.wireshark.story import LAYERS, Act, Exhibit, Layer, Part, Question, Scene, Strip, Table
from securedelivery.wireshark.story.hexadecimal import count, flip, packets, runs
from securedelivery.wireshark.story.words import STAGING, TITLE

__all__ = ["act", "answers", "beginning", "files", "more", "overview", "questions"]

_A_LINE = 24  # bytes: with the brackets of a flipped one they fit 80 columns
_MOST = 3 * _A_LINE  # bytes of a part that are shown
_STYLES = {
    Layer.NETWORK: "default",
    Layer.TLS: "bright_blue",
    Layer.FRAME: "magenta",
    Layer.MESSAGE: "green",
    Layer.PADDING: "dim",
    Layer.X25519: "cyan",
    Layer.KEM: "yellow",
    Layer.IDENTITY: "bright_magenta",
}
_REFUSED, _ACCEPTED, _FLIPPED = "bold red", "bold green", "bold reverse red"
_EXHIBIT, _STRIP, _PART, _BYTES = 2, 4, 6, 8  # columns of indentation


def beginning(kit: Kit) -> None:
    """The title, and which colour is what."""
    story = kit.story
    paragraph([(TITLE, "bold"), (": what encryption does, in eight acts", "")])
    connections = count(story.connections, "connection")
    paragraph([(f"{story.packets:,} packets on {connections}, played and written in {kit.seconds:.1f} s.", "dim")])
    line()
    paragraph([(STAGING, "dim")])
    line()
    for layer, (name, what) in LAYERS.items():
        paragraph([(f"{name:10}", f"bold {_STYLES[layer]}"), (f"  {what}", "")], indent=_EXHIBIT)


def act(shown: Act) -> None:
    """Without its questions."""
    line()
    line()
    paragraph([(f"Act {shown.number}: {shown.title}", "bold underline")])
    paragraph([(shown.onlooker, "dim")])
    paragraph([("In Wireshark: ", "dim"), (shown.filter, "")])
    for scene in shown.scenes:
        _scene(scene)
    line()
    paragraph([("To remember: ", "bold"), (shown.gist, "bold")])


def overview(shown: Act) -> None:
    """An act in a few lines: what was recorded and what its receivers said, without bytes and explanations."""
    line()
    paragraph([(f"Act {shown.number}: {shown.title}", "bold underline")])
    paragraph([(shown.onlooker, "dim")])
    for scene in shown.scenes:
        exhibits = [one for one in scene.shown if isinstance(one, Exhibit)]
        if exhibits and scene.heading:
            paragraph([(scene.heading, "bold")])
        for one in exhibits:
            where = f"{'computed, belongs to ' if one.computed else ''}{packets(one.packets)}: "
            paragraph([(where, "dim"), (one.title, "")], indent=_EXHIBIT)
            _verdicts(one, indent=_STRIP)
    paragraph([("To remember: ", "bold"), (shown.gist, "bold")])


def more() -> None:
    """Where the rest is, behind an overview."""
    line()
    paragraph([("With every byte, explanations, questions and answers: lesson.html, --act NUMBER or --pause.", "bold")])


def _scene(scene: Scene) -> None:
    if scene.heading:
        line()
        paragraph([(scene.heading, "bold")])
    for words in scene.paragraphs:
        line()
        paragraph([(words, "")])
    for one in scene.shown:
        line()
        if isinstance(one, Table):
            _table(one)
        else:
            _exhibit(one)


def _table(shown: Table) -> None:
    paragraph([(shown.title, "bold")])
    columns = [
        Column(title, right=at in shown.numbers, wide=at not in shown.numbers) for at, title in enumerate(shown.head)
    ]
    terminal.table(columns, shown.rows)
    if shown.note:
        paragraph([(shown.note, "dim")])


def _exhibit(shown: Exhibit) -> None:
    paragraph([(shown.title, "bold")], indent=_EXHIBIT)
    where = packets(shown.packets)
    where = f"computed, in none of the files; belongs to {where}" if shown.computed else f"{where} in all three files"
    where += f", {shown.sender} to {shown.receiver}, connection {shown.leg}"
    paragraph([(where, "dim")], indent=_EXHIBIT)
    for strip in shown.strips:
        _strip(strip)
    _verdicts(shown, indent=_EXHIBIT)
    if shown.note:
        paragraph([(shown.note, "dim")], indent=_EXHIBIT)


def _verdicts(shown: Exhibit, *, indent: int) -> None:
    for said in shown.verdicts:
        style = _ACCEPTED if shown.accepted else _REFUSED
        paragraph([(f"{said.who} says: ", style), (said.words, "")], indent=indent)


def _strip(shown: Strip) -> None:
    paragraph([(shown.title, "underline")], indent=_STRIP)
    for part in shown.parts:
        _part(part)


def _part(shown: Part) -> None:
    style = _STYLES[shown.layer]
    closed = ", closed" if shown.sealed else ""
    head = [
        (LAYERS[shown.layer][0], f"bold {style}"),
        (f"  {shown.what}, {count(len(shown.data), 'byte')}{closed}", ""),
    ]
    in_lines = shown.layer is Layer.MESSAGE
    if shown.reads and not in_lines:
        head.append((f": {shown.reads}", ""))
    paragraph(head, indent=_PART)
    if in_lines and shown.reads:
        for text in shown.reads.splitlines():
            blanks = len(text) - len(text.lstrip(" "))
            paragraph([(text.lstrip(" "), style)], indent=_BYTES + blanks)
    else:
        _bytes(shown)
    if shown.bit is not None:
        flipped = flip(shown)
        words = f"One bit flipped, at offset {flipped.place} of these bytes: {flipped.now}, it was {flipped.before}."
        paragraph([(words, _REFUSED)], indent=_BYTES)


def _bytes(shown: Part) -> None:
    """So many bytes a line; what is left out has a line of its own, so that bytes stay below each other."""
    style = _STYLES[shown.layer]
    pieces: list[tuple[str, str]] = []
    for run in runs(shown, _MOST):
        if run.left_out:
            _line(pieces)
            paragraph([(f"... {count(run.left_out, 'byte')} more ...", "dim")], indent=_BYTES)
        else:
            for one in run.hex.split():
                pieces.append((f"[{one}]", _FLIPPED) if run.flipped else (one, style))
                if len(pieces) == _A_LINE:
                    _line(pieces)
    _line(pieces)


def _line(pieces: list[tuple[str, str]]) -> None:
    """Print what has come together, and begin anew."""
    if pieces:
        paragraph([one for piece in pieces for one in (piece, (" ", ""))][:-1], indent=_BYTES)
        pieces.clear()


def questions(asked: tuple[Question, ...]) -> None:
    line()
    paragraph([("Questions", "bold")])
    for number, one in enumerate(asked, 1):
        paragraph([(f"{number}. ", "bold"), (one.asked, "")], indent=_EXHIBIT)


def answers(asked: tuple[Question, ...]) -> None:
    line()
    paragraph([("Answers", "bold")])
    for number, one in enumerate(asked, 1):
        paragraph([(f"{number}. ", "bold"), (one.answer, "")], indent=_EXHIBIT)


def files(kit: Kit) -> None:
    """What was written, and how it is opened."""
    line()
    line()
    paragraph([(f"Written into {kit.folder}:", "bold")])
    for path, what in (
        (kit.files.on_the_wire, "the packets, no keys"),
        (kit.files.tls_opened, "the same packets, with the keys of TLS"),
        (kit.files.all_opened, "the same packets, with both sets of keys"),
        (kit.lesson, "this story as a page, for a browser and for paper"),
        (kit.plugin, "takes the frames apart in Wireshark"),
        (kit.folder / "wireshark", "a profile: columns, colours, a button for each act"),
        (kit.files.tls_keys, "the keys of TLS, to be entered by hand"),
        (kit.files.frame_keys, "the keys of the frames, to be entered by hand"),
    ):
        paragraph([(f"{path.name:24}", ""), (what, "dim")], indent=_EXHIBIT)
    line()
    line("Open it in Wireshark with:")
    line(f"  {_command(kit)}")


def _command(kit: Kit) -> str:
    """For a shell, from the folder in which this program runs."""

    def quoted(path: Path) -> str:
        return shlex.quote(str(path))

    return (
        f"WIRESHARK_CONFIG_DIR={quoted(kit.folder / 'wireshark')} wireshark -C securedelivery"
        f" -X lua_script:{quoted(kit.plugin)} {quoted(kit.files.all_opened)}"
    )
