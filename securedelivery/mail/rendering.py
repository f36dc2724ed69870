"""Templates: what mail says, as plain text and as HTML.

A mail NAME is two files. NAME.txt.j2: the subject in the first line, nothing in the second, then the text; and
NAME.html.j2, which extends layout.html.j2 and is escaped. A file of that name in the operator's folder goes before
ours.

Filters: money(currency), day, moment, and prose, which sets a paragraph in lines of 72 columns (in {% filter prose %}).
"""

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    select_autoescape,
)
from msgspec import UNSET

from securedelivery.errors import ConfigurationError
from securedelivery.model import Timestamp, money

WIDTH = 72
"""Columns of plain text (RFC 3676 asks for less than 80)."""

_LINE_END = re.compile("\r\n|[\r\u2028\u2029]")
# What has no place in text: controls but the line's end, half surrogate pairs, what turns the direction of writing.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


class Content(NamedTuple):
    """What a mail says."""

    template: str
    values: Mapping[str, Any]


class Rendered(NamedTuple):
    """subject: one line."""

    subject: str
    text: str
    html: str


class Templates:
    """folder: the operator's; zone: of the times in mail."""

    def __init__(self, folder: Path | None, zone: ZoneInfo) -> None:
        """Raises ConfigurationError."""
        self._folder = folder
        loaders: list[BaseLoader] = [PackageLoader("securedelivery.mail")]
        if folder is not None:
            if not os.path.isdir(folder):  # noqa: PTH112 -- Path's raises where a folder above it may not be entered
                raise ConfigurationError("mail.templates", f"there is no folder {folder}", "make it, or leave it out")
            if not os.access(folder, os.R_OK | os.X_OK):
                raise ConfigurationError(
                    "mail.templates", f"{folder} cannot be read", "let the server's user read it, or leave it out"
                )
            loaders.insert(0, FileSystemLoader(folder))
        self._environment = Environment(
            loader=ChoiceLoader(loaders),
            autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,  # what was checked is what is sent
            finalize=_there,
        )
        self._environment.filters.update(money=money, day=partial(day, zone), moment=partial(moment, zone), prose=prose)

    def render(self, name: str, values: Mapping[str, Any]) -> Rendered:
        """Raises ConfigurationError."""
        subject, body = self._text(name, values)
        if not subject.strip():
            raise self._fault(f"{name}.txt.j2", "its first line, the subject, is empty")
        html = self._filled(f"{name}.html.j2", values)
        return Rendered(" ".join(subject.split()), f"{body.strip()}\n", html)

    def check(self, samples: Mapping[str, Mapping[str, Any]]) -> None:
        """See that all of them can be rendered. samples: values by template. Raises ConfigurationError."""
        for name, values in samples.items():
            self.render(name, values)
            _, body = self._text(name, values)
            if body.partition("\n")[0].strip():
                raise self._fault(f"{name}.txt.j2", "line 2: it has to be empty, for the text begins behind it")

    def _text(self, name: str, values: Mapping[str, Any]) -> tuple[str, str]:
        """The subject, and what stands behind it."""
        subject, _, body = self._filled(f"{name}.txt.j2", values).partition("\n")
        return subject, body

    def _filled(self, name: str, values: Mapping[str, Any]) -> str:
        try:
            text = self._environment.get_template(name).render(values)
        except TemplateSyntaxError as error:
            raise self._fault(error.name or name, f"line {error.lineno}: {error.message}") from error
        except UnicodeDecodeError as error:
            raise self._fault(Path(_opened(error) or name).name, "it is not UTF-8") from error
        except TemplateNotFound as error:  # an OSError too
            raise self._fault_at(error, name, f"there is no template {error.name}") from error
        except OSError as error:
            raise self._fault(Path(error.filename or name).name, f"it cannot be read: {error.strerror}") from error
        except TemplateError as error:
            raise self._fault_at(error, name, str(error.message)) from error
        except Exception as error:  # a template can do whatever Python can
            raise self._fault_at(error, name, f"{type(error).__name__}: {error}") from error
        return _UNSAFE.sub("", _LINE_END.sub("\n", text))

    def _fault_at(self, error: Exception, name: str, what: str) -> ConfigurationError:
        """Where the template's own code was, or that of a template that it uses."""
        place = next(_places(error), None)
        return self._fault(name, what) if place is None else self._fault(place[0], f"line {place[1]}: {what}")

    def _fault(self, name: str, what: str) -> ConfigurationError:
        place = f" in {self._folder}" if self._folder is not None and (self._folder / name).exists() else ""
        return ConfigurationError(
            "mail.templates", f"{name}{place}: {what}", "mend it, or take it out: then the program's own is used"
        )


def _places(error: Exception) -> Iterator[tuple[str, int]]:
    """Templates and lines that the error came through, the innermost first: Jinja has put them into the traceback."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.suffix == ".j2":
            places.append((path.name, trace.tb_lineno))
        trace = trace.tb_next
    yield from reversed(places)


def _opened(error: Exception) -> str | None:
    """The file that Jinja's loader was reading."""
    trace, found = error.__traceback__, None
    while trace is not None:
        names = trace.tb_frame.f_locals
        if trace.tb_frame.f_code.co_name == "get_source" and isinstance(names.get("template"), str):
            found = names["template"]
        trace = trace.tb_next
    return found


def _there(value: Any) -> Any:
    """Of what a template puts out: the delivery code above all is not there."""
    if value is UNSET:
        raise UndefinedError("this is not for mail")
    return value


def prose(text: str) -> str:
    """One paragraph, in lines of 72 columns, each with its end."""
    return f"{textwrap.fill(' '.join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)}\n"


def moment(zone: ZoneInfo, at: Timestamp) -> str:
    """`30 November 2026, 18:45 CET`."""
    local = datetime.fromisoformat(at).astimezone(zone)
    return f"{local.day} {local:%B %Y, %H:%M %Z}"


def day(zone: ZoneInfo, at: Timestamp) -> str:
    """`30 November 2026`."""
    local = datetime.fromisoformat(at).astimezone(zone)
    return f"{local.day} {local:%B %Y}"
