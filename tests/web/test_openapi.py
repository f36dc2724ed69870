"""The document of /api, against the official meta schema and against the table that it is made of."""

import re
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from securedelivery.api.methods import METHODS, Access
from securedelivery.errors import Reason
from securedelivery.web import openapi
from securedelivery.web.problems import HTTP_REASONS, status_of
from securedelivery.web.reasons import EXPLAINED, status_of_slug
from securedelivery.web.routes import ROUTES

VERBS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def document() -> Any:
    return msgspec.json.decode(openapi.encoded())


@pytest.fixture(scope="module")
def operations(document: Any) -> dict[str, Any]:
    """By verb and path."""
    return {
        f"{verb.upper()} {path}": operation
        for path, item in document["paths"].items()
        for verb, operation in item.items()
    }


def resolved(document: Any, value: Any) -> Any:
    while "$ref" in value:
        found = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value


def reasons(document: Any, operation: Any) -> dict[str, set[str]]:
    """Of an operation's refusals, by status."""
    found = {}
    for status, response in operation["responses"].items():
        content = resolved(document, response).get("content", {})
        if "application/problem+json" in content:
            (_, own) = content["application/problem+json"]["schema"]["allOf"]
            assert own["properties"]["status"] == {"const": int(status)}
            found[status] = set(own["properties"]["reason"]["enum"])
    return found


def test_it_is_an_openapi_document(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_the_validator_would_have_complained(document: Any) -> None:
    broken = {**document, "paths": {"api/orders": {}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_every_route_is_an_operation_and_every_method_has_one(operations: dict[str, Any]) -> None:
    routes = {f"{route.verb} {route.path.replace(':path', '')}": route.method for route in ROUTES}
    assert {where: operation["x-method"] for where, operation in operations.items()} == routes
    assert set(routes.values()) == set(METHODS)


def test_operations_have_names_of_their_own_which_are_those_of_the_methods(operations: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len(set(names))
    assert set(METHODS) <= set(names)
    assert set(names) - set(METHODS) == {"order.update.patch"}


def test_roles_are_those_of_the_table(operations: dict[str, Any]) -> None:
    for operation in operations.values():
        access = METHODS[operation["x-method"]].access
        assert operation["x-role"] == access.value
        assert ({} in operation["security"]) == (
            access is Access.ANY and operation["x-method"] != "account.login_certificate"
        )


def test_every_parameter_is_asked_for_once_and_in_one_place(document: Any, operations: dict[str, Any]) -> None:
    named = {"Idempotency-Key": {"idempotency_key", "message_key"}, "If-Match": {"version"}}
    for where, operation in operations.items():
        wanted = {field.encode_name for field in msgspec.structs.fields(METHODS[operation["x-method"]].parameters)}
        found: list[str] = []
        for parameter in operation["parameters"]:
            if parameter["in"] in ("path", "query"):
                found.append(parameter["name"])
            else:
                found += wanted & named.get(parameter["name"], set())
        if "requestBody" in operation:
            body = resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
            found += body["properties"]
        assert sorted(found) == sorted(wanted), where


def test_required_is_what_the_table_requires(document: Any, operations: dict[str, Any]) -> None:
    place = operations["POST /api/orders"]
    (key, csrf) = place["parameters"]
    assert (key["name"], key["in"], key["required"]) == ("Idempotency-Key", "header", True)
    assert (csrf["name"], csrf["required"]) == ("X-CSRF-Token", False)
    assert place["requestBody"]["required"]
    body = resolved(document, place["requestBody"]["content"]["application/json"]["schema"])
    assert body["required"] == ["lines"]
    figures = operations["GET /api/reports/figures"]
    assert [(one["name"], one["in"], one["required"]) for one in figures["parameters"]] == [
        ("from", "query", True),
        ("to", "query", True),
    ]


def test_a_password_is_never_part_of_an_address(operations: dict[str, Any]) -> None:
    for operation in operations.values():
        assert not [one for one in operation["parameters"] if "password" in one["name"]]


def test_refusals_are_those_of_the_method_with_their_statuses(document: Any, operations: dict[str, Any]) -> None:
    for where, operation in operations.items():
        method = METHODS[operation["x-method"]]
        found = reasons(document, operation)
        for status, slugs in found.items():
            assert all(status_of_slug(slug) == int(status) for slug in slugs), where
        everything = set().union(*found.values())
        own = {reason.slug for reason in method.errors}
        assert own <= everything, where
        assert ("not_logged_in" in everything) == (method.access is not Access.ANY), where
        assert {"invalid_params", "internal", "unavailable", "forbidden"} <= everything, where
        assert ("precondition_required" in everything) == (method.name == "order.update"), where


def test_an_order_comes_with_its_version(document: Any, operations: dict[str, Any]) -> None:
    for where, operation in operations.items():
        (answer,) = (one for status, one in operation["responses"].items() if status in ("200", "201"))
        schema = answer["content"]["application/json"]["schema"]
        assert ("ETag" in answer["headers"]) == (schema == {"$ref": "#/components/schemas/Order"}), where
        properties = resolved(document, schema).get("properties", {})
        assert ("Link" in answer["headers"]) == ("next" in properties), where
    created = operations["POST /api/orders"]["responses"]["201"]["headers"]
    assert resolved(document, created["Location"])["required"]


def test_every_reason_is_explained_with_its_status() -> None:
    assert set(EXPLAINED) == {reason.slug for reason in Reason} | set(HTTP_REASONS)
    for reason in Reason:
        expected = 412 if reason is Reason.VERSION_CONFLICT else status_of(reason)
        assert status_of_slug(reason.slug) == expected
    for slug, one in EXPLAINED.items():
        assert one.meaning.endswith("."), slug
        assert one.remedy, slug


def test_examples_fit_their_schemas(document: Any, operations: dict[str, Any]) -> None:
    for where, operation in operations.items():
        if "requestBody" in operation:
            example = operation["requestBody"]["content"]["application/json"]["example"]
            method = METHODS[operation["x-method"]]
            elsewhere = {one["name"]: one["example"] for one in operation["parameters"] if one["in"] == "path"} | {
                "idempotency_key": "k",
                "message_key": "k",
                "version": 1,
            }
            assert msgspec.convert({**elsewhere, **example}, method.parameters), where


def test_there_is_nothing_that_nothing_refers_to(document: Any) -> None:
    text = openapi.encoded().decode()
    for kind in ("schemas", "responses", "headers"):
        for name in document["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text, name


def test_its_words_are_for_everybody(document: Any) -> None:
    text = openapi.encoded().decode()
    assert "(?!" not in text
    assert not re.search(r"(?<!-)\bNone\b", text)
    assert document["info"]["title"] == "securedelivery"


def test_the_tag_changes_with_the_document_alone() -> None:
    assert re.fullmatch(r'"[0-9a-f]{32}"', openapi.etag())
    assert openapi.etag() == openapi.etag()
