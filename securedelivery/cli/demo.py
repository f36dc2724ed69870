"""`securedelivery demo`: a throw-away shop, its customers and their enemies, recorded and told in acts."""

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import argon2  # noqa: F401 -- of the server's part, which whoever gets here needs, the quickest to import
import jinja2  # noqa: F401 -- likewise
import typer

from securedelivery.cli import failures, options, terminal
from securedelivery.cli.service import ask, has_terminal
from securedelivery.errors import ConfigurationError

if TYPE_CHECKING:
    from securedelivery.wireshark.story import Act

app = typer.Typer()

LAST_ACT = 8
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@app.command(
    "demo",
    epilog=options.examples("demo", "demo --pause", "demo --act 4 --act 5 --out lesson-of-monday"),
)
def demo(
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Where the files go; it is made if it is not there.", metavar="DIR")
    ] = Path("securedelivery-demo"),
    acts: Annotated[
        list[int] | None,
        typer.Option(
            "--act", metavar="1..8", help="Tell this act in full; several times for several.", show_default=False
        ),
    ] = None,
    pause: Annotated[
        bool, typer.Option("--pause", help="Tell all in full; wait for Enter between acts, and before answers.")
    ] = False,
) -> None:
    """For teachers: what encryption does, in eight acts, on real connections that are made and recorded now.

    It makes a throw-away CA and shop, lets customers order and attackers try, and writes the packets for any Wireshark
    from 4.0 on: with no, one and both sets of keys, and a lesson to read or print. It takes about a second, needs no
    rights, and uses this machine's loopback alone.
    """
    from securedelivery.cli import demo_output
    from securedelivery.wireshark.demo import make_kit

    if pause and not has_terminal():
        raise ConfigurationError("--pause", "there is no terminal to wait at", "leave it out")
    wanted = set(acts or range(1, LAST_ACT + 1))
    for number in wanted - set(range(1, LAST_ACT + 1)):
        raise ConfigurationError("--act", f"there is no act {number}", f"they are 1 to {LAST_ACT}")
    # Ctrl-C waits for the end of an act, so that the stage is always cleared away.
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        kit = make_kit(out, _heed)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    chosen = [one for one in kit.story.acts if one.number in wanted]
    try:
        demo_output.beginning(kit)
        if acts or pause:
            _tell(chosen, pause=pause)
        else:
            _sum_up(chosen)
    except KeyboardInterrupt:
        terminal.line()
        demo_output.files(kit)
        raise typer.Exit(failures.INTERRUPTED) from None
    except EOFError:
        terminal.line()
    demo_output.files(kit)


def _heed() -> None:
    if signal.sigpending() & _ENDING:
        raise KeyboardInterrupt


def _sum_up(acts: Iterable["Act"]) -> None:
    """The whole of it would be a thousand lines that nobody has asked for."""
    from securedelivery.cli import demo_output

    for act in acts:
        demo_output.overview(act)
    demo_output.more()


def _tell(acts: Iterable["Act"], *, pause: bool) -> None:
    """Raises EOFError and KeyboardInterrupt where whoever reads has had enough."""
    from securedelivery.cli import demo_output

    for number, act in enumerate(acts):
        if pause:
            ask(f"\nEnter goes on with act {act.number}{', Ctrl-D ends' if not number else ''} ")
        demo_output.act(act)
        demo_output.questions(act.questions)
        if pause:
            ask("\nEnter shows the answers ")
        demo_output.answers(act.questions)
