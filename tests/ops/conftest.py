"""What Prometheus would read of a service that was used a little, and of a probe."""

import shutil
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet

import pytest
import pytest_asyncio
from prometheus_client import generate_latest
from tests.conftest import Start
from tests.fixtures.guards import LoopGuard
from tests.fixtures.metrics import Scrape
from tests.ops.promql import grouped, selectors

from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo
from parley.cli.probe_metrics import ProbeMetrics
from parley.cli.visitor import Visit, Visitor
from parley.client.plain import open_http
from parley.core.clock import SystemClock

PATIENCE_S = 30.0
# Prometheus itself gives these.
OWN = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
TARGET = {"job", "instance"}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")


class Told:
    """Which metrics there are, and with which labels; None where no series of it is there yet."""

    def __init__(self, *scrapes: Scrape) -> None:
        self._labels: dict[str, set[str] | None] = dict(OWN)
        for scrape in scrapes:
            for name, kind in scrape.types.items():
                names = [f"{name}_{part}" for part in ("bucket", "sum", "count")] if kind == "histogram" else [name]
                self._labels |= dict.fromkeys(names)
            for name, given in scrape.samples:
                self._labels[name] = {label for label, _ in given}

    def lacks(self, expression: str, recorded: AbstractSet[str]) -> set[str]:
        """Return what an expression asks for in vain: metrics that are not there, labels that they do not have."""
        asked = [selector for selector in selectors(expression) if selector.metric not in recorded]
        lacking = {f"no metric {one.metric}" for one in asked if one.metric not in self._labels}
        known = [(one, self._labels[one.metric]) for one in asked if self._labels.get(one.metric) is not None]
        for one, labels in known:
            lacking |= {f"no label {label} of {one.metric}" for label in one.labels - (labels or set()) - TARGET}
        if len(known) == len(asked):
            kept = TARGET.union(*(labels or set() for _, labels in known))
            lacking |= {f"nothing to group by {label} in {expression}" for label in grouped(expression) - kept}
        return lacking


@pytest_asyncio.fixture
async def told(start_on_socket: Start, loop_guard: LoopGuard) -> AsyncIterator[Told]:
    """What is there to be asked for, after a conversation over both transports."""
    with loop_guard.paused():
        async with open_demo(reply=reply) as url, start_on_socket(OPENAI_BASE_URL=url, OPENAI_API_KEY="k") as service:
            clock = SystemClock()
            metrics = ProbeMetrics(clock)
            async with open_http(service.base_url) as http:
                visitor = Visitor(http, Visit(service.base_url, "How do I return a jacket?", PATIENCE_S), clock)
                verdict = await visitor.converse()
                await visitor.leave()
            assert verdict.is_ok, verdict
            metrics.count(verdict)
            scraped = await service.http.get("/metrics")
            assert scraped.status_code == 200
            yield Told(Scrape(scraped.text), Scrape(generate_latest(metrics.registry).decode()))
