"""What a model is told about a tool, and which arguments it may hand in."""

import json
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from parley.agents.tools.outcome import ToolContext, ToolMistake
from parley.agents.tools.schema import ARGUMENTS_CHARS, Parameters


class Place(BaseModel):
    title: str
    floor: int = 0


async def book(  # noqa: D417  # what is not described is part of the test
    context: ToolContext,
    day: date,
    order: UUID,
    seats: Annotated[int, Field(ge=1, le=9)] = 1,
    *,
    kind: Literal["inside", "outside"] = "inside",
    place: Place | None = None,
    notes: list[str] | None = None,
) -> str:
    """Book a table.

    For today or later.

    Args:
        day: The day, such as
            2026-01-02.
        order (UUID): The order's id.

    Returns:
        Nothing the model should know.
    """
    return f"{context} {day} {order} {seats} {kind} {place} {notes}"


def bare() -> None:
    """Do it."""


GOOD = {"day": "2026-01-02", "order": "0192d3a0-0000-7000-8000-000000000000"}


def parse(**more: Any) -> dict[str, Any]:
    return Parameters(book).parse(json.dumps({**GOOD, **more}))


def test_the_schema_comes_from_signature_and_docstring_and_hides_the_context() -> None:
    parameters = Parameters(book)

    assert parameters.description == "Book a table. For today or later."
    assert parameters.takes_context
    schema = parameters.json_schema
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["day", "order"]
    assert schema["properties"]["day"] == {
        "type": "string",
        "format": "date",
        "description": "The day, such as 2026-01-02.",
    }
    assert schema["properties"]["order"]["description"] == "The order's id."
    assert schema["properties"]["seats"] == {"type": "integer", "minimum": 1, "maximum": 9, "default": 1}
    assert schema["properties"]["kind"]["enum"] == ["inside", "outside"]
    # A name is no title that was made up.
    assert set(schema["$defs"]["Place"]["properties"]) == {"title", "floor"}
    assert "context" not in json.dumps(schema)


def test_values_arrive_as_what_the_signature_says() -> None:
    values = parse(place={"title": "window"}, notes=["quiet"])

    assert values == {
        "day": date(2026, 1, 2),
        "order": UUID(GOOD["order"]),
        "seats": 1,
        "kind": "inside",
        "place": Place(title="window"),
        "notes": ["quiet"],
    }


@pytest.mark.parametrize("nothing", ["", "  ", "{}"])
def test_no_arguments_may_be_sent_as_nothing(nothing: str) -> None:
    assert Parameters(bare).parse(nothing) == {}


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"seats": "3"}, "seats"),
        ({"seats": 3.5}, "seats"),
        ({"seats": True}, "seats"),
        ({"seats": 10**30}, "seats"),
        ({"seats": 0}, "seats"),
        ({"kind": "roof"}, "kind"),
        ({"day": "tomorrow"}, "day"),
        ({"order": "' OR 1=1"}, "order"),
        ({"user_id": GOOD["order"]}, "user_id"),
        ({"context": {"user": {"role": "admin"}}}, "context"),
        ({"notes": [None]}, "notes.0"),
        ({"place": {"title": "x", "floor": "1"}}, "place.floor"),
        ({"place": {"title": "x", "owner": 1}}, "place.owner"),
        ({"__class__": 1}, "__class__"),
    ],
)
def test_arguments_that_do_not_fit_are_named_and_not_repeated(more: dict[str, Any], where: str) -> None:
    with pytest.raises(ToolMistake) as caught:
        parse(**more)

    assert f"{where}: " in str(caught.value)
    assert "OR 1=1" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


HOSTILE = {
    "not JSON": "{day: today}",
    "cut off": '{"day": "2026-0',
    "trailing": '{"day": "2026-01-02"} or so',
    "two": '{"day": "2026-01-02"}{"day": "2026-01-03"}',
    "list": '["2026-01-02"]',
    "text": '"2026-01-02"',
    "number": "17",
    "null": "null",
    "NaN": '{"seats": NaN}',
    "Infinity": '{"seats": -Infinity}',
    "long number": '{"seats": ' + "9" * 5_000 + "}",
    "huge exponent": '{"seats": 1e999}',
    "NUL escaped": '{"day": "2026\\u0000"}',
    "NUL in a key": '{"a\\u0000b": 1}',
    "NUL as it is": '{"day": "\x00"}',
    "surrogate escaped": '{"day": "\\ud83d"}',
    "surrogate as it is": '{"day": "\ud83d"}',
    "deep lists": '{"notes": ' + "[" * 10_000 + "]" * 10_000 + "}",
    "deep objects": '{"notes": ' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}",
    "allowed depth": '{"notes": ' + "[" * 150 + "]" * 150 + "}",
    "huge": '{"notes": ["' + "x" * 10_000_000 + '"]}',
    "just too long": '{"notes": ["' + "x" * ARGUMENTS_CHARS + '"]}',
    "many keys": json.dumps({f"k{at}": at for at in range(2_000)}),
    "byte order mark": '\ufeff{"day": "2026-01-02"}',
    "control characters": "\x1b\x07",
}


@pytest.mark.parametrize("arguments", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_arguments_are_a_mistake_and_nothing_else(arguments: str) -> None:
    with pytest.raises(ToolMistake) as caught:
        Parameters(book).parse(arguments)

    assert len(str(caught.value)) < 1_000


@given(st.text(st.characters()) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_taken_or_a_mistake(arguments: str) -> None:
    try:
        values = Parameters(bare).parse(arguments)
    except ToolMistake:
        return
    assert values == {}


def test_what_is_shown_is_plain_json() -> None:
    shown = Parameters(book).show(json.dumps({**GOOD, "place": {"title": "window"}}))

    assert json.loads(json.dumps(shown)) == {**GOOD, "place": {"title": "window"}}


def test_a_function_that_makes_no_tool_is_refused_where_it_is_written() -> None:
    def untyped(query) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Do it."""

    def starred(*queries: str) -> None:
        """Do it."""

    def late(query: str, context: ToolContext) -> None:
        """Do it."""

    def silent(query: str) -> None: ...

    for function, reason in (
        (untyped, "no type"),
        (starred, "name of its own"),
        (late, "first"),
        (silent, "docstring"),
    ):
        with pytest.raises(TypeError, match=reason):
            Parameters(function)


def test_numbers_that_javascript_cannot_hold_are_shown_as_text() -> None:
    def track(numbers: list[int]) -> None:
        """Look for parcels."""

    shown = Parameters(track).show(json.dumps({"numbers": [2**53 - 1, 2**53, 10**22]}))
    assert shown == {"numbers": [2**53 - 1, str(2**53), "1" + "0" * 22]}
