"""The whole kit in one call: play, open, tell, write."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from securedelivery.errors import ConfigurationError, LocalProtocolError
from securedelivery.wireshark import acts, files, lesson, profile
from securedelivery.wireshark.files import Files
from securedelivery.wireshark.opened import open_play
from securedelivery.wireshark.play import Play
from securedelivery.wireshark.plugin import plugin
from securedelivery.wireshark.story import Story, tell

__all__ = ["LESSON", "PLUGIN", "Kit", "make_kit"]

PLUGIN = "securedelivery.lua"
LESSON = "lesson.html"


class Kit(msgspec.Struct, frozen=True):
    """folder: where everything is. seconds: how long it took."""

    folder: Path
    story: Story
    files: Files
    lesson: Path
    plugin: Path
    seconds: float


def make_kit(folder: Path) -> Kit:
    """Play the acts and write everything into a folder, which is made where it is missing; files of an earlier run are
    replaced, others left alone. Raises ConfigurationError where there is no place for the stage or the files, and
    LocalProtocolError where the play does not go as it should.
    """
    began = time.monotonic()
    lesson_file, plugin_file = folder / LESSON, folder / PLUGIN
    with _told("--out", f"{folder} cannot be written into", "name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # before anything is played
            pass
    play = _played()
    legs = open_play(play.packets, play.tls_keys, play.frame_keys)
    story = tell(play, legs)
    with _told("--out", f"{folder} cannot be written into", "make room, or name another folder"):
        captures = files.write(folder, play, legs)
        profile.write(folder, play)
        lesson_file.write_text(lesson.page(story), encoding="utf-8")
        plugin_file.write_text(plugin(), encoding="utf-8")
    return Kit(folder, story, captures, lesson_file, plugin_file, time.monotonic() - began)


def _played() -> Play:
    try:
        return acts.play()
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
