"""The whole story of a play."""

from collections.abc import Sequence

from securedelivery.wireshark.opened import OpenedLeg
from securedelivery.wireshark.play import Play
from securedelivery.wireshark.story.evidence import Evidence
from securedelivery.wireshark.story.harvest import harvest_now
from securedelivery.wireshark.story.model import Story
from securedelivery.wireshark.story.posing import false_names, in_the_middle
from securedelivery.wireshark.story.reading import frames_opened, on_the_wire, tls_opened
from securedelivery.wireshark.story.tampering import one_bit, out_of_turn
from securedelivery.wireshark.story.words import CAST

__all__ = ["tell"]

_ACTS = (on_the_wire, tls_opened, frames_opened, one_bit, out_of_turn, in_the_middle, false_names, harvest_now)


def tell(play: Play, opened_legs: Sequence[OpenedLeg]) -> Story:
    """The story of a play. opened_legs: its connections, opened with its keys (opened.open_play)."""
    evidence = Evidence(play, opened_legs)
    return Story(
        acts=tuple(act(evidence) for act in _ACTS),
        cast=CAST,
        packets=len(play.packets),
        connections=len(play.legs),
        at=play.packets[0].at,
        seconds=play.seconds,
    )
