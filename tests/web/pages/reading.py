"""An HTML page as somebody without scripts has it: its words, its links and its forms."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())  # noqa: SIM905
_SILENT = frozenset(("script", "style", "template", "title"))


@dataclass
class Shown:
    """An element. texts: in order, of itself and of what is in it."""

    tag: str
    attributes: dict[str, str | None]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts)).strip()

    def get(self, name: str) -> str:
        return self.attributes.get(name) or ""


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    """As they are sent where nothing is typed; an unticked box is not there."""
    buttons: list[str] = field(default_factory=list)


class Reading(HTMLParser):
    """Of an answer, whose status is checked."""

    def __init__(self, answer: httpx.Response, status: int = 200) -> None:
        super().__init__()
        assert answer.status_code == status, answer.text
        self.elements: list[Shown] = []
        self.forms: dict[str, Form] = {}
        self._open: list[Shown] = []
        self._form: Form | None = None
        self.feed(answer.text)
        self.close()

    @property
    def text(self) -> str:
        return self.find("body").text

    @property
    def title(self) -> str:
        return self.find("title").text

    def find(self, tag: str, **attributes: str) -> Shown:
        """The only one; an attribute's value `*` is any. Underscores stand for hyphens."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, (tag, attributes, found)
        return found[0]

    def all(self, tag: str, **attributes: str) -> list[Shown]:
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            one
            for one in self.elements
            if (tag in (one.tag, "*"))
            and all(name in one.attributes and value in (one.get(name), "*") for name, value in wanted.items())
        ]

    def links(self) -> dict[str, str]:
        """Addresses, by their words."""
        return {one.text: one.get("href") for one in self.all("a")}

    def alert(self) -> str:
        """What went wrong."""
        [said] = [one.text for one in self.all("*", role="alert") if "hidden" not in one.attributes]
        return said

    def error(self, name: str) -> str:
        """What is said beside a field, which has to be marked for a screen reader, too."""
        [control] = [one for one in self.all("*", name=name) if one.get("aria-invalid") == "true"]
        return " ".join(self.find("*", id=each).text for each in control.get("aria-describedby").split())

    # HTMLParser

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Shown(tag, dict(attrs))
        self.elements.append(element)
        self._enter_form(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open:
            element = self._open.pop()
            if element.tag == "form":
                self._form = None
            if element.tag == "textarea" and self._form is not None:
                self._form.fields[element.get("name")] = "".join(element.texts).removeprefix("\n")
            if element.tag == tag:
                break

    def handle_data(self, data: str) -> None:
        silent = next((place for place, one in enumerate(self._open) if one.tag in _SILENT), None)
        heard = self._open if silent is None else self._open[silent:]
        for element in heard:
            element.texts.append(data)

    def _enter_form(self, element: Shown) -> None:
        if element.tag == "form":
            self._form = self.forms[element.get("action")] = Form(element.get("action"))
        elif self._form is not None and element.tag == "input":
            box = element.get("type") in ("checkbox", "radio")
            if not box or "checked" in element.attributes:
                self._form.fields[element.get("name")] = element.get("value") or ("on" if box else "")
        elif self._form is not None and element.tag == "button":
            self._form.buttons.append(element.get("name"))
