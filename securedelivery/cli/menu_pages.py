"""A list of the service that somebody turns over, page by page, on and back."""

from collections.abc import Callable
from typing import Generic, TypeVar

from securedelivery.api.messages import Page
from securedelivery.cli.menu_dialogue import Dialogue

__all__ = ["PER_PAGE", "Pages"]

Item = TypeVar("Item")
PER_PAGE = 10  # what 24 rows show, with title, heads and the question


class Pages(Generic[Item]):
    """fetch(): the page behind a cursor, None for the first."""

    def __init__(self, dialogue: Dialogue, fetch: Callable[[str | None], Page[Item]]) -> None:
        self._dialogue = dialogue
        self._fetch = fetch
        self._cursors: list[str | None] = [None]  # where each page up to this one began
        self.page: Page[Item] = Page([], None)

    @property
    def number(self) -> int:
        """From 1."""
        return len(self._cursors)

    def load(self) -> Page[Item]:
        """The present page, asked for anew. Raises Back where the service does not answer and nobody waits."""
        at = self._cursors[-1]
        self.page = self._dialogue.call(lambda: self._fetch(at))
        return self.page

    def ask(self, first: str, *more: str) -> str:
        """What was typed below the page; `n` and `p` only where there is such a page. Raises Back.

        first: what a number does, or ""; more: further letters and what they do.
        """
        turns = ["n next page"] if self.page.next is not None else []
        turns += ["p page before"] if self.number > 1 else []
        keys = ("n", "p", *(one[0] for one in more))
        while True:
            typed = self._dialogue.command("  ".join([*([first] if first else []), *turns, *more]), *keys)
            if typed == "n" and self.page.next is None:
                self._dialogue.say("This is the last page.")
            elif typed == "p" and self.number == 1:
                self._dialogue.say("This is the first page.")
            else:
                return typed

    def turn(self, typed: str) -> bool:
        """Whether it was `n` or `p`, and the present page is another now."""
        if typed == "n":
            self._cursors.append(self.page.next)
        elif typed == "p":
            self._cursors.pop()
        return typed in ("n", "p")
