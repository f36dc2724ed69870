"""Schemathesis over the document of /api, against the running service: whatever it thinks of, no answer is a 5xx, and
each is what the document says.

It thinks the same each time. Its positive and negative cases for each parameter (its coverage phase) go to each
operation once, from somebody who may call it; some of its random ones go to each from everybody.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from certificate_authority import CertificateAuthority
from hypothesis import HealthCheck, settings
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service.shop import CHEAP
from web.stage import PASSWORD, WebStage

from securedelivery import application
from securedelivery.api.methods import METHODS, Access
from securedelivery.model import Role
from securedelivery.service.passwords import Passwords
from securedelivery.web import openapi

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENTERING = frozenset({"account.create", "account.login", "account.login_certificate", "account.logout"})
CUSTOMER, ADMIN, NOBODY = "mona", "ruth", "nobody"


def document(*, coverage: bool, **changes: Any) -> BaseSchema:
    schema: BaseSchema = schemathesis.openapi.from_dict(msgspec.json.decode(openapi.encoded()) | changes)
    schema.config.generation.with_security_parameters = False  # who asks is our business
    schema.config.phases.coverage.enabled = coverage
    return schema


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )


class Visitor:
    """Somebody with a session, which some calls end: it is begun anew."""

    def __init__(self, web: WebStage, name: str) -> None:
        self._web = web
        self._name = name
        self._token = ""
        self._session = requests.Session()
        self._session.trust_env = False
        self.answers: Counter[int] = Counter()

    def call(self, case: Case) -> Response:
        if self._name != NOBODY and not self._token:
            self._log_in()
        if self._token:
            case.headers["X-CSRF-Token"] = self._token
        answer = case.call_and_validate(self._web.url, self._session, checks=CHECKS, verify=str(self._web.ca))
        method = case.operation.definition.raw["x-method"]
        if answer.status_code == 401 or (method in ENTERING and answer.status_code < 300):
            self._token = ""
            self._session.cookies.clear()
        self.answers[answer.status_code] += 1
        return answer

    def close(self) -> None:
        self._session.close()

    def _log_in(self) -> None:
        entered = self._session.post(
            f"{self._web.url}/api/session",
            json={"username": self._name, "password": PASSWORD},
            verify=str(self._web.ca),
            timeout=20,
        )
        assert entered.status_code == 200, entered.text
        self._token = entered.headers["x-csrf-token"]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority) -> Iterator[WebStage]:
    """With an Argon2 as cheap as it gets: it is asked hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(application, "Passwords", partial(Passwords, profile=CHEAP))
        stage = WebStage(tmp_path_factory.mktemp("schemathesis"), authority)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def visitors(web: WebStage) -> Iterator[dict[str, Visitor]]:
    """With what the examples of the document are about: an order, a conversation, a product."""
    customer, _admin = web.customer(CUSTOMER, address="12 Wharf Lane"), web.staff(ADMIN, Role.ADMIN)
    customer.order(("CPU-1", 1), key="mona-1")
    customer.post("/api/chat/messages", json={"text": "Hello"}, headers={"Idempotency-Key": "mona-1"})
    visitors = {name: Visitor(web, name) for name in (NOBODY, CUSTOMER, ADMIN)}
    yield visitors
    for one in visitors.values():
        one.close()


thorough = document(coverage=True)


@thorough.parametrize()
@bounded(12)
def test_what_it_thinks_of_for_each_parameter(case: Case, visitors: dict[str, Visitor]) -> None:
    method = METHODS[case.operation.definition.raw["x-method"]]
    everybody = method.access in (Access.ANY, Access.CUSTOMER)
    visitors[CUSTOMER if everybody else ADMIN].call(case)


random = document(coverage=False)


@pytest.mark.parametrize("who", [NOBODY, CUSTOMER, ADMIN])
@random.parametrize()
@bounded(10)
def test_what_it_thinks_of_by_chance(case: Case, visitors: dict[str, Visitor], who: str) -> None:
    visitors[who].call(case)


def test_it_would_have_complained(visitors: dict[str, Visitor]) -> None:
    """Of an answer whose status is not in the document, and of one that is not what it says there."""
    paths = msgspec.json.decode(openapi.encoded())["paths"]
    ping = paths["/api/system/ping"]["get"]
    for spoiled in ({"418": {"description": "?"}}, {"200": paths["/api/account"]["get"]["responses"]["200"]}):
        changed = {**paths, "/api/system/ping": {"get": {**ping, "responses": spoiled}}}
        case = document(coverage=False, paths=changed)["/api/system/ping"]["GET"].Case()
        with pytest.raises(FailureGroup):
            visitors[NOBODY].call(case)


def test_it_has_been_everywhere(visitors: dict[str, Visitor], record_property: Any) -> None:
    """As the last one: what came before has met every kind of answer that can be had without a database that fails."""
    answers = sum((one.answers for one in visitors.values()), Counter())
    record_property("requests", sum(answers.values()))
    assert {200, 201, 400, 401, 403, 404, 405, 409, 412, 428} <= set(answers)
    assert answers[200] + answers[201] > sum(answers.values()) / 20
