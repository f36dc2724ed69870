"""Templates: the words and forms that every page has in common."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from securedelivery import model
from securedelivery.model import Cents

__all__ = ["STATIC", "Templates"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"


class Templates:
    """currency: the shop's, for amounts that name none."""

    def __init__(self, currency: str) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals["static"] = static
        self._environment.filters |= {
            "money": lambda amount, of=currency: model.money(Cents(amount), of),
            "moment": moment,
            "brief": brief,
            "day": day,
            "words": words,
        }

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        return self._environment.get_template(f"{name}.html.j2").render(context)


@cache
def static(name: str) -> str:
    """The address of a file in static/, which changes with its content: browsers may keep it for ever."""
    version = sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={version}"


def moment(time: str) -> Markup:
    """`22 November 2026, 14:05 UTC`, for people and for machines. time: a model.Timestamp."""
    found = datetime.fromisoformat(time)
    text = f"{found.day} {found:%B %Y, %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(time, text)


def brief(time: str) -> Markup:
    """`22 Nov, 14:05 UTC`, where there is little room."""
    found = datetime.fromisoformat(time)
    return Markup('<time datetime="{}">{}</time>').format(time, f"{found.day} {found:%b, %H:%M} UTC")


def day(time: str) -> Markup:
    found = datetime.fromisoformat(time)
    return Markup('<time datetime="{}">{}</time>').format(time, f"{found.day} {found:%B %Y}")


def words(name: str) -> str:
    """`out for delivery` of out_for_delivery."""
    return name.replace("_", " ")
