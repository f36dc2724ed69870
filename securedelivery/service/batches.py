"""Batches for the writer whose commands have nothing to share."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from securedelivery.errors import Refusal

Command = TypeVar("Command")
Result = TypeVar("Result")


def one_by_one(run: Callable[[Command], Result], commands: Sequence[Command]) -> list[Result | Refusal]:
    """Each command's result, or why not. run: has written nothing where it refuses."""
    outcomes: list[Result | Refusal] = []
    for command in commands:
        try:
            outcomes.append(run(command))
        except Refusal as refusal:
            outcomes.append(refusal)
    return outcomes
