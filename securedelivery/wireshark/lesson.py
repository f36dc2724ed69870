"""lesson.html: a story as one page that loads nothing from elsewhere, for a browser, a projector and paper."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from securedelivery.wireshark.story import LAYERS, Layer, Part, Story, Strip, Table
from securedelivery.wireshark.story.hexadecimal import Run, count, day, flip, packets, runs
from securedelivery.wireshark.story.words import COMMAND, STAGING, TITLE, WORDS

__all__ = ["page"]

_MOST = 96  # bytes of a part that are shown
_RIBBON = 1_000  # units of its width
_THINNEST = 7  # so that a header of 4 bytes is seen beside 1,184
_LOOKS = (
    "What can be seen: the network's addresses and a closed TLS layer",
    "What can be seen: TLS is open, the frame in it is closed",
    "What can be seen: TLS and the frame are open, and show message and padding",
)


class _Piece(msgspec.Struct, frozen=True):
    layer: Layer
    x: int
    width: int
    sealed: bool


def page(story: Story) -> str:
    """The page, as a text for UTF-8."""
    folder = Path(__file__).parent
    css = (folder / "lesson.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["table"] = lambda one: isinstance(one, Table)
    names: dict[str, Any] = {
        "title": TITLE,
        "words": WORDS,
        "command": COMMAND,
        "staging": STAGING,
        "layers": LAYERS,
        "looks": _LOOKS,
        "runs": _runs,
        "widths": lambda strip: list(_widths(strip)),
        "aside": _is_text,
        "count": count,
        "day": day,
        "flip": flip,
        "packets": lambda numbers: _capitalised(packets(numbers)),
        "since": lambda at: f"{(at - story.at) / 1e9:.3f} s after the first packet",
    }
    return environment.get_template("lesson.html.j2").render(
        names,
        story=story,
        css=Markup(css),  # noqa: S704 -- our own file, and a style element holds no markup
        policy=_policy(css),
    )


def _policy(css: str) -> str:
    """Nothing but this very style sheet: no script, no picture, no font, no frame, no form."""
    digest = b64encode(sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _runs(part: Part) -> list[Run]:
    return list(runs(part, _MOST))


def _is_text(part: Part) -> bool:
    """Whether what it reads needs a box of its own."""
    return bool(part.reads) and part.layer is Layer.MESSAGE


def _widths(strip: Strip) -> Iterator[_Piece]:
    """The strip as a ribbon: each part as wide as it is long, but for what would be too thin to be seen."""
    total = sum(len(part.data) for part in strip.parts) or 1
    spare = _RIBBON - _THINNEST * len(strip.parts)
    x = 0
    for part in strip.parts:
        width = _THINNEST + spare * len(part.data) // total
        yield _Piece(part.layer, x, width, part.sealed)
        x += width


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
