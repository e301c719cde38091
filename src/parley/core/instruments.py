"""What a worker measures itself with, made before anything is opened: for the edge, the container and the process."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from parley.core.clock import Clock
from parley.core.counts_file import use_solid_files
from parley.core.embedded.counts import VARIABLE
from parley.core.exposition import Exposition
from parley.core.metrics import Metrics
from parley.core.metrics_folder import MetricsFolder
from parley.core.pulse import Pulse
from parley.core.readings import Readings
from parley.core.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Instruments:
    """One set a worker."""

    metrics: Metrics
    exposition: Exposition
    readings: Readings
    pulse: Pulse
    telemetry: Telemetry


def make_instruments(clock: Clock, version: str, telemetry: Telemetry) -> Instruments:
    """Make them; nothing is read before somebody runs `readings` and feels the `pulse`."""
    path = os.environ.get(VARIABLE)
    folder = MetricsFolder(Path(path)) if path else None
    if folder is not None:
        use_solid_files()
        folder.enter()  # before there are files: those of somebody who is not there are swept away
    metrics, readings, pulse = Metrics(), Readings(clock), Pulse(clock)
    metrics.workers.set(1)
    metrics.info.labels(version, platform.python_version()).set(1)
    readings.state(metrics.loop_lag, lambda: pulse.worst_lag_s)
    return Instruments(metrics, Exposition(metrics.registry, folder), readings, pulse, telemetry)
