import msgspec
import pytest

from securedelivery.api import openrpc
from securedelivery.api.methods import MAX_RESULT, METHODS
from securedelivery.errors import Refusal


def test_the_document_describes_every_method_and_fits_a_frame() -> None:
    document = openrpc.document(METHODS, None, MAX_RESULT)
    assert [method["name"] for method in document["methods"]] == list(METHODS)
    assert len(msgspec.json.encode(document)) <= MAX_RESULT


def test_references_lead_somewhere() -> None:
    document = openrpc.document(METHODS, None, MAX_RESULT)

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [ref for member in value.values() for ref in references(member)]
        return [ref for member in value for ref in references(member)] if isinstance(value, list) else []

    found = references(document)
    assert found
    for reference in found:
        target: object = document
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(target, dict)
            target = target[step]


def test_required_parameters_are_marked() -> None:
    (place,) = (
        one for one in openrpc.document(METHODS, "order", MAX_RESULT)["methods"] if one["name"] == "order.place"
    )
    assert {param["name"]: param["required"] for param in place["params"]} == {
        "idempotency_key": True,
        "lines": True,
        "address": False,
        "redeem_points": False,
    }


def test_a_section_holds_its_methods_only() -> None:
    document = openrpc.document(METHODS, "catalog", MAX_RESULT)
    assert [method["name"] for method in document["methods"]] == ["catalog.list", "catalog.get", "catalog.put"]


def test_where_all_does_not_fit_the_sections_are_listed() -> None:
    document = openrpc.document(METHODS, None, 1_000)
    assert document["methods"] == []
    assert document["x-sections"] == [
        *("system", "rpc", "account", "audit", "report", "catalog", "order", "delivery", "rewards", "chat"),
    ]


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(Refusal, match="there is no section nope") as caught:
        openrpc.document(METHODS, "nope", MAX_RESULT)
    assert caught.value.data == {"path": "/section"}


def test_every_method_names_a_code_once_and_all_its_reasons() -> None:
    for method in openrpc.document(METHODS, None, MAX_RESULT)["methods"]:
        codes = [error["code"] for error in method["errors"]]
        assert len(codes) == len(set(codes))
        reasons = {reason for error in method["errors"] for reason in error["data"]["reasons"]}
        assert reasons == {reason.slug for reason in METHODS[method["name"]].errors}


def test_patterns_are_of_every_dialect() -> None:
    assert b"(?!" not in msgspec.json.encode(openrpc.document(METHODS, None, MAX_RESULT))
