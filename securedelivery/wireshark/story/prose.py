"""Sentences that take several lines of source."""

__all__ = ["prose"]


def prose(text: str) -> str:
    """The words with one space between them."""
    return " ".join(text.split())
