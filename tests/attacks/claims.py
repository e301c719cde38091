"""What every attack claims about answers: the one error body of DESIGN 4.3, and nothing of the attack in it."""

import re
from collections.abc import Iterable
from pathlib import Path

import httpx

MEMBERS = {"type", "title", "status", "detail", "instance", "request_id", "error"}
DETAILS = {"code", "message", "retryable", "param"}
ROOT = re.escape(str(Path(__file__).parents[2]))
INSIDES = re.compile(
    rf"Traceback|File \"|\.py\b|site-packages|{ROOT}|asyncpg|sqlalchemy|pydantic|SELECT |INSERT |UPDATE ", re.IGNORECASE
)


def assert_refused(answer: httpx.Response, *statuses: int, code: str | None = None) -> None:
    """The answer is a refusal in the one shape, and tells nothing about our insides."""
    assert answer.status_code in (statuses or range(400, 500)), f"{answer.status_code}: {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) - {"errors"} == MEMBERS
    assert set(body["error"]) == DETAILS
    assert body["status"] == answer.status_code
    assert body["detail"] == body["error"]["message"]
    assert body["type"] == f"urn:parley:error:{body['error']['code']}"
    assert re.fullmatch(r"[a-z][a-z0-9_]*", body["error"]["code"])
    assert body["instance"] == f"urn:parley:request:{body['request_id']}"
    assert answer.headers["x-request-id"] == body["request_id"]
    for problem in body.get("errors", []):
        assert set(problem) == {"loc", "code", "message"}
    assert not INSIDES.search(answer.text), answer.text
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if code is not None:
        assert body["error"]["code"] == code, answer.text


def assert_silent_about(answer: httpx.Response, *canaries: str) -> None:
    """Nothing of what was sent comes back, neither in the body nor in a header."""
    shown = answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    assert not [canary for canary in canaries if canary in shown], answer.text[:2000]


def statuses_of(answers: Iterable[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]
