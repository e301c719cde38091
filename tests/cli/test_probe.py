"""Probing a service that runs: what a person would complain about is told, counted, and nothing is left behind."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from tests.cli.conftest import Parley
from tests.conftest import Start
from tests.fixtures.guards import LoopGuard
from tests.fixtures.ports import free_port
from tests.fixtures.service import Service

from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo
from parley.cli.errors import CommandError
from parley.cli.probe import probe
from parley.cli.visitor import OUTCOMES, TIDY_S, Verdict, Visit, Visitor
from parley.client import ContentMismatch, state
from parley.client.plain import open_http
from parley.core.clock import SystemClock

QUESTION = "How do I return a jacket?"
LEFT = """SELECT (SELECT count(*) FROM conversations WHERE deleted_at IS NULL) AS conversations,
  (SELECT count(*) FROM sessions WHERE revoked_at IS NULL) AS sessions"""
PATIENCE_S = 20.0


@pytest_asyncio.fixture
async def running(start_on_socket: Start, loop_guard: LoopGuard) -> AsyncIterator[Service]:
    """A service with the demo model, on a socket."""
    with loop_guard.paused():
        async with open_demo(reply=reply) as url, start_on_socket(OPENAI_BASE_URL=url, OPENAI_API_KEY="k") as service:
            yield service


async def _left(database_url: str) -> tuple[int, int]:
    connection = await asyncpg.connect(database_url)
    try:
        conversations, sessions = await connection.fetchrow(LEFT)
    finally:
        await connection.close()
    return conversations, sessions


async def test_a_good_conversation_is_ok_and_leaves_nothing(
    parley: Parley, running: Service, database_url: str
) -> None:
    probed = await parley("probe", running.base_url)

    assert (probed.code, probed.err) == (0, "")
    assert re.match(r"ok: first token after \d+\.\d\d s, \d+\.\d\d s in all\n\Z", probed.out)
    assert await _left(database_url) == (0, 0)


async def test_a_conversation_costs_one_question(start_on_socket: Start, loop_guard: LoopGuard) -> None:
    with loop_guard.paused():
        async with open_demo(reply=reply) as model:
            limits = {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "k", "PARLEY_LIMIT_ASK": "1/hour"}
            async with start_on_socket(**limits) as service:
                verdict = await _converse(service.base_url)

    assert (verdict.outcome, verdict.detail) == ("ok", "")


async def test_a_server_that_says_nothing_is_a_failed_probe_in_time(parley: Parley) -> None:
    async with await asyncio.start_server(_say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        probed = await parley("probe", f"http://127.0.0.1:{port}", "--within", "1")

    assert (probed.code, probed.err) == (1, "")
    assert probed.out.startswith("timeout: no token, 1.0")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "localhost"}, "the URL begins"),
        ({"listen": "127.0.0.1:9102"}, "--listen goes with --every"),
        ({"listen": "9102", "every": 60.0}, "host:port"),
        ({"email": "ada@shop.example"}, "PARLEY_PASSWORD, which is empty"),
    ],
)
def test_what_cannot_go_well_is_not_begun(options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARLEY_PASSWORD", raising=False)

    with pytest.raises(CommandError, match=said):
        probe(**options)


async def test_a_service_that_is_away_is_unreachable(at_leisure: None) -> None:
    verdict = await _converse("http://127.0.0.1:1")

    assert (verdict.outcome, verdict.first_token_s, verdict.mismatches) == ("unreachable", None, 0)


async def test_a_wrong_password_is_refused(parley: Parley, running: Service) -> None:
    probed = await parley("probe", running.base_url, "--email", "eve@shop.example", PARLEY_PASSWORD="wrong")

    assert probed.code == 1
    assert probed.out.startswith("refused: no token")


async def test_a_reply_that_fails_is_told_with_its_code(
    start_on_socket: Start, database_url: str, at_leisure: None
) -> None:
    nowhere = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "k", "PARLEY_MODEL_RETRIES": "0"}
    async with start_on_socket(**nowhere) as service:
        verdict = await _converse(service.base_url)

    assert verdict.outcome == "failed"
    assert re.search(r"ended as failed \(\w+\)", verdict.detail)
    assert await _left(database_url) == (0, 0)


async def test_a_model_that_says_nothing_is_a_failed_probe_that_tidies_up(
    start_on_socket: Start, database_url: str, at_leisure: None
) -> None:
    async with await asyncio.start_server(_say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with start_on_socket(OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1", OPENAI_API_KEY="k") as service:
            verdict = await _converse(service.base_url, within_s=1.0)

    assert (verdict.outcome, verdict.first_token_s) == ("timeout", None)
    assert verdict.duration_s < 1.0 + TIDY_S
    assert await _left(database_url) == (0, 0)


async def test_a_torn_reply_is_a_mismatch_though_the_client_mends_it(
    running: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, torn = state._FOLDS["complete"], iter([True])

    def tear_once(held: state.State, event: state.Fields) -> state.State:
        if next(torn, False):
            raise ContentMismatch(event["message_id"])
        return whole(held, event)

    monkeypatch.setitem(state._FOLDS, "complete", tear_once)
    verdict = await _converse(running.base_url)

    assert (verdict.outcome, verdict.mismatches) == ("mismatch", 1)


async def test_it_goes_on_and_is_scraped_and_tidies_up_when_it_is_ended(running: Service, database_url: str) -> None:
    listening = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley", "probe", running.base_url, "--every", "10", "--listen", listening),
        stdout=asyncio.subprocess.PIPE,
        env={name: text for name, text in os.environ.items() if not name.startswith("PARLEY_")},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await process.stdout.readline()
            async with httpx.AsyncClient() as http:
                scraped = (await http.get(f"http://{listening}/metrics")).text
            process.send_signal(signal.SIGTERM)
            code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    assert line.startswith(b"ok: ")
    assert code == 0
    assert [f'probe_conversations_total{{outcome="{o}"}} {float(o == "ok")}' in scraped for o in OUTCOMES] == [True] * 6
    assert re.search(r"^probe_last_success_timestamp_seconds 1\.\d+e\+09$", scraped, re.MULTILINE)
    assert "probe_integrity_mismatches_total 0.0" in scraped
    assert await _left(database_url) == (0, 0)


async def _converse(url: str, within_s: float = PATIENCE_S) -> Verdict:
    async with open_http(url) as http:
        visitor = Visitor(http, Visit(url, QUESTION, within_s), SystemClock())
        try:
            return await visitor.converse()
        finally:
            await visitor.leave()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()
