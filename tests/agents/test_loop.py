"""The loop's decisions, without any model or tool."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.agents.clients.port import Finish, FinishReason, ModelEvent, TextDelta, ToolCallDelta
from parley.agents.definition import AgentLimits
from parley.agents.interface import Call, Result, Step
from parley.agents.loop import Answered, AskModel, Loop, RunCalls, Unanswered, parse_arguments

LIMITS = AgentLimits(max_steps=3, max_calls=4)


def begun(steps: Sequence[Step] = (), limits: AgentLimits = LIMITS) -> Loop:
    loop = Loop(limits, steps=steps, idempotent={"look"})
    loop.begin()
    return loop


def say(loop: Loop, *events: ModelEvent, reason: FinishReason = "stop") -> object:
    loop.begin_round()
    loop.hear([*events, Finish(reason)])
    return loop.decide()


def call(name: str, arguments: str = "{}", index: int = 0, call_id: str | None = None) -> ToolCallDelta:
    return ToolCallDelta(index, call_id, name, arguments)


def run(loop: Loop, *events: ModelEvent) -> RunCalls:
    step = say(loop, *events, reason="tool_calls")
    assert isinstance(step, RunCalls)
    return step


def settle(loop: Loop, step: RunCalls) -> object:
    return loop.settle([Result(one.call_id, is_ok=True, content="fine") for one in step.calls])[1]


def error_of(result: Result) -> str:
    assert not result.is_ok
    return str(json.loads(result.content)["error"])


@pytest.mark.parametrize(
    ("reason", "told"), [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter")]
)
def test_text_and_an_end_is_an_answer(reason: FinishReason, told: str) -> None:
    loop = begun()

    assert loop.hear([TextDelta("Hel"), TextDelta("lo")]) == "Hello"
    assert say(loop, TextDelta("Hello"), reason=reason) == Answered(told)  # type: ignore[arg-type]


def test_an_end_without_a_word_is_no_answer() -> None:
    assert say(begun()) == Unanswered("model_empty")
    assert say(begun(), TextDelta("  \n")) == Unanswered("model_empty")


def test_pieces_of_parallel_calls_are_put_together_by_their_index() -> None:
    step = run(
        begun(),
        TextDelta("Let me look."),
        ToolCallDelta(0, "a", "look", '{"q":'),
        ToolCallDelta(1, "b", "book", '{"n"'),
        ToolCallDelta(0, None, None, ' "x"}'),
        ToolCallDelta(1, None, None, ": 2}"),
    )

    assert step.step == Step("Let me look.", (Call("a", "look", '{"q": "x"}'), Call("b", "book", '{"n": 2}')))
    assert (step.calls, step.refused) == ([*step.step.calls], [])


def test_calls_that_all_have_index_0_are_told_apart_by_their_ids() -> None:
    step = run(begun(), call("look", '{"q": 1}', 0, "a"), call("look", '{"q": 2}', 0, "b"))

    assert [one.arguments for one in step.calls] == ['{"q": 1}', '{"q": 2}']


def test_an_id_that_is_missing_used_or_odd_is_replaced() -> None:
    loop = begun()
    first = run(loop, call("look", '{"q": 1}', 0, "call_0"))
    settle(loop, first)
    second = run(
        loop, call("look", '{"q": 2}', 0, "call_0"), call("look", '{"q": 3}', 1), call("look", "{}", 2, "é" * 99)
    )

    assert [one.call_id for one in second.calls] == ["s001c0000", "s001c0001", "s001c0002"]


def test_a_name_that_is_none_goes_back_as_one_that_providers_take() -> None:
    step = run(begun(), call("rm -rf /" + "x" * 100), call("", index=1))

    assert [one.name for one in step.calls] == ["rm_-rf__" + "x" * 56, "unnamed"]


def test_a_call_is_run_also_when_the_provider_says_stop() -> None:
    assert isinstance(say(begun(), call("look")), RunCalls)


def test_no_call_of_a_cut_answer_is_run() -> None:
    assert say(begun(), call("look"), reason="length") == Answered("length")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"q": "ja', "not valid JSON: Unterminated string starting at at character 6"),
        ("[1]", "not an object"),
        ("null", "not an object"),
        ("[" * 5_000, "not valid JSON"),
        ('{"n": ' + "1" * 5_000 + "}", "not valid JSON"),
        ('{"q": "' + "x" * 40_000 + '"}', "at most 32768"),
    ],
)
def test_malformed_arguments_come_back_in_a_form_the_model_can_mend(arguments: str, told: str) -> None:
    loop = begun()
    step = run(loop, call("look", arguments, 0, "a"), call("look", "{}", 1, "b"))

    assert [one.call_id for one in step.calls] == ["b"]
    assert told in error_of(step.refused[0])
    finished, following = loop.settle([Result("b", is_ok=True, content="fine")])
    assert [result.call_id for result in finished.results or ()] == ["a", "b"]
    assert following == AskModel()


def test_no_arguments_are_an_empty_object() -> None:
    assert run(begun(), call("look", "")).calls[0].arguments == "{}"


def test_the_third_identical_call_is_told_and_the_fourth_ends_the_reply() -> None:
    loop = begun(limits=AgentLimits(max_steps=9))
    for arguments in ('{"a": 1, "b": 2}', '{"b":2,"a":1}'):
        step = run(loop, call("look", arguments))
        assert not step.refused
        settle(loop, step)
    third = run(loop, call("look", '{"a":1,"b":2}'))
    settle(loop, third)

    assert "3 times" in error_of(third.refused[0])
    assert say(loop, call("look", '{"a": 1, "b": 2}')) == Answered("step_limit")


def test_many_identical_calls_at_once_are_told_before_the_reply_is_ended() -> None:
    step = run(begun(), *(call("look", "{}", index) for index in range(4)))

    assert (len(step.calls), len(step.refused)) == (2, 2)


def test_too_many_calls_at_once_are_not_run_and_one_of_them_is_told_so() -> None:
    step = run(begun(), *(call("look", f'{{"q": {index}}}', index) for index in range(1_000)))

    assert (len(step.calls), len(step.refused)) == (4, 1)
    assert "At most 4 tools" in error_of(step.refused[0])


def test_after_the_last_step_the_model_is_told_to_answer_and_calls_no_more() -> None:
    loop = begun()
    following: object = None
    for number in range(3):
        following = settle(loop, run(loop, call("look", f'{{"q": {number}}}')))

    assert following == AskModel(is_last=True)
    assert say(loop, TextDelta("This is what I have."), call("look", '{"q": 9}')) == Answered("step_limit")
    assert say(loop, TextDelta("This is what I have.")) == Answered("step_limit")


def test_a_handoff_ends_the_reply() -> None:
    loop = begun()
    run(loop, call("hand_off", "{}", 0, "h"))

    step, following = loop.settle([Result("h", is_ok=True, content="done", is_handoff=True)])

    assert following == Answered("handoff")
    assert step.results is not None
    assert step.results[0].is_handoff


DONE = Step("One moment.", (Call("a", "look", "{}"),), (Result("a", is_ok=True, content="found"),))


def test_a_later_attempt_goes_on_after_the_last_finished_step() -> None:
    loop = Loop(LIMITS, steps=[DONE])

    assert loop.begin() == AskModel()
    assert loop.show_again(DONE) == "One moment."
    loop.begin_round()
    assert loop.hear([TextDelta("Here")]) == "\n\nHere"


def test_a_decided_call_is_run_again_only_where_that_does_no_harm() -> None:
    decided = Step("", (Call("b", "look", '{"q": 1}'), Call("c", "book", "{}"), Call("d", "look", "nonsense")))
    loop = Loop(LIMITS, steps=[DONE, decided], idempotent={"look"})

    step = loop.begin()

    assert isinstance(step, RunCalls)
    assert not step.is_new
    assert [one.call_id for one in step.calls] == ["b"]
    assert {result.call_id: error_of(result)[:30] for result in step.refused} == {
        "c": "book was started and interrupt",
        "d": "The arguments are not valid JS",
    }
    finished, following = loop.settle([Result("b", is_ok=True, content="fine")])
    assert [result.call_id for result in finished.results or ()] == ["b", "c", "d"]
    assert following == AskModel()


def test_a_stored_handoff_ends_the_later_attempt_at_once() -> None:
    step = Step("", (Call("h", "any_name", "{}"),), (Result("h", is_ok=True, content="done", is_handoff=True),))

    assert Loop(LIMITS, steps=[step]).begin() == Answered("handoff")


def test_a_call_that_only_bears_the_name_hands_nothing_off() -> None:
    step = Step("", (Call("h", "handoff_to_human", "{}"),), (Result("h", is_ok=False, content="{}"),))

    assert Loop(LIMITS, steps=[step]).begin() == AskModel()


def test_steps_of_earlier_attempts_count_for_the_limits() -> None:
    steps = [Step("", (Call(f"c{n}", "look", "{}"),), (Result(f"c{n}", is_ok=True, content=""),)) for n in range(3)]

    assert Loop(LIMITS, steps=steps).begin() == AskModel(is_last=True)
    assert say(begun(steps, AgentLimits(max_steps=9)), call("look")) == Answered("step_limit")


def test_after_a_restart_the_text_begins_anew() -> None:
    loop = begun()
    loop.hear([TextDelta("Half an ans"), call("look")])
    loop.start_over()

    assert loop.hear([TextDelta("A whole answer."), Finish("stop")]) == "A whole answer."
    assert loop.decide() == Answered("stop")


EVENTS = st.one_of(
    st.builds(TextDelta, st.text(max_size=5)),
    st.builds(
        ToolCallDelta,
        st.integers(0, 9),
        st.one_of(st.none(), st.sampled_from(["a", "b", "", "odd id"])),
        st.one_of(st.none(), st.sampled_from(["look", "book", "no such thing", ""])),
        st.sampled_from(["", "{", "}", "{}", '{"a": 1}', "[]"]),
    ),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.lists(EVENTS, max_size=12), st.sampled_from(["stop", "tool_calls", "length"])), min_size=20)
)
def test_whatever_a_model_says_the_loop_ends_and_each_call_has_one_result(
    rounds: list[tuple[list[ModelEvent], FinishReason]],
) -> None:
    loop = Loop(LIMITS, idempotent={"look"})
    following: object = loop.begin()
    asked = 0
    for events, reason in rounds:
        if isinstance(following, Answered | Unanswered):
            break
        asked += 1
        following = say(loop, *events, reason=reason)
        if isinstance(following, RunCalls):
            assert len(following.calls) <= LIMITS.max_calls
            assert all(parse_arguments(one.arguments) is not None for one in following.calls)
            following = settle(loop, following)

    assert isinstance(following, Answered | Unanswered)
    assert asked <= LIMITS.max_steps + 1
    ids = [one.call_id for step in loop.steps for one in step.calls]
    assert len(set(ids)) == len(ids)
    for step in loop.steps:
        assert [one.call_id for one in step.calls] == [result.call_id for result in step.results or ()]
