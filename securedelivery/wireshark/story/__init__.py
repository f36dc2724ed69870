"""The story of a Play for a class: acts, each with words, bytes of this very run cut by layer, verdicts and questions.

`tell` is pure: the same play gives the same story. The page (lesson.py) and the terminal (cli/demo.py) show it.

    model        Story, Act, Scene, Exhibit, Strip, Part ...: frozen structs, nothing else
    evidence     what happened, looked up; bytes cut into parts by layer
    hexadecimal  bytes as people read them
    reading      acts 1 to 3: the same packets with no keys, those of TLS, and all
    tampering    acts 4 and 5: bits flipped; frames repeated, swapped and cut off
    posing       acts 6 and 7: a gateway that terminates both layers; people who are not who they say they are
    harvest      act 8: what a quantum computer opens of a recording
"""

from securedelivery.wireshark.story.model import (
    LAYERS,
    Act,
    Exhibit,
    Layer,
    Part,
    Question,
    Said,
    Scene,
    Story,
    Strip,
    Table,
)
from securedelivery.wireshark.story.telling import tell

__all__ = [
    "LAYERS",
    "Act",
    "Exhibit",
    "Layer",
    "Part",
    "Question",
    "Said",
    "Scene",
    "Story",
    "Strip",
    "Table",
    "tell",
]
