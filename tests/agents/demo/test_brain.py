"""The demo model: what it asks for, what it says, and that no request makes it stumble."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from parley.agents.demo.brain import Finish, Piece, Text, ToolCall, reply

TEXT = {"type": "string"}


def tool(name: str, required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


SEARCH = tool("search_knowledge", ["query"], query=TEXT, limit={"type": "integer"})
CLOCK = tool("current_time", [], timezone=TEXT)
PERSON = tool("handoff_to_human", reason=TEXT)
TOOLS = [SEARCH, CLOCK, PERSON]
LAMPS = {
    "number": 4,
    "title": "Lamps",
    "text": "A lamp burns for 900 hours. Blue lamps are made of glass. Please dust your lamp.",
}
CANDLES = {"number": 7, "title": "Candles", "text": "A candle is made of wax. It drips."}


def ask(*said: str | dict[str, Any], tools: list[dict[str, Any]] | None = None, **more: Any) -> list[Piece]:
    """Ask with a conversation; plain texts are by the user."""
    messages = [{"role": "user", "content": it} if isinstance(it, str) else it for it in said]
    return list(reply({"model": "m", "messages": messages, "tools": TOOLS if tools is None else tools, **more}))


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


def call_of(pieces: list[Piece]) -> ToolCall:
    (call,) = [piece for piece in pieces if isinstance(piece, ToolCall)]
    return call


def arguments_of(pieces: list[Piece]) -> Any:
    return json.loads(call_of(pieces).arguments_json)


def answered(name: str, content: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    function = {"name": name, "arguments": "{}"}
    call = {"id": "c1", "type": "function", "function": function}
    said = content if isinstance(content, str) else json.dumps(content)
    return (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": said},
    )


def found(*rows: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return answered("search_knowledge", {"results": list(rows)})


def test_a_question_is_looked_up_by_its_key_words() -> None:
    pieces = ask("Please tell me, what are blue lamps made of?")

    assert call_of(pieces).name == "search_knowledge"
    assert arguments_of(pieces) == {"query": "blue lamps made"}
    assert pieces[-1].reason == "tool_calls" if isinstance(pieces[-1], Finish) else False


def test_the_schema_is_read_from_the_request_and_not_assumed() -> None:
    other = tool(
        "kb-search",
        ["index", "needle", "fuzzy", "size"],
        index={"type": "string", "enum": ["help", "blog"]},
        needle={"anyOf": [{"type": "null"}, {"type": "string"}], "maxLength": 4},
        fuzzy={"type": "boolean"},
        size={"type": "integer", "minimum": 3},
        notes={"type": "array"},
    )

    pieces = ask("How do lamps work?", tools=[other])

    assert call_of(pieces).name == "kb-search"
    assert arguments_of(pieces) == {"index": "help", "needle": "lamp", "fuzzy": False, "size": 3}


def test_a_tool_without_parameters_is_called_without_arguments() -> None:
    bare = {"type": "function", "function": {"name": "search"}}

    assert arguments_of(ask("How do lamps work?", tools=[bare])) == {}


def test_an_answer_quotes_sentences_of_the_results_under_their_numbers() -> None:
    pieces = ask("What are blue lamps made of?", *found(CANDLES, LAMPS))

    assert text_of(pieces).startswith("Blue lamps are made of glass.")
    assert "[4]" in text_of(pieces)
    assert isinstance(pieces[-1], Finish)
    assert pieces[-1].reason == "stop"


def test_everything_said_about_a_subject_stands_in_the_results() -> None:
    said = text_of(ask("How long does a lamp burn?", *found(LAMPS, CANDLES)))

    known = f"{LAMPS['text']} {CANDLES['text']}"
    quoted = said.replace("[4]", "").replace("[7]", "")
    assert "900 hours" in said
    assert all(sentence.strip() in known for sentence in quoted.split(".") if sentence.strip())


def test_a_second_source_is_quoted_for_what_the_first_does_not_say() -> None:
    said = text_of(ask("lamp wax", *found(LAMPS, CANDLES)))

    assert "[4]" in said
    assert "A candle is made of wax. [7]" in said


def test_what_no_result_answers_is_said_with_the_nearest_titles() -> None:
    said = text_of(ask("Do penguins like glass?", *found(LAMPS, CANDLES)))

    assert "could not find" in said
    assert "“Lamps” [4] and “Candles” [7]" in said
    assert "made of glass" not in said


def test_nothing_found_is_said_as_it_is() -> None:
    assert "could not find" in text_of(ask("Do penguins fly?", *found()))


def test_a_failed_search_is_not_taken_for_an_empty_one() -> None:
    said = text_of(ask("Do penguins fly?", *answered("search_knowledge", {"error": "The tool failed."})))

    assert "could not look this up" in said


@pytest.mark.parametrize(
    "content",
    [
        [{"name": "Lamps", "snippet": LAMPS["text"]}],
        {"documents": [{"heading": "Lamps", "content": LAMPS["text"], "index": 1}]},
        {"hits": [LAMPS["text"]]},
        {"results": [{"title": "Lamps", "text": "# Lamps\n\n- **Blue lamps** are made of glass.\n- Dust it."}]},
    ],
)
def test_results_are_read_in_many_forms(content: Any) -> None:
    said = text_of(ask("What are blue lamps made of?", *answered("search", content)))

    assert "Blue lamps are made of glass." in said
    assert "[1]" in said


def test_a_result_that_is_no_list_is_told_as_it_is() -> None:
    assert text_of(ask("Feed the cat", *answered("feed_cat", "The cat was fed."))) == "The cat was fed."
    assert text_of(ask("Feed the cat", *answered("feed_cat", {"text": "Fed.", "id": 3}))) == "Fed."
    assert text_of(ask("Feed the cat", *answered("feed_cat", {"grams": 30}))) == "grams: 30"


@pytest.mark.parametrize(
    "question",
    [
        "I want to talk to a human",
        "can I speak with a real person please?",
        "agent",
        "Human please!",
        "connect me to someone",
        "I don't want to talk to a bot",
        "get me an operator",
    ],
)
def test_who_asks_for_a_person_gets_one(question: str) -> None:
    pieces = ask(question)

    assert call_of(pieces).name == "handoff_to_human"
    assert question.rstrip() in arguments_of(pieces)["reason"]


@pytest.mark.parametrize("question", ["This is ridiculous, where is my lamp?", "I am so ANGRY", "I am fed up with you"])
def test_anger_calls_a_person(question: str) -> None:
    assert call_of(ask(question)).name == "handoff_to_human"


@pytest.mark.parametrize(
    "question",
    [
        "How can I reach a person by phone?",
        "I do not want to speak to a person, just tell me about lamps",
        "Can someone steal my lamp?",
        "I need a lamp for a person in Oslo",
        "Which people make the lamps?",
    ],
)
def test_a_question_about_people_is_a_question(question: str) -> None:
    assert call_of(ask(question)).name == "search_knowledge"


def test_a_yes_takes_up_the_offer_of_a_person() -> None:
    offer = text_of(ask("Do penguins fly?", *found()))

    assert call_of(ask("Do penguins fly?", {"role": "assistant", "content": offer}, "yes please")).name == (
        "handoff_to_human"
    )
    assert call_of(ask("lamps?", {"role": "assistant", "content": "Lamps."}, "yes please")).name == "search_knowledge"


def test_a_handoff_is_confirmed_or_its_failure_told() -> None:
    assert "human colleague" in text_of(ask("human", *answered("handoff_to_human", "ok")))
    assert "could not reach" in text_of(ask("human", *answered("handoff_to_human", {"error": "no"})))


def test_without_a_tool_for_it_nobody_is_promised() -> None:
    assert call_of(ask("I want to talk to a human", tools=[SEARCH])).name == "search_knowledge"
    assert "cannot call a colleague" in text_of(ask("I want to talk to a human", tools=[CLOCK]))


@pytest.mark.parametrize(
    ("question", "arguments"),
    [
        ("What time is it?", {}),
        ("what's the date today", {}),
        ("What time is it in Tokyo?", {"timezone": "Asia/Tokyo"}),
        ("current time in New York please", {"timezone": "America/New_York"}),
        ("Tell me the time in Europe/Oslo", {"timezone": "Europe/Oslo"}),
        ("what day is it in Bielefeld", {}),
    ],
)
def test_the_clock_is_asked_for_the_time(question: str, arguments: dict[str, str]) -> None:
    pieces = ask(question)

    assert call_of(pieces).name == "current_time"
    assert arguments_of(pieces) == arguments


def test_a_zone_that_must_be_named_is_named() -> None:
    assert arguments_of(ask("What time is it?", tools=[tool("clock", zone=TEXT)])) == {"zone": "UTC"}


@pytest.mark.parametrize("question", ["What time do you open?", "delivery time in Norway?", "How long until the day?"])
def test_a_question_for_the_time_of_something_is_looked_up(question: str) -> None:
    assert call_of(ask(question, tools=[CLOCK, SEARCH])).name == "search_knowledge"


def test_the_time_is_told_as_the_tool_told_it() -> None:
    assert text_of(ask("What time is it?", *answered("current_time", "It is noon."))) == "It is noon."


def test_a_wrong_zone_is_mended_once() -> None:
    failed = answered("current_time", {"error": "timezone: unknown"})

    assert arguments_of(ask("time in Mars/Base now?", *failed)) == {"timezone": "UTC"}
    assert "could not" in text_of(ask("time in Mars/Base now?", *failed, *failed))


@pytest.mark.parametrize(
    ("follow_up", "query"),
    [
        ("And how long does it burn?", "blue lamp burn time"),
        ("What about candles?", "blue lamp candles"),
        ("How much?", "blue lamp cost"),
        ("why?", "blue lamp"),
        ("Do you sell green wooden tables with them?", "sell green wooden tables"),
    ],
)
def test_a_question_that_points_back_is_completed_by_the_one_before(follow_up: str, query: str) -> None:
    pieces = ask("What is a blue lamp?", {"role": "assistant", "content": "A thing. [1]"}, follow_up)

    assert arguments_of(pieces) == {"query": query}


def test_pointing_back_twice_reaches_the_topic() -> None:
    pieces = ask("What is a blue lamp?", "And is it heavy?", "Does it burn?")

    assert arguments_of(pieces)["query"].split()[:2] == ["blue", "lamp"]


def test_results_of_an_earlier_question_are_not_quoted_again() -> None:
    pieces = ask("What are lamps?", *found(LAMPS), {"role": "assistant", "content": "x"}, "Where are candles?")

    assert arguments_of(pieces) == {"query": "candles"}


@pytest.mark.parametrize("question", ["Who are you?", "Are you a bot?", "are you a real person", "What model are you?"])
def test_it_says_what_it_is(question: str) -> None:
    said = text_of(ask(question))

    assert "demo model" in said
    assert "not a person" in said


def test_it_greets_and_says_what_it_can_do() -> None:
    assert text_of(ask("Hi there!")).startswith("Hello!")
    assert "look things up" in text_of(ask("What can you do?"))
    assert "tell the time" not in text_of(ask("What can you do?", tools=[SEARCH]))
    assert text_of(ask("thanks, that was great!")) == "You are welcome."


def test_without_tools_it_answers_nothing_about_the_world() -> None:
    said = text_of(ask("What is the capital of France?", tools=[]))

    assert "demo model" in said
    assert "Paris" not in said


def test_tools_that_may_not_be_used_are_not() -> None:
    assert "no tool" in text_of(ask("What are lamps?", tool_choice="none"))


def test_results_are_answered_from_where_no_tool_is_offered_any_more() -> None:
    assert "made of glass" in text_of(ask("What are blue lamps made of?", *found(LAMPS), tools=[]))


def test_a_summary_quotes_and_a_title_names() -> None:
    system = {"role": "system", "content": "Summarise the conversation."}
    talk = "User: How do lamps burn? I wonder.\nAssistant: For 900 hours. Enjoy."

    assert text_of(ask(system, talk, tools=[])) == "User: How do lamps burn? Assistant: For 900 hours."
    title = {"role": "system", "content": "Write a short title."}
    assert text_of(ask(title, "How do I dust a lamp?", tools=[])) == "Dust lamp"


def test_limits_of_the_request_end_the_answer() -> None:
    whole = text_of(ask("Hello"))
    cut = ask("Hello", max_tokens=5)

    assert isinstance(cut[-1], Finish)
    assert cut[-1].reason == "length"
    assert cut[-1].usage.completion_tokens <= 5
    assert whole.startswith(text_of(cut))
    assert text_of(ask("Hello", stop=["demo"])) == whole.partition("demo")[0]


def test_usage_grows_with_what_is_sent_and_said() -> None:
    def usage(pieces: list[Piece]) -> tuple[int, int]:
        assert isinstance(pieces[-1], Finish)
        return pieces[-1].usage.prompt_tokens, pieces[-1].usage.completion_tokens

    short, long = usage(ask("Hello")), usage(ask("Hello", tools=[], user="x"))
    assert short[0] > long[0] > 0
    assert usage(ask("Hi " + "lamp " * 400))[0] >= short[0] + 490
    assert 20 < short[1] < 80


def test_a_text_comes_in_words() -> None:
    pieces = [piece.text for piece in ask("Hello") if isinstance(piece, Text)]

    assert len(pieces) > 10
    assert all(piece and len(piece) <= 48 for piece in pieces)


def test_the_same_request_gets_the_same_answer_and_ids_differ_within_a_conversation() -> None:
    first = ask("What are lamps?")

    assert first == ask("What are lamps?")
    assert call_of(first).id != call_of(ask("What are lamps?", *found(LAMPS), "What are lamps?")).id


def large() -> Iterator[tuple[str, list[Piece]]]:
    """Requests as large as they come."""
    words = "lamp wax hour return my order and it is not what I want. "
    rows = [{"title": f"Lamp {at}", "text": words * 100} for at in range(50)]
    yield "long question", ask(words * 2_000)
    yield "one long word", ask("x" * 1_000_000)
    yield "many messages", ask(*["And it?"] * 5_000)
    yield "many results", ask("How long is my lamp order?", *found(*rows) * 8)
    yield "long result", ask("How long is my lamp order?", *answered("search", words * 10_000))
    yield "many tools", ask("lamp", tools=[tool(f"t{at}", q=TEXT) for at in range(2_000)])
    yield "backtracking", ask("what model " * 900 + "are you " * 900 + "." * 5_000 + " " * 5_000)
    yield "markup", ask("lamp", *found({"title": "x", "text": "*_`" * 3_000 + "\n- " * 2_000 + "# " * 2_000}))


def test_a_reply_takes_no_time_worth_naming() -> None:
    ask("How long is my lamp order?", *found(LAMPS, CANDLES))
    started = time.thread_time()
    for _ in range(20):
        ask("How long is my lamp order?", *found(LAMPS, CANDLES))
    assert (time.thread_time() - started) / 20 < 0.02

    for name, pieces in _timed(large()):
        assert isinstance(pieces[-1], Finish), name


def _timed(cases: Iterator[tuple[str, list[Piece]]]) -> Iterator[tuple[str, list[Piece]]]:
    while True:
        started = time.thread_time()
        case = next(cases, None)
        took = time.thread_time() - started
        if case is None:
            return
        print(f"{case[0]}: {took * 1000:.1f} ms")
        # A quarter of it is what a callback of the loop may use.
        assert took < 0.2, case[0]
        yield case


KEYS = st.sampled_from(
    [
        *("messages", "role", "content", "tools", "function", "name", "parameters", "properties", "required", "type"),
        *("text", "tool_calls", "tool_call_id", "id", "arguments", "results", "title", "number", "error"),
        *("enum", "default", "minimum", "maxLength", "anyOf"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=30)
    | st.sampled_from(["user", "assistant", "tool", "system", "string", "integer", "search", "current_time", "handoff"])
    | st.sampled_from(["How do I return it?", "human please", "what time is it", "c1", "\ud800", "[[", '{"error": 1}'])
    | st.just('{"results": [{"title": "a", "text": "How. I return."}]}')
)
JSONISH = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6),
    max_leaves=40,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"]) | JSONISH},
    optional={"content": JSONISH, "tool_calls": JSONISH, "tool_call_id": JSONISH, "name": JSONISH},
)
SCHEMA = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.text(max_size=8) | KEYS, JSONISH, max_size=4) | JSONISH},
    optional={"required": st.lists(st.text(max_size=8) | KEYS, max_size=4) | JSONISH},
)
TOOL = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": LEAVES}, optional={"parameters": SCHEMA | JSONISH}) | JSONISH}
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(MESSAGE | JSONISH, max_size=6) | JSONISH,
        "tools": st.lists(TOOL | JSONISH, max_size=4) | JSONISH,
        "max_tokens": LEAVES,
        "max_completion_tokens": LEAVES,
        "stop": JSONISH,
        "tool_choice": JSONISH,
        "model": JSONISH,
    },
)


@given(REQUEST | JSONISH)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example({"messages": [{"role": "user", "content": "\ud800 lamp \x00"}], "tools": [SEARCH]})
@example({"messages": [{"role": "user", "content": "lamp"}, {"role": "tool", "content": "[" * 5_000}]})
@example({"messages": [{"role": "tool", "content": '{"results": [{"number": true, "title": 3, "text": ["a"]}]}'}]})
def test_every_request_is_answered_and_ends_once(request: Any) -> None:
    pieces = list(reply(request))

    assert [piece for piece in pieces if isinstance(piece, Finish)] == pieces[-1:]
    calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
    finish = pieces[-1]
    assert isinstance(finish, Finish)
    assert finish.usage.prompt_tokens >= 0
    assert bool(calls) == (finish.reason == "tool_calls")
    assert all(isinstance(json.loads(call.arguments_json), dict) and call.id for call in calls)
    assert all(piece.text for piece in pieces if isinstance(piece, Text))
