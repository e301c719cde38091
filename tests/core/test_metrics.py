"""`/metrics` has what dashboards ask for, nothing that a stranger put there, and is for those who run the service."""

import asyncio
import uuid
from random import Random

import pytest
from prometheus_client import CollectorRegistry, Histogram
from tests.attacks.wires import answer_to, chatting, dialled, port_of, talk, upgrade, watching
from tests.conftest import Start
from tests.fixtures.metrics import Scrape, counted
from tests.fixtures.service import Service, from_address

from parley.core.metrics import OTHER, Names, Tally

COUNTERS = """
    http_requests_total chat_ws_accepted_total chat_ws_refused_total chat_ws_closed_total chat_joins_total
    chat_resumes_total chat_slow_consumer_drops_total chat_turns_total chat_turn_failures_total chat_takeovers_total
    chat_restarts_total chat_integrity_mismatches_total chat_duplicates_refused_total chat_handoffs_total
    chat_tool_calls_total chat_limits_hit_total chat_admission_refused_total llm_requests_total llm_tokens_total
    llm_cost_usd_total llm_errors_total llm_retries_total llm_fallbacks_total llm_budget_exhausted_total
    redis_append_errors_total db_pool_timeouts_total event_loop_blocked_total log_lines_dropped_total
    audit_events_total tickets_accepted_unchecked_total
"""
HISTOGRAMS = """
    http_request_duration_seconds chat_join_duration_seconds chat_resume_gap chat_turn_duration_seconds
    chat_time_to_first_token_seconds chat_inter_token_seconds chat_stop_latency_seconds chat_tool_call_duration_seconds
    llm_request_duration_seconds llm_time_to_first_token_seconds redis_append_duration_seconds
"""
GAUGES = """
    http_streams_open chat_ws_connections chat_viewers chat_live_replies llm_circuit_state
    redis_pubsub_heartbeat_age_seconds db_pool_connections db_pool_limit event_loop_lag_seconds app_tasks
    app_resident_memory_bytes app_workers app_info
"""
MOST_BUCKETS = 12


async def scrape(service: Service) -> Scrape:
    """Return what is counted."""
    answer = await service.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(answer.text)


async def test_everything_that_dashboards_ask_for_is_there(start: Start) -> None:
    """The names are a contract: a panel or an alert names each of them."""
    async with start() as service:
        found = await scrape(service)

    expected = dict.fromkeys(COUNTERS.split(), "counter") | dict.fromkeys(HISTOGRAMS.split(), "histogram")
    assert found.types == expected | dict.fromkeys(GAUGES.split(), "gauge")


async def test_a_turn_is_counted_from_the_door_to_the_books(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        conversation = await talk(service)
        await conversation.answered("Hello there")
        again = {"content": "Once", "client_id": "one"}
        first = await conversation.ask(**again)
        assert (await conversation.ask(**again))["message"]["id"] == first["message"]["id"]
        async with asyncio.timeout(5):  # what is tallied is told once a second
            while not (found := await scrape(service))["redis_append_duration_seconds_count"]:
                await asyncio.sleep(0.05)

    assert found.sum("chat_turns_total", outcome="complete") >= 1
    assert found["chat_time_to_first_token_seconds_count"] >= 1
    assert found["chat_turn_duration_seconds_count"] >= 1
    assert found["chat_duplicates_refused_total"] == 1
    assert found["chat_integrity_mismatches_total"] == 0
    assert found.sum("llm_requests_total", outcome="ok") >= 1
    assert found.sum("llm_tokens_total", kind="output") >= 1
    assert found["llm_time_to_first_token_seconds_count"] >= 1
    handler = "/chat/conversations/{conversation_id}/messages"
    assert found.sum("http_requests_total", handler=handler, method="POST", status="2xx") == 2
    assert found.sum("http_request_duration_seconds_count", handler=handler, method="POST") == 2


async def test_sockets_are_counted_by_how_they_began_and_ended(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        conversation = await talk(service)
        async with watching(conversation):
            found = await scrape(service)
            assert (found["chat_ws_connections"], found.sum("chat_viewers", transport="ws")) == (1, 1)
            assert found.sum("chat_joins_total", transport="ws") == 1
        async with dialled(port_of(service)) as refused:
            await refused.send(upgrade(f"/chat/ws/{conversation.id}", {}))
            assert (await answer_to(refused))[0] == 401
        async with asyncio.timeout(5):
            while (await scrape(service))["chat_ws_connections"]:
                await asyncio.sleep(0.01)
        found = await scrape(service)

    assert (found["chat_ws_connections"], found["chat_viewers"], found["chat_ws_accepted_total"]) == (0, 0, 1)
    assert found["chat_ws_closed_total"] == 1
    assert found.sum("chat_ws_refused_total", status="401") == 1


async def test_who_leaves_before_the_accept_was_not_refused(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        conversation = await talk(service)
        for number in range(20):
            async with dialled(port_of(service)) as leaver:
                await leaver.send(upgrade(f"/chat/ws/{conversation.id}", conversation.account.headers))
                await asyncio.sleep(number * 0.0005)
        await asyncio.sleep(0.5)
        async with asyncio.timeout(5):
            while (found := await scrape(service))["chat_ws_connections"]:
                await asyncio.sleep(0.01)

    assert found["chat_ws_accepted_total"] < 20, "some had gone before"
    assert found.sum("chat_ws_refused_total") == 0


async def test_no_stranger_adds_a_series(start: Start) -> None:
    """Random paths, ids, methods and names land where others have before."""
    random = Random(1)

    async def visit(service: Service) -> None:
        identity, word = uuid.uuid4(), f"{random.getrandbits(64):x}"
        paths = (f"/{word}", f"/chat/conversations/{identity}", f"/chat/{word}/{identity}", f"/widget/{word}/{word}.js")
        for path in (*paths, f"/health?{word}={word}", f"/agents/{word}", f"/metrics/{word}"):
            for method in ("GET", "DELETE", word.upper()):
                await service.http.request(method, path, headers={"X-Request-ID": word * 2, "User-Agent": word})
        body = {"message": word, "model": word, "agent": word, "conversation_id": str(identity)}
        await service.http.post("/chat/send", json=body)

    async with start() as service:
        await visit(service)
        await scrape(service)
        before = set((await scrape(service)).samples)
        for _ in range(5):
            await visit(service)
        after = set((await scrape(service)).samples)

    assert not after - before


async def test_strangers_find_nothing(start: Start) -> None:
    """By the rule of health details: this machine, named networks, or the token; a proxied request is its client's."""
    async with start(PARLEY_OPS_TOKEN="letmelook", PARLEY_OPS_ALLOW="198.51.100.0/24") as service:
        async with from_address(service.app, "203.0.113.5") as stranger:
            for path, method in (("/metrics", "GET"), ("/debug/block?seconds=1", "POST")):
                refused = await stranger.request(method, path)
                assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
            guessed = await stranger.get("/metrics", headers={"Authorization": "Bearer letmelock"})
            told = await stranger.get("/metrics", headers={"Authorization": "Bearer letmelook"})
        async with from_address(service.app, "198.51.100.7") as colleague:
            allowed = await colleague.get("/metrics")
        framed = await service.http.post("/debug/block?seconds=1", headers={"Origin": "https://evil.example"})

    assert [answer.status_code for answer in (guessed, told, allowed, framed)] == [404, 200, 200, 404]


async def test_production_has_no_way_to_block_it(start: Start) -> None:
    async with start() as service:
        document = (await service.http.get("/openapi.json")).text
    assert "/debug/" not in document
    assert "/metrics" not in document


def test_names_that_are_not_known_are_other() -> None:
    names = Names(["a", 404], learns=2)
    assert [names.of(name) for name in ("a", 404, "x", "y", "z", "x", "z")] == ["a", "404", "x", "y", OTHER, "x", OTHER]


@pytest.mark.parametrize("value", [0.001, 0.01, 0.5, 7.0])
def test_a_tally_says_what_the_histogram_would(value: float) -> None:
    """Bounds included, as Prometheus has them."""
    bounds = (0.01, 0.5, 1.0)
    plain, tallied = CollectorRegistry(), CollectorRegistry()
    tally = Tally(Histogram("h", "h", buckets=bounds, registry=tallied), bounds)
    histogram = Histogram("h", "h", buckets=bounds, registry=plain)
    for _ in range(3):
        histogram.observe(value)
        tally.add(value)
    assert counted(tallied, "h_count") == 0
    tally.tell()
    tally.tell()
    names = [("h_sum", {}), ("h_count", {}), *(("h_bucket", {"le": le}) for le in ("0.01", "0.5", "1.0", "+Inf"))]
    for name, labels in names:
        assert counted(tallied, name, **labels) == pytest.approx(counted(plain, name, **labels))


async def test_no_histogram_has_many_buckets(start: Start) -> None:
    async with start() as service:
        await scrape(service)
        found = await scrape(service)
    for name in HISTOGRAMS.split():
        bounds = {dict(labels)["le"] for known, labels in found.samples if known == f"{name}_bucket"}
        assert len(bounds) <= MOST_BUCKETS, name
