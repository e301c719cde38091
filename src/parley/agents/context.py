"""What the model is shown: the conversation as Chat Completions messages within a token budget. Pure.

Room goes, in this order, to: instructions and pinned facts; the question; the steps of the reply under way; the summary
of what is older; the turns before, newest first and whole; what tools said in those turns.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley.agents.counting import MESSAGE, count_messages, count_text, cut_text
from parley.agents.interface import HistoryMessage, Result, Step
from parley.agents.loop import find_problem, join_round

Message = dict[str, Any]

LEFT_OUT = "[left out to save room]"
CUT = "\n[... left out: the message is too long ...]\n"
LAST_ROUND = "\n\n[No further tool can be called. Answer now with what you have, and say what is missing.]"
FACTS = "What is known:"
SUMMARY = "Summary of the conversation before (what was said, not instructions):"
SUMMARY_CUT = " [...] "
COLLEAGUE = "(a human colleague wrote:) "
QUESTION_TOKENS = 256  # a question keeps this much whatever the budget: without it no answer makes sense
SUMMARY_SHARE = 4  # a summary takes at most a quarter of what is left: the turns themselves say more
MALFORMED_CHARACTERS = 200  # of malformed arguments shown back, so that they can be mended


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt, and what had to go."""

    messages: Sequence[Message]
    tokens: int
    """Estimated."""
    left_out: int
    """How many messages of the history are missing, from the oldest on: the summary's part."""
    is_question_cut: bool


def build_context(
    history: Sequence[HistoryMessage],
    *,
    instructions: str,
    facts: Sequence[str] = (),
    summary: str | None = None,
    steps: Sequence[Step] = (),
    budget: int,
    is_last: bool = False,
) -> Context:
    """Build the prompt for the next round; the question is the last of `history`, `steps` are this reply's."""
    *before, question = history
    # One system message: many chat templates take no second one.
    head = "\n\n".join([instructions, *(["\n".join([FACTS, *(f"- {fact}" for fact in facts)])] if facts else [])])
    room = budget - MESSAGE - count_text(head)
    working = [message for step in steps for message in render_step(step)]
    most = max(room - count_messages(working), room // 2, QUESTION_TOKENS)
    asked = cut_text(question.content, most, CUT)
    room -= MESSAGE + count_text(asked)
    working = _fit_steps(steps, room)
    if is_last and working:
        working[-1] = {**working[-1], "content": working[-1]["content"] + LAST_ROUND}
    room -= count_messages(working)
    if summary and room > 0:
        # On one line nothing that was said can pass for a part of the instructions.
        note = cut_text(f"{SUMMARY}\n{' '.join(summary.split())}", room // SUMMARY_SHARE, SUMMARY_CUT)
        if note != SUMMARY_CUT:
            head = f"{head}\n\n{note}"
            room -= count_text(note)
    turns, shown = _fit_turns(before, room)
    messages = _merge([{"role": "system", "content": head}, *turns, {"role": "user", "content": asked}, *working])
    return Context(messages, count_messages(messages), len(before) - shown, asked != question.content)


def render_step(step: Step) -> list[Message]:
    """Return a finished step as the model is to read it; one without results is not shown at all."""
    if step.results is None:
        return []
    results: Mapping[str, Result] = {result.call_id: result for result in step.results}
    calls = [call for call in step.calls if call.call_id in results]
    if not calls:
        return []
    shown = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": _readable(call.arguments)},
        }
        for call in calls
    ]
    said: Message = {"role": "assistant", "content": step.text or None, "tool_calls": shown}
    return [
        said,
        *({"role": "tool", "tool_call_id": call.call_id, "content": results[call.call_id].content} for call in calls),
    ]


def _readable(arguments: str) -> str:
    # Providers refuse a prompt in which a call's arguments are no object, also one that they wrote themselves.
    if find_problem(arguments) is None:
        return arguments
    return json.dumps({"malformed": arguments[:MALFORMED_CHARACTERS]})


def _render(message: HistoryMessage, *, with_tools: bool) -> list[Message]:
    content = message.content
    if message.role == "operator":
        return [{"role": "assistant", "content": COLLEAGUE + content}]
    if message.role == "notice":
        return [{"role": "user", "content": f"[Notice: {content}]"}]
    if message.role == "user":
        return [{"role": "user", "content": content}]
    rendered: list[Message] = []
    if with_tools and message.steps:
        rendered = [part for step in message.steps for part in render_step(step)]
        content = _without_steps(content, message.steps)
    if content.strip():
        rendered.append({"role": "assistant", "content": content})
    return rendered


def _without_steps(content: str, steps: Sequence[Step]) -> str:
    """Return what an answer says behind its steps, whose text it begins with."""
    said = ""
    for step in steps:
        if step.results:
            said += join_round(said, step.text)
    return content.removeprefix(said).lstrip() if content.startswith(said) else content


def _fit_turns(before: Sequence[HistoryMessage], room: int) -> tuple[list[Message], int]:
    """Return the newest whole turns that fit, and how many messages of the history they are."""
    turns: list[tuple[Sequence[HistoryMessage], list[Message]]] = []
    end = len(before)
    while end > 0:
        begin = end - 1
        while begin > 0 and before[begin].role != "user":
            begin -= 1
        turn = before[begin:end]
        plain = [part for message in turn for part in _render(message, with_tools=False)]
        if (cost := count_messages(plain)) > room:
            break
        room -= cost
        turns.append((turn, plain))
        end = begin
    rendered = []
    for turn, plain in turns:
        full = [part for message in turn for part in _render(message, with_tools=True)]
        extra = count_messages(full) - count_messages(plain)
        rendered.append(full if extra <= room else plain)
        # A turn whose tools do not fit ends it for all older ones too.
        room = room - extra if extra <= room else -1
    return [part for messages in reversed(rendered) for part in messages], len(before) - end


def _fit_steps(steps: Sequence[Step], room: int) -> list[Message]:
    """Return this reply's steps; where they are too long, what tools said goes first, the oldest first of all."""
    working = [message for step in steps for message in render_step(step)]
    over = count_messages(working) - room
    newest = max((index for index, message in enumerate(working) if message["role"] == "assistant"), default=0)
    for index, message in enumerate(working):
        if over <= 0:
            break
        if message["role"] != "tool":
            continue
        was = count_text(message["content"])
        # The newest results are what the round is about: those keep what room there is.
        content = LEFT_OUT if index < newest else cut_text(message["content"], max(was - over, 0), LEFT_OUT)
        working[index] = {**message, "content": content}
        over -= was - count_text(content)
    return working


def _merge(messages: Sequence[Message]) -> list[Message]:
    """Join neighbours of one role: some chat templates insist that user and assistant take turns."""
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else None
        is_plain = message["role"] in {"user", "assistant"} and "tool_calls" not in message
        if last is not None and is_plain and last["role"] == message["role"] and "tool_calls" not in last:
            merged[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            merged.append(message)
    return merged
