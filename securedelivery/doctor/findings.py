"""What a check of the doctor says."""

from enum import StrEnum
from typing import NamedTuple

import msgspec


class State(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Not wrong, but good to know."""
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """check: its name in CHECKS. remedy: what to do; empty where there is nothing to do, or `what` says it."""

    check: str
    state: State
    what: str
    remedy: str = ""


class Found(NamedTuple):
    """A Finding before it has the name of its check."""

    state: State
    what: str
    remedy: str = ""


def ok(what: str) -> Found:
    return Found(State.OK, what)


def note(what: str, remedy: str = "") -> Found:
    return Found(State.NOTE, what, remedy)


def wrong(what: str, remedy: str = "") -> Found:
    return Found(State.WRONG, what, remedy)
