"""What the SDK reads by itself has an end."""

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam
from tests.agents.clients.conftest import Provide

from parley.agents.clients.bounds import REFUSAL_BYTES
from parley.agents.clients.openai import ping

QUESTION: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Hello?"}]


@pytest.mark.parametrize(("kind", "most_bytes"), [("html-error", REFUSAL_BYTES), ("gzip-bomb", 0)])
async def test_the_body_of_a_refusal_is_cut(provide: Provide, kind: str, most_bytes: int) -> None:
    async with provide() as provider:
        with pytest.raises(openai.InternalServerError) as caught:
            await provider.openai.chat.completions.create(model=f"script-{kind}", messages=QUESTION)
        assert len(caught.value.response.content) <= most_bytes


async def test_a_plain_answer_is_whole_and_models_are_listed(provide: Provide) -> None:
    async with provide() as provider:
        answer = await provider.openai.chat.completions.create(model="demo", messages=QUESTION)
        assert answer.choices[0].message.content == "Hello there."
        assert await ping(provider.openai, "demo")
        assert not await ping(provider.openai, "another")
