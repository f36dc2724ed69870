"""JSON Schemas of the structs of the table, for the documents that describe it: OpenRPC and OpenAPI."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from securedelivery.api.messages import STRICT_END

__all__ = ["REF", "component_name", "components_of"]

REF = "#/components/schemas/"

_GENERIC = re.compile(r"(Page|History)_(.+)_")
_UNION = re.compile(r"[\w.]*\.([A-Z][a-z]+)[A-Z]\w*___.*")


def components_of(types: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """A schema for each type, and the components that they refer to, by name."""
    schemas, components = msgspec.json.schema_components(types, ref_template=f"{REF}{{name}}")
    names = {name: _short(name) for name in components}
    return (
        [_portable(schema, names) for schema in schemas],
        {names[name]: _portable(schema, names) for name, schema in components.items()},
    )


def component_name(schema: dict[str, Any]) -> str:
    """Of a schema that is a reference."""
    reference: str = schema["$ref"]
    return reference.removeprefix(REF)


def _short(name: str) -> str:
    """`AccountPage` for msgspec's `Page_Account_`; of a union, what its members' names begin with: `ExportedPage`."""
    if generic := _GENERIC.fullmatch(name):
        item = union[1] if (union := _UNION.fullmatch(generic[2])) else generic[2]
        return f"{item}{generic[1]}"
    return name


def _portable(schema: Any, names: dict[str, str]) -> Any:
    """As other languages say it.

    Patterns end in `$` alone: what keeps Python's `$` from matching before a line end is not in every dialect.
    """
    if not isinstance(schema, dict):
        return [_portable(one, names) for one in schema] if isinstance(schema, list | tuple) else schema
    return {name: _member(name, value, names) for name, value in schema.items()}


def _member(name: str, value: Any, names: dict[str, str]) -> Any:
    if not isinstance(value, str):
        return _portable(value, names)
    if name == "pattern":
        return value.removesuffix(STRICT_END)
    if name == "description":
        return re.sub(r"\bNone\b", "null", " ".join(value.split()))
    return f"{REF}{names[value.removeprefix(REF)]}" if value.startswith(REF) else value
