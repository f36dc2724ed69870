"""The page of the API, as a browser gets it; its examples, as a shell runs them."""

import subprocess
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from end_to_end.requirements import require
from web.stage import Browser, WebStage

from securedelivery.errors import Reason
from securedelivery.model import Role
from securedelivery.web import openapi
from securedelivery.web.pages import reference
from securedelivery.web.problems import HTTP_REASONS

VOID = frozenset({"meta", "link", "input", "br", "wbr", "hr", "img", "use", "rect", "path"})


class Page(HTMLParser):
    """ids, links to places on the page, addresses that it loads, examples with the operation that they are of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: set[str] = set()
        self.samples: list[tuple[str, str]] = []
        self._place = ""
        self._sample: list[str] | None = None
        self._text: list[str] = []
        self.feed(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        assert "style" not in own
        assert not [name for name in own if name.startswith("on")]
        if "id" in own:
            self.ids.append(own["id"])
        if tag == "article":
            self._place = own["id"]
        if tag == "a" and own["href"].startswith("#"):
            self.anchors.add(own["href"][1:])
        if tag in ("script", "link", "img"):
            self.loaded.add(own.get("src") or own["href"])
        if tag == "pre":
            self._sample = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            assert self._sample is not None
            self.samples.append((self._place, "".join(self._sample)))
            self._sample = None
        if tag == "article":
            self._place = ""

    def handle_data(self, data: str) -> None:
        self._text.append(data)
        if self._sample is not None:
            self._sample.append(data)


@pytest.fixture(scope="module")
def nobody(web: WebStage) -> Browser:
    return web.client()


@pytest.fixture(scope="module")
def page(nobody: Browser) -> Page:
    answer = nobody.get("/api/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


def test_the_document_is_served_with_a_tag(nobody: Browser) -> None:
    answer = nobody.get("/api/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == openapi.encoded()
    tag = answer.headers["etag"]
    assert tag == openapi.etag()
    again = nobody.get("/api/openapi.json", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert nobody.get("/api/openapi.json", headers={"If-None-Match": '"other"'}).status_code == 200


def test_every_reason_has_its_place_to_which_problems_point(page: Page, nobody: Browser) -> None:
    assert {reason.slug for reason in Reason} | set(HTTP_REASONS) <= set(page.ids)
    assert nobody.get("/api/orders").json()["type"] == "/api/docs#not_logged_in"


def test_every_link_on_the_page_leads_somewhere(page: Page) -> None:
    assert page.anchors <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_every_operation_stands_there(page: Page) -> None:
    document = msgspec.json.decode(openapi.encoded())
    operations = [one["operationId"] for item in document["paths"].values() for one in item.values()]
    assert set(operations) <= set(page.ids)
    assert [place for place, _ in page.samples if place] == operations


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    assert page.loaded
    assert not [address for address in page.loaded if not address.startswith(("/static/", "/api/"))]


def test_it_says_what_members_are_and_what_refuses(page: Page) -> None:
    assert "Idempotency-Key required text, 1 to 128 characters" in page.text
    assert "409 idempotency_conflict , out_of_stock , not_enough_points" in page.text
    assert "unit_price integer as it was when the order was placed" in page.text
    assert "lines required list of LineRequest , 1 to 100" in page.text
    assert "delivery_code not always" in page.text
    assert "admin, agent, courier, customer" in page.text
    assert "For agents, couriers and admins." in page.text


# What each example answers, run one after the other in the order of the page, where that is not a success.
REFUSED = {
    "account.create": 409,  # the first steps have made the account
    "account.login_certificate": 401,  # without one
    "account.bind_certificate": 403,
    "order.advance": 409,  # the one before has cancelled it
    "delivery.confirm": 409,
}
LAST = ("account.disable", "account.change_password", "account.logout")  # these end what the others need
GONE = "account.delete"


@pytest.fixture
def shell(web: WebStage, tmp_path: Path) -> Path:
    require("curl")
    (tmp_path / "ca.crt").write_bytes(web.ca.read_bytes())
    return tmp_path


def run(folder: Path, script: str) -> str:
    done = subprocess.run(
        ["bash", "-eu", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return done.stdout


def test_the_examples_work_as_they_stand(web: WebStage, page: Page, shell: Path) -> None:
    start = [sample for place, sample in page.samples if not place]
    shop, join, login, token = start[:4]
    assert shop == f"SHOP={web.url}"
    preamble = f"TOKEN=\n{shop}\n"
    silent = ' -s -o answer -w "%{http_code}"'
    assert run(shell, f"{preamble}{join}{silent}") == "201"
    assert run(shell, f"{preamble}{token}\n{login}{silent}") == "200"
    web.shop.accounts.set_role(None, "ada", Role.ADMIN)
    web.staff("grace", Role.AGENT)
    samples = dict(sample for sample in page.samples if sample[0])
    for name in (*(one for one in samples if one not in (*LAST, GONE)), *LAST):
        status = run(shell, f"{preamble}{token}\n{samples[name]}{silent}")
        expected = {str(REFUSED[name])} if name in REFUSED else {"200", "201"}
        assert status in expected, f"{name}: {status}\n{samples[name]}\n{(shell / 'answer').read_text()}"
    login = login.replace("seven quiet harbours", "eleven loud markets")
    assert run(shell, f"{preamble}{token}\n{login}{silent}") == "200"
    delete = samples[GONE].replace("seven quiet harbours", "eleven loud markets")
    assert run(shell, f"{preamble}{token}\n{delete}{silent}") == "200"


# Of schemas that our own document does not have today


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "anything"),
        ({"type": "number"}, "number"),
        ({"const": "one"}, "one"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
        ({"type": "string", "minLength": 3}, "text, at least 3 characters"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true or false or null"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": None}, "true or false"),
    ],
)
def test_a_schema_in_words(schema: dict[str, object], words: str) -> None:
    assert "".join(part.text for part in reference._kind(schema)) == words
