"""Filling a tool's arguments from its schema, as it stands in the request. Pure; assumes no tool's schema."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_PROPERTIES = 64


def fill(schema: Mapping[str, Any], text: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments: `named` ones where the schema knows them, `text` in the string that asks for it.

    What else is required gets the plainest value of its type; what is optional is left to the tool.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    known = {key: value for key, value in list(properties.items())[:MOST_PROPERTIES] if isinstance(key, str)}
    listed = schema.get("required")
    required = [key for key in listed if isinstance(key, str) and key in known] if isinstance(listed, list) else []
    arguments = {key: value for key, value in named.items() if key in known}
    main = _find_main(known, [*required, *known], arguments) if text else None
    if main is not None:
        arguments[main] = _shorten(text, known[main])
    return arguments | {key: _plainest(known[key]) for key in required if key not in arguments}


def _find_main(known: Mapping[str, Any], order: Sequence[str], taken: Mapping[str, Any]) -> str | None:
    """Return the property that takes the text: the first free string, required ones before optional ones."""
    return next((key for key in order if key not in taken and _is_free_string(known[key])), None)


def _is_free_string(schema: Any) -> bool:
    return isinstance(schema, Mapping) and _type(schema) == "string" and not schema.get("enum")


def _type(schema: Mapping[str, Any]) -> Any:
    """Return the type, of alternatives the first that is not null."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return next((kind for kind in kinds if kind != "null"), None)
    either = schema.get("anyOf")
    if kinds is None and isinstance(either, list):
        found = (option.get("type") for option in either if isinstance(option, Mapping))
        return next((kind for kind in found if kind != "null"), None)
    return kinds


def _shorten(text: str, schema: Mapping[str, Any]) -> str:
    most = schema.get("maxLength")
    return text[:most].rstrip() if isinstance(most, int) and most > 0 else text


def _plainest(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return None
    if "default" in schema:
        return schema["default"]
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    least = schema.get("minimum")
    number = least if isinstance(least, int) else 1
    plain = {"string": "", "integer": number, "number": number, "boolean": False, "array": [], "object": {}}
    kind = _type(schema)
    return plain.get(kind) if isinstance(kind, str) else None
