"""Citations: a source has one number in a reply, whoever finds it, and keeps it over a takeover."""

import json

import pytest

from parley.agents.interface import Result
from parley.agents.knowledge import Passage
from parley.agents.tools.citations import EXCERPT_CHARS, Citations
from parley.agents.tools.outcome import Ran


def ran(*ids: str) -> Ran:
    return Ran(
        "c", is_ok=True, content="", summary="s", sources=[Passage(it, it.upper(), f"About {it}.") for it in ids]
    )


def numbers(content: str) -> list[int]:
    return [row["number"] for row in json.loads(content)["results"]]


def test_sources_are_numbered_on_and_known_ones_keep_their_number() -> None:
    citations = Citations()
    first, new = citations.result(ran("a", "b"))
    second, newer = citations.result(ran("c", "a"))

    assert numbers(first.content) == [1, 2]
    assert numbers(second.content) == [3, 1]
    assert [(source.number, source.id) for source in [*new, *newer]] == [(1, "a"), (2, "b"), (3, "c")]
    assert first.summary == "s"


def test_nothing_found_is_an_empty_list_and_no_source_is_no_list() -> None:
    assert Citations().result(ran())[0].content == '{"results":[]}'
    assert Citations().result(Ran("c", is_ok=False, content="x")) == (Result("c", is_ok=False, content="x"), [])


@pytest.mark.parametrize("sources", [None, [Passage("a", "A", "About a.")]])
def test_a_handoff_is_stored_with_the_result(sources: list[Passage] | None) -> None:
    ran = Ran("c", is_ok=True, content="", sources=sources, is_handoff=True)

    assert Citations().result(ran)[0].is_handoff


def test_stored_results_give_their_sources_back() -> None:
    before, after = Citations(), Citations()
    result, new = before.result(ran("a", "b"))

    assert list(after.recall(result)) == list(new)
    assert after.recall(result) == []
    assert numbers(after.result(ran("z", "b"))[0].content) == [3, 2]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "text",
        "[]",
        "null",
        '{"results": 3}',
        '{"results": [3]}',
        '{"results": [{"number": 1}]}',
        '{"results": {"a": 1}}',
        '{"results": [{"number": "1", "id": [], "title": 1, "url": 2, "text": 3}]}',
        "\ud800",
    ],
)
def test_a_result_of_another_form_has_no_sources(content: str) -> None:
    citations = Citations()

    assert citations.recall(Result("c", is_ok=True, content=content)) == []
    assert numbers(citations.result(ran("a"))[0].content) == [1]


def test_an_excerpt_ends_between_words() -> None:
    _, (source,) = Citations().result(Ran("c", True, "", sources=[Passage("a", "A", "word " * 1_000)]))  # noqa: FBT003

    assert len(source.excerpt) <= EXCERPT_CHARS + 2
    assert source.excerpt.endswith("word …")
