"""Forms that are shown again: what was wrong with which field, in plain words, and the way out."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from securedelivery.errors import Reason, Refusal
from securedelivery.web.problems import status_of

__all__ = ["NO_ERRORS", "UNPROCESSABLE", "Errors", "Fields", "Way", "number", "sentence"]

UNPROCESSABLE = 422
MAX_DIGITS = 15  # whatever has more is too large for every field, and stays an integer that JSON bears

_PATH = re.compile(r"(?:[a-z_]+|[0-9]+)(?:\.[a-z_]+|\.[0-9]+)*: expected ")
_NEEDED = {"address": "Write where it is to go."}
"""What to do about a field that was left empty."""

_BOUND = re.compile(r"`int` (<=|>=) ([0-9]+)")


class Fields(dict[str, str]):
    """Sentences by field; of a field that is right, the empty one."""

    def __missing__(self, _field: str) -> str:
        return ""


class Way(NamedTuple):
    """A link out of what does not work. path: of a page of the shop."""

    path: str
    label: str


class Errors(NamedTuple):
    """What a form is shown again with.

    fields: sentences by field, `address` or `lines.0.quantity`; general: about the form as a whole, or empty; status:
    of the answer.
    """

    fields: Mapping[str, str] = Fields()
    general: str = ""
    way: Way | None = None
    status: int = 200

    @classmethod
    def of(cls, refusal: Refusal) -> "Errors":
        status = status_of(refusal.reason)
        if refusal.reason is Reason.INVALID_PARAMS:
            field = str(refusal.data.get("path", "")).removeprefix("/").replace("/", ".")
            if field:
                return cls.at(field, _remedy(refusal.message, field))
            return cls(general=_remedy(refusal.message), status=UNPROCESSABLE)
        words, way = _words(refusal)
        return cls(general=words, way=way, status=status)

    @classmethod
    def at(cls, field: str, words: str, status: int = UNPROCESSABLE) -> "Errors":
        """One field is wrong."""
        return cls(fields=Fields({field: words}), status=status)

    def __bool__(self) -> bool:
        return bool(self.fields or self.general)

    def placed(self, *shown: str) -> "Errors":
        """What is wrong with fields that the form does not show stands above it."""
        hidden = [words for name, words in self.fields.items() if name not in shown]
        if not hidden:
            return self
        fields = Fields({name: words for name, words in self.fields.items() if name in shown})
        return self._replace(fields=fields, general=" ".join([self.general, *hidden]).strip())


NO_ERRORS = Errors()


def number(text: str) -> int | None:
    """What somebody typed into a field for a count, or None where that is none. Blanks and commas count for nothing."""
    digits = re.sub(r"[\s,]", "", text)
    return int(digits) if re.fullmatch(rf"-?[0-9]{{1,{MAX_DIGITS}}}", digits, re.ASCII) else None


def sentence(text: str) -> str:
    """`there is no order 7` as people write it."""
    if not text:
        return ""
    return f"{text[0].upper()}{text[1:]}{'' if text[-1] in '.!?' else '.'}"


def _remedy(message: str, of: str = "") -> str:
    """Of `address: expected at most 500 characters`, what to do."""
    found = _PATH.match(message)
    if found is None:
        field, _, rest = message.partition(": ")
        return sentence(rest if re.fullmatch(r"[a-z_]+|[0-9]+", field) and rest else message)
    wanted = message[found.end() :]
    if wanted.startswith("at least 1 "):
        return _NEEDED.get(of, "Something is needed here.")
    if bound := _BOUND.fullmatch(wanted):
        wanted = f"{'at most' if bound[1] == '<=' else 'at least'} {int(bound[2]):,}"
    return f"Make it {wanted}."


def _words(refusal: Refusal) -> tuple[str, Way | None]:
    """For somebody who looks at a page, and knows no methods."""
    data, way = refusal.data, None
    match refusal.reason:
        case Reason.OUT_OF_STOCK:
            words = f"Of {data['sku']} there are only {data['available']:,} left: take fewer."
        case Reason.NOT_ENOUGH_POINTS:
            words = f"You have {data['points']:,} points to use."
        case Reason.IDEMPOTENCY_CONFLICT:
            words = (
                "You have sent this form before, with something else in it. See what came of that, or send it again."
            )
        case Reason.RATE_LIMITED:
            words = f"Too many tries. Wait {_while(data.get('retry_after', 1))}, then try again."
        case Reason.UNAVAILABLE:
            words = "The shop cannot answer right now, and nothing has been changed. Try again in a moment."
        case Reason.NOT_LOGGED_IN:
            words, way = "You are not logged in any more.", Way("/login", "Log in")
        case Reason.ILLEGAL_TRANSITION:
            words = sentence(refusal.message.replace("_", " "))
        case Reason.DISABLED:
            words = "The shop has locked this account: nothing can be changed with it."
        case _:
            words = sentence(refusal.message)
    return words, way


def _while(seconds: int) -> str:
    if seconds < 120:  # noqa: PLR2004 -- two minutes
        return "a second" if seconds == 1 else f"{seconds} seconds"
    return f"{-(-seconds // 60)} minutes"
