"""The sample articles and their ranking; and that the demo model answers a newcomer's first questions from them."""

import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.agents.demo import pieces
from parley.agents.demo.brain import Text, ToolCall, reply
from parley.agents.interface import Call, TurnUser
from parley.agents.knowledge import Article, SampleKnowledge, load_samples, parse_article
from parley.agents.tools.citations import Citations
from parley.agents.tools.current_time import current_time
from parley.agents.tools.handoff import handoff_to_human
from parley.agents.tools.outcome import Dependencies, ToolContext
from parley.agents.tools.registry import Registry
from parley.agents.tools.search_knowledge import search_knowledge
from parley.core.clock import SystemClock

SAMPLES = load_samples()
# What somebody asks a shop's chat first: the article that answers it, and what must be said.
FIRST_QUESTIONS = [
    ("How do I return a jacket?", "return-a-jacket", "60 days"),
    ("What is your refund policy?", "refunds", "full price"),
    ("What's your return policy?", "returns", "60 days"),
    ("How long does shipping take?", "shipping-times", "2 to 4 working days"),
    ("How much is delivery?", "shipping-costs", "4.90 euros"),
    ("do you ship to Norway", "shipping-countries", "Norway"),
    ("Where is my order?", "track-an-order", "Track"),
    ("where's my parcel??", "track-an-order", "parcel"),
    ("Which payment methods do you accept?", "payment-methods", "PayPal"),
    ("My card was declined", "payment-failed", "bank"),
    ("How do gift cards work?", "gift-cards", "code at checkout"),
    ("Can I return a gift card?", "gift-cards", "cannot be returned"),
    ("What size should I choose?", "sizes", "measure"),
    ("Can I exchange it for another size?", "exchange", "free"),
    ("How long is the warranty?", "warranty", "2 years"),
    ("My zip broke, what now?", "warranty", "repair"),
    ("My parcel arrived damaged", "damaged-parcel", "photo"),
    ("I want to cancel my order", "cancel-an-order", "Cancel"),
    ("Can I change my delivery address?", "change-an-order", "Change address"),
    ("I forgot my password", "password", "Forgot password"),
    ("How do I delete my account?", "account", "Delete account"),
    ("What do you do with my data?", "privacy", "data"),
    ("When are you open?", "opening-hours", "10 am"),
    ("Are you open on Sunday?", "opening-hours", "closed"),
    ("How can I contact you?", "contact", "email"),
    ("How can I reach a person by phone?", "contact", "phone"),
    ("Do you have a discount code?", "discounts", "discount code"),
    ("How do I unsubscribe?", "newsletter", "unsubscribe"),
    ("Are your products sustainable?", "sustainability", "sustainable"),
    ("Can I pick up my order in a store?", "click-and-collect", "pick up"),
    ("I need an invoice", "invoices", "PDF"),
    ("How do I wash a rain jacket?", "care", "30 degrees"),
    ("When do I get my money back?", "refunds", "2 working days"),
    ("When is it back in stock?", "stock", "3 weeks"),
]
UNANSWERED = ["What is the capital of France?", "Tell me a joke", "Do you sell bicycles?", "asdfgh", "Who won in 1998?"]


class Talk:
    """A conversation with the demo model, driven by hand: what the agent loop does, without it."""

    def __init__(self) -> None:
        self.registry = Registry.of(
            [search_knowledge, current_time, handoff_to_human], Dependencies(SAMPLES, SystemClock())
        )
        user = TurnUser(uuid.uuid4(), "Ada", "user", is_guest=True)
        self.context = ToolContext(user, uuid.uuid4(), uuid.uuid4(), self.registry.dependencies)
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": "You help customers."}]

    async def ask(self, question: str) -> tuple[str, list[str]]:
        """Return the answer and the ids of the articles it cites."""
        self.messages.append({"role": "user", "content": question})
        citations = Citations()
        sources: dict[int, str] = {}
        for _ in range(3):
            said = list(reply({"model": "demo", "messages": self.messages, "tools": self.registry.offers()}))
            calls = [piece for piece in said if isinstance(piece, ToolCall)]
            if not calls:
                text = "".join(piece.text for piece in said if isinstance(piece, Text))
                self.messages.append({"role": "assistant", "content": text})
                return text, [sources[int(number)] for number in re.findall(r"\[(\d+)]", text)]
            wire = [{"id": it.id, "function": {"name": it.name, "arguments": it.arguments_json}} for it in calls]
            self.messages.append({"role": "assistant", "content": None, "tool_calls": wire})
            for it in calls:
                ran = await self.registry.run(Call(it.id, it.name, it.arguments_json), self.context)
                result, new = citations.result(ran)
                sources |= {source.number: source.id for source in new}
                self.messages.append({"role": "tool", "tool_call_id": it.id, "content": result.content})
        raise AssertionError("it calls tools for ever")


@pytest.mark.parametrize(("question", "article", "said"), FIRST_QUESTIONS)
async def test_first_questions_are_answered_from_the_right_article(question: str, article: str, said: str) -> None:
    text, cited = await Talk().ask(question)

    assert cited[:1] == [article], text
    assert said in text


@pytest.mark.parametrize(("question", "article", "said"), FIRST_QUESTIONS)
async def test_answers_are_quotes(question: str, article: str, said: str) -> None:
    text, cited = await Talk().ask(question)

    known = " ".join(it.text for it in SAMPLES.articles if it.id in cited).replace("\n", " ")
    for part in re.split(r"\s*\[\d+]\s*", text):
        assert all(sentence in known for sentence in re.split(r"(?<=[.!?]) ", part))


@pytest.mark.parametrize("question", UNANSWERED)
async def test_what_the_articles_do_not_hold_is_not_answered(question: str) -> None:
    text, _ = await Talk().ask(question)

    assert "could not find" in text


async def test_a_conversation_keeps_its_topic() -> None:
    talk = Talk()

    assert "60 days" in (await talk.ask("How do I return a jacket?"))[0]
    assert (await talk.ask("And how long does it take?"))[1] == ["return-a-jacket"]
    assert (await talk.ask("What about a gift card?"))[1][:1] == ["gift-cards"]
    assert (await talk.ask("Thanks!"))[0] == "You are welcome."
    assert (await talk.ask("Do you sell bicycles?"))[0].endswith("person.")
    assert "human colleague" in (await talk.ask("yes please"))[0]


def test_there_are_enough_articles_and_each_is_well_formed() -> None:
    assert len(SAMPLES.articles) >= 20
    assert len({article.id for article in SAMPLES.articles}) == len(SAMPLES.articles)
    for article in SAMPLES.articles:
        assert article.title
        assert article.tags
        assert article.url == f"https://fennmoor.example/help/{article.id}"
        assert 300 < len(article.text) < 1_200, article.id


def test_a_title_finds_its_own_article() -> None:
    assert [SAMPLES.rank(it.title, 1)[0].id for it in SAMPLES.articles] == [it.id for it in SAMPLES.articles]


def test_ranking_prefers_titles_then_tags_then_rare_words() -> None:
    knowledge = SampleKnowledge(
        [
            Article("text", "Other", "u", [], "A zebra and a horse and a horse and a cow and some hay."),
            Article("tag", "Other", "u", ["zebra"], "A horse and a horse and a cow and some more hay."),
            Article("title", "Zebras", "u", [], "A horse and a horse and a cow and some more hay."),
        ]
    )

    assert [passage.id for passage in knowledge.rank("zebra", 9)] == ["title", "tag", "text"]
    assert [passage.id for passage in knowledge.rank("zebras", 1)] == ["title"]
    assert knowledge.rank("unicorn", 9) == []
    assert knowledge.rank("zebra", 0) == []
    assert SampleKnowledge([]).rank("zebra", 9) == []


@given(st.text(st.characters(), max_size=300), st.integers(-3, 50))
def test_any_query_is_taken(query: str, limit: int) -> None:
    found = SAMPLES.rank(query, limit)

    assert len(found) <= max(0, limit)
    assert [it.score for it in found] == sorted((it.score for it in found), reverse=True)
    assert all(it.score > 0 for it in found)


def test_a_query_of_a_megabyte_costs_nothing() -> None:
    started = time.thread_time()
    SAMPLES.rank("return my jacket " * 60_000, 10)

    assert time.thread_time() - started < 0.05


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "front matter"),
        ("no fence", "front matter"),
        ("---\nid: a\n", "front matter"),
        ("---\nid: a\ntitle: b\n---\ntext", "lacks tags, url"),
    ],
)
def test_a_broken_article_says_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_article(text)


def test_the_demo_model_holds_no_article() -> None:
    """Its code shares no run of five words with them: what it says comes over the wire."""
    names = ("answers", "arguments", "brain", "intents", "passages", "pieces", "request")
    code = " ".join(_words((Path(pieces.__file__).parent / f"{name}.py").read_text()) for name in names)
    for article in SAMPLES.articles:
        words = _words(f"{article.title} {article.text}").split()
        for at in range(len(words) - 4):
            assert f" {' '.join(words[at : at + 5])} " not in code, article.id


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
