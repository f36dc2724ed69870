"""The table of methods as an OpenRPC 1.3 document (https://spec.open-rpc.org), in parts where it outgrows a frame."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from securedelivery import __version__
from securedelivery.api.schemas import component_name, components_of
from securedelivery.errors import Reason, Refusal

if TYPE_CHECKING:
    from securedelivery.api.methods import Method

__all__ = ["document"]


def document(methods: Mapping[str, "Method"], section: str | None, max_bytes: int) -> dict[str, Any]:
    """The document of all methods, or of those whose names begin with `section.`.

    Where all take more than max_bytes, it holds no method and lists the sections under `x-sections`: ask for each.
    """
    sections = list(dict.fromkeys(name.partition(".")[0] for name in methods))
    if section is not None and section not in sections:
        raise Refusal.invalid("/section", f"there is no section {section}; there are {', '.join(sections)}")
    chosen = [method for name, method in methods.items() if section in (None, name.partition(".")[0])]
    whole = _document(chosen, sections)
    if section is None and len(msgspec.json.encode(whole)) > max_bytes:
        return _document([], sections)
    return whole


def _document(methods: Sequence["Method"], sections: list[str]) -> dict[str, Any]:
    types = [kind for method in methods for kind in (method.parameters, method.result)]
    schemas, components = components_of(types)
    return {
        "openrpc": "1.3.2",
        "info": {"title": "securedelivery", "version": __version__, "license": {"name": "Apache-2.0"}},
        "x-sections": sections,
        "methods": [
            _method(method, parameters, result, components)
            for method, parameters, result in zip(methods, schemas[::2], schemas[1::2], strict=True)
        ],
        "components": {"schemas": components},
    }


def _method(method: "Method", parameters: dict[str, Any], result: dict[str, Any], components: Any) -> dict[str, Any]:
    struct = components[component_name(parameters)]
    required = struct.get("required", [])
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-name",
        "x-role": method.access.value,
        "params": [
            {"name": name, "required": name in required, "schema": schema}
            for name, schema in struct.get("properties", {}).items()
        ],
        "result": {"name": "result", "schema": result},
        "errors": _errors(method.errors),
    }


def _errors(reasons: Sequence[Reason]) -> list[dict[str, Any]]:
    """One entry a code, as OpenRPC has it: `data.reason` is one of its reasons."""
    by_code: dict[int, list[str]] = {}
    for reason in reasons:
        by_code.setdefault(reason.code, []).append(reason.slug)
    return [
        {"code": code, "message": " or ".join(slugs), "data": {"reasons": slugs}} for code, slugs in by_code.items()
    ]
