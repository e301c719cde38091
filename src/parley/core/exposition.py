"""The text of `/metrics`: this process's own numbers, or the sums over all workers of a `parley serve`.

Made in a thread, by one caller at a time; whoever comes meanwhile gets the same text.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from parley.core.metrics_folder import MetricsFolder

READINGS = 5  # out of turn
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """What Prometheus reads."""

    def __init__(self, registry: CollectorRegistry, folder: MetricsFolder | None = None) -> None:
        self._source: Collector = registry if folder is None else _AllWorkers(folder)
        self._making: asyncio.Task[bytes] | None = None

    async def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(asyncio.to_thread(generate_latest, self._source), name="metrics")
        return await asyncio.shield(self._making)


class _AllWorkers(Collector):
    def __init__(self, folder: MetricsFolder) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        with self._folder.turn() as is_ours:
            for _ in range(READINGS):
                # Out of turn, whoever has it may take a file away meanwhile.
                with suppress(FileNotFoundError):
                    return self._read(folds=is_ours)
            return self._read(folds=is_ours)

    def _read(self, *, folds: bool) -> Iterable[Metric]:
        files = self._folder.sweep(folds=folds)
        metrics: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return sorted(metrics, key=lambda metric: metric.name)
