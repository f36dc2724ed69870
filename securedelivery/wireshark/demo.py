"""The whole kit in one call: play, open, tell, write."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from securedelivery.errors import ConfigurationError, LocalProtocolError
from securedelivery.protocol.frames import FrameKind
from securedelivery.wireshark import acts, files, lesson, profile
from securedelivery.wireshark.files import Files
from securedelivery.wireshark.opened import OpenedLeg, open_play
from securedelivery.wireshark.play import Play
from securedelivery.wireshark.plugin import plugin
from securedelivery.wireshark.story import Story, tell

__all__ = ["LESSON", "PLUGIN", "Kit", "make_kit"]

PLUGIN = "securedelivery.lua"
LESSON = "lesson.html"
_PLAYS = 4  # one in four has such a HANDSHAKE


class Kit(msgspec.Struct, frozen=True):
    """folder: where everything is. seconds: how long it took."""

    folder: Path
    story: Story
    files: Files
    lesson: Path
    plugin: Path
    seconds: float


def make_kit(folder: Path, between: Callable[[], None] = lambda: None) -> Kit:
    """Play the acts and write everything into a folder, which is made where it is missing; files of an earlier run are
    replaced, others left alone.

    between: called before each act; what it raises ends the play. Raises ConfigurationError where there is no place for
    the stage or the files, LocalProtocolError where the play does not go as it should.
    """
    began = time.monotonic()
    with _told("--out", f"{folder} cannot be written into", "name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    try:
        for _ in range(_PLAYS):
            play = _played(between)
            legs = open_play(play.packets, play.tls_keys, play.frame_keys)
            if not _looks_like_something_else(legs):
                break
        story = tell(play, legs)
        with _told("--out", f"{folder} cannot be written into", "make room, or name another folder"):
            files.write(made, play, legs)
            profile.write(made, play)
            (made / LESSON).write_text(lesson.page(story), encoding="utf-8")
            (made / PLUGIN).write_text(plugin(), encoding="utf-8")
            _put_in_place(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    seconds = time.monotonic() - began
    return Kit(folder, story, Files.in_folder(folder), folder / LESSON, folder / PLUGIN, seconds)


def _looks_like_something_else(legs: Sequence[OpenedLeg]) -> bool:
    """Whether a Wireshark without the dissector would guess wrong: its heuristic for Remote Desktop (rdpmt_tls_) takes
    a HANDSHAKE for its own where the second byte of the random public key is 0 or 1.
    """
    frames = (frame for leg in legs for frame in leg.frames)
    return any(frame.kind == FrameKind.HANDSHAKE and frame.raw[5] <= 1 for frame in frames)


def _put_in_place(made: Path, folder: Path) -> None:
    """Move the files. Another run into the same folder waits meanwhile: all files are to be of one run."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for path in sorted(made.rglob("*")):
            place = folder / path.relative_to(made)
            if path.is_dir():
                place.mkdir(exist_ok=True)
            else:
                path.replace(place)
    finally:
        os.close(descriptor)


def _played(between: Callable[[], None]) -> Play:
    try:
        return acts.play(between)
    except TimeoutError as error:
        raise LocalProtocolError(
            f"the play came to a stop ({error}): run it again where the machine is less busy"
        ) from error
    except OSError as error:
        needs = "it needs loopback connections, 100 open files and a folder for temporary files (TMPDIR)"
        raise ConfigurationError("demo", f"the stage cannot be built ({error.strerror or error})", needs) from error


@contextmanager
def _told(key: str, fault: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(key, f"{fault} ({error.strerror or error})", remedy) from error
