"""The properties of tests/attacks for tokens and the error envelope, with 20,000 examples each."""

import http.client
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.attacks import test_properties as attacks
from tests.soak.conftest import CHEAP, Figure
from tests.story.serving import Serving

EXAMPLES = 20_000
long = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=False,  # the short run has the same cases each time; this one looks for others
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
routes = st.sampled_from([*attacks.JSON_POSTS, "token", "me", "nowhere"])
kinds = st.sampled_from(["application/json"] * 3 + ["application/x-www-form-urlencoded", "text/plain", ""])
Serve = Callable[..., Serving]


def at_length(test: Any, *strategies: st.SearchStrategy[Any]) -> Any:
    """Return the same property with more examples."""
    return pytest.mark.timeout(300)(long(given(*strategies)(test.hypothesis.inner_test)))


test_what_is_signed_is_read_back = at_length(
    attacks.test_what_is_signed_is_read_back, attacks.access_claims | attacks.ticket_claims
)
test_a_changed_token_is_refused_or_says_the_same = at_length(
    attacks.test_a_changed_token_is_refused_or_says_the_same,
    st.integers(0, len(attacks.GOOD) - 1),
    st.text(max_size=3) | st.text("ABCDEFGHabcdefgh0123456789-_.=", max_size=3),
)
test_one_claim_of_another_kind_is_refused_or_is_of_the_kind = at_length(
    attacks.test_one_claim_of_another_kind_is_refused_or_is_of_the_kind,
    attacks.access_claims,
    st.sampled_from([*sorted(attacks.common), "typ"]),
    attacks.any_json,
)


@pytest.mark.timeout(500)
def test_whatever_is_sent_is_answered_in_the_one_shape(serve: Serve, figure: Figure) -> None:
    serving = serve("--workers", "1", environ=CHEAP)
    serving.wait_ready()
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=30)
    answered = Counter[int]()

    @long
    @given(
        routes,
        kinds,
        attacks.hostile_objects | attacks.hostile_values,
        st.none() | st.integers(0, 60),
        st.binary(max_size=6),
    )
    def every_refusal_has_the_one_shape(path: str, kind: str, value: Any, cut: int | None, noise: bytes) -> None:
        body = json.dumps(value).encode()
        if cut is not None:
            body = body[:cut] + noise + body[cut:]
        connection.request("POST", f"/auth/{path}", body, {"Content-Type": kind})
        answer = connection.getresponse()
        content = answer.read()
        answered[answer.status] += 1
        attacks.assert_refused_in_silence(httpx.Response(answer.status, headers=answer.getheaders(), content=content))

    with closing(connection):
        every_refusal_has_the_one_shape()
    figure(f"answers: {dict(sorted(answered.items()))}")
    assert not {status for status in answered if status >= 500}
    assert "Traceback" not in serving.out + serving.err
    assert "request_failed" not in serving.out
