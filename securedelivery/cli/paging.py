"""Following the pages of a list as far as a --limit goes."""

from collections.abc import Callable
from typing import TypeVar

from securedelivery.api.messages import Page

__all__ = ["collect"]

Item = TypeVar("Item")
MOST = 200  # that a page can hold


def collect(page: Callable[[str | None, int], Page[Item]], *, after: str | None, limit: int | None) -> Page[Item]:
    """Pages joined to one. page(after, limit of 1 to 200); limit: how many in all, None for all."""
    items: list[Item] = []
    while True:
        wanted = MOST if limit is None else min(MOST, limit - len(items))
        part = page(after, wanted)
        items += part.items
        after = part.next
        if after is None or (limit is not None and len(items) >= limit):
            return Page(items, after)
