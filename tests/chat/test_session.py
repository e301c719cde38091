"""One connection's state machine."""

import json
from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from parley.chat.protocol import CloseCode
from parley.chat.session import Answer, Bucket, Close, Effect, Run, Session, SessionLimits

LIMITS = SessionLimits()
CHAT = '{"type":"chat","client_id":"c-1","content":"Hello"}'
PING = '{"type":"ping"}'
STOP = json.dumps({"type": "stop", "message_id": str(UUID(int=1))})
ON, OFF = '{"type":"typing","on":true}', '{"type":"typing","on":false}'


def session(*, may_write: bool = True, limits: SessionLimits = LIMITS) -> Session:
    return Session(limits, "r-1", now=0.0, may_write=may_write)


def told(effects: Sequence[Effect]) -> dict[str, object]:
    [effect] = effects
    assert isinstance(effect, Answer)
    body: dict[str, object] = json.loads(effect.body)
    return body


def code(effects: Sequence[Effect]) -> object:
    error = told(effects)["error"]
    assert isinstance(error, dict)
    return error["code"]


def flood(session: Session, frame: str | bytes, times: int, *, now: float = 0.0) -> list[Effect]:
    effects: list[Effect] = []
    for _ in range(times):
        got = session.receive(frame, now)
        session.answered(len(got))
        effects += got
    return effects


def test_a_command_is_run_under_its_ref() -> None:
    [effect] = session().receive(CHAT, 0.0)
    assert isinstance(effect, Run)
    assert effect.ref == "c-1"


def test_a_ping_is_answered_here() -> None:
    assert told(session().receive(PING, 0.0)) == {"type": "pong"}


def test_a_bad_frame_gets_an_error_and_costs_nothing() -> None:
    here = session()
    assert told(here.receive('{"type":"chat","client_id":"c-9","content":""}', 0.0)) == {
        "type": "error",
        "error": {"code": "empty", "message": "The text is empty.", "retryable": False, "param": "content"},
        "request_id": "r-1",
        "ref": "c-9",
    }
    assert isinstance(here.receive(CHAT, 0.0)[0], Run)


def test_a_binary_frame_is_an_error_and_a_strike() -> None:
    here = session()
    assert code(here.receive(b'{"type":"ping"}', 0.0)) == "unsupported"
    assert flood(here, b"", LIMITS.strikes)[-1] == Close(CloseCode.ABUSE, "too many bad frames")


def test_too_many_bad_frames_close_it_and_nothing_follows() -> None:
    here = session()
    effects = flood(here, "nonsense", LIMITS.strikes + 1)
    assert [type(effect) for effect in effects] == [Answer] * LIMITS.strikes + [Close]
    assert here.is_closed
    assert here.receive(CHAT, 100.0) == ()


def test_strikes_are_forgiven_with_time() -> None:
    here = session()
    flood(here, "nonsense", LIMITS.strikes)
    assert isinstance(here.receive("nonsense", 1 / LIMITS.strikes_per_s)[0], Answer)


def test_over_the_rate_an_error_names_the_command_that_was_not_run() -> None:
    here = session()
    flood(here, PING, LIMITS.frames)
    refused = here.receive(CHAT, 0.0)
    assert code(refused) == "rate_limited"
    assert told(refused)["ref"] == "c-1"
    assert isinstance(here.receive(CHAT, 1 / LIMITS.frames_per_s)[0], Run)


def test_who_keeps_on_over_the_rate_is_closed() -> None:
    effects = flood(session(), PING, LIMITS.frames + LIMITS.refusals + 1)
    assert effects[-1] == Close(CloseCode.OVER_LIMIT, "over the rate for too long")
    assert len(effects) == LIMITS.frames + LIMITS.refusals + 1


def test_silent_frames_over_the_rate_close_it_too() -> None:
    here = session()
    flood(here, ON, LIMITS.frames + LIMITS.refusals + 1)
    assert here.is_closed


def test_bytes_have_a_rate_of_their_own() -> None:
    here = session()
    large = json.dumps({"type": "chat", "client_id": "c", "content": "x" * 32_000})
    effects = flood(here, large, LIMITS.bytes // len(large) + 1)
    assert all(isinstance(effect, Run) for effect in effects[:-1])
    assert code(effects[-1:]) == "rate_limited"


def test_bytes_are_counted_as_utf_8() -> None:
    here = session(limits=SessionLimits(bytes=100))
    assert code(here.receive(json.dumps("é" * 60, ensure_ascii=False), 0.0)) == "rate_limited"


def test_answers_that_wait_are_bounded() -> None:
    here = session()
    effects = [effect for _ in range(LIMITS.answers + 1) for effect in here.receive(CHAT, 0.0)]
    assert effects[-1] == Close(CloseCode.OVER_LIMIT, "too many answers pending")
    assert all(isinstance(effect, Run) for effect in effects[:-1])


def test_an_answer_that_went_out_makes_room() -> None:
    here = session()
    for _ in range(LIMITS.answers):
        here.receive(PING, 0.0)
    here.answered()
    assert isinstance(here.receive(PING, 0.0)[0], Answer)
    assert isinstance(here.receive(PING, 0.0)[0], Close)


def test_typing_is_thinned_silently() -> None:
    here = session()
    assert [type(effect) for effect in here.receive(ON, 0.0)] == [Run]
    assert here.receive(ON, 0.1) == ()
    assert here.receive(ON, LIMITS.typing_again_s) != ()
    assert here.receive(OFF, 2.1) != ()
    assert here.receive(OFF, 10.0) == ()


def test_an_end_of_typing_is_told_however_often_it_changes() -> None:
    here = session()
    runs = [effect for _ in range(10) for frame in (ON, OFF) for effect in here.receive(frame, 0.0)]
    assert len(runs) == 2 * LIMITS.typing
    assert isinstance(runs[-1], Run)
    assert getattr(runs[-1].command, "on", None) is False


def test_who_may_only_read_is_told_so_and_may_ping() -> None:
    here = session(may_write=False)
    assert code(here.receive(CHAT, 0.0)) == "forbidden"
    assert here.receive(ON, 0.0) == ()
    assert told(here.receive(PING, 0.0)) == {"type": "pong"}


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Bucket(1, 1.0, 10.0)
    assert bucket.take(1, 10.0)
    assert not bucket.take(1, 9.0)
    assert not bucket.take(1, 10.5)
    assert bucket.take(1, 11.0)


frames = st.sampled_from([CHAT, PING, ON, OFF, "nonsense", "", STOP])
steps = st.tuples(frames | st.text(max_size=20) | st.binary(max_size=20), st.floats(0, 0.3), st.integers(0, 2))


@given(st.lists(steps, max_size=120))
def test_no_history_gets_past_the_bounds(history: list[tuple[str | bytes, float, int]]) -> None:
    here, now, pending, runs, closes = session(), 0.0, 0, 0, 0
    for frame, pause_s, sent in history:
        now += pause_s
        effects = here.receive(frame, now)
        assert len(effects) <= 1
        assert not (closes and effects)
        for effect in effects:
            runs += isinstance(effect, Run)
            closes += isinstance(effect, Close)
            pending += isinstance(effect, Answer) or (isinstance(effect, Run) and effect.ref is not None)
        assert pending <= LIMITS.answers
        assert runs <= LIMITS.frames + LIMITS.frames_per_s * now + 1
        went_out = min(sent, pending)
        pending -= went_out
        here.answered(went_out)
    assert closes <= 1
