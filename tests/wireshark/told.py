"""One play for all tests of the story, and what is told of it."""

from functools import cache

from securedelivery.wireshark import acts
from securedelivery.wireshark.opened import OpenedLeg, open_play
from securedelivery.wireshark.play import Play
from securedelivery.wireshark.story import Exhibit, Part, Story, Strip, Table, tell


@cache
def performed() -> Play:
    return acts.play()


@cache
def opened() -> list[OpenedLeg]:
    play = performed()
    return open_play(play.packets, play.tls_keys, play.frame_keys)


@cache
def story() -> Story:
    return tell(performed(), opened())


def exhibits(number: int | None = None) -> list[Exhibit]:
    """Of one act, or of all."""
    return [
        one
        for act in story().acts
        if number in {None, act.number}
        for scene in act.scenes
        for one in scene.shown
        if isinstance(one, Exhibit)
    ]


def exhibit(number: int, title: str) -> Exhibit:
    (found,) = [one for one in exhibits(number) if one.title == title]
    return found


def tables(number: int) -> list[Table]:
    return [
        one
        for act in story().acts
        if act.number == number
        for scene in act.scenes
        for one in scene.shown
        if isinstance(one, Table)
    ]


def words(number: int) -> str:
    """The paragraphs of an act."""
    return "\n".join(text for scene in story().acts[number - 1].scenes for text in scene.paragraphs)


def parts() -> list[Part]:
    return [part for one in exhibits() for strip in one.strips for part in strip.parts]


def joined(strip: Strip) -> bytes:
    return b"".join(part.data for part in strip.parts)
