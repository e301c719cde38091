"""What is wanted, told and confirmed: no order of wishes loses a channel."""

from hypothesis import given
from hypothesis import strategies as st

from parley.core.fanout.subscriptions import Subscriptions

CHANNEL = b"c"


def sink(data: bytes) -> None: ...


def test_a_wish_taken_back_and_renewed_before_it_was_told_changes_nothing() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(CHANNEL, sink)
    assert subscriptions.changes({CHANNEL}) == ([CHANNEL], [])
    subscriptions.answered(CHANNEL)

    subscriptions.drop(CHANNEL)
    subscriptions.want(CHANNEL, sink)

    assert subscriptions.is_confirmed(CHANNEL)
    assert subscriptions.changes({CHANNEL}) == ([], [])


def test_an_old_answer_confirms_no_new_wish() -> None:
    subscriptions = Subscriptions()
    subscriptions.want(CHANNEL, sink)
    subscriptions.changes({CHANNEL})
    subscriptions.drop(CHANNEL)
    subscriptions.changes({CHANNEL})
    subscriptions.want(CHANNEL, sink)
    subscriptions.changes({CHANNEL})

    subscriptions.answered(CHANNEL)
    assert not subscriptions.is_confirmed(CHANNEL)
    subscriptions.answered(CHANNEL)
    assert not subscriptions.is_confirmed(CHANNEL)
    subscriptions.answered(CHANNEL)
    assert subscriptions.is_confirmed(CHANNEL)


@given(st.lists(st.sampled_from(["want", "drop", "tell", "answer", "reconnect"]), max_size=40))
def test_what_counts_as_confirmed_is_subscribed_at_the_server(steps: list[str]) -> None:
    subscriptions, at_server = Subscriptions(), False
    commands: list[bool] = []
    for step in [*steps, "tell", *["answer"] * 45]:
        if step == "want":
            subscriptions.want(CHANNEL, sink)
        elif step == "drop":
            subscriptions.drop(CHANNEL)
        elif step == "reconnect":
            subscriptions.forget()
            commands, at_server = [], False
        elif step == "tell":
            subscribe, unsubscribe = subscriptions.changes({CHANNEL})
            commands += [True] * len(subscribe) + [False] * len(unsubscribe)
        elif commands:
            at_server = commands.pop(0)
            subscriptions.answered(CHANNEL)
        if subscriptions.is_confirmed(CHANNEL):
            assert at_server
            assert not commands

    assert at_server == (CHANNEL in subscriptions.sinks) == subscriptions.is_confirmed(CHANNEL)
