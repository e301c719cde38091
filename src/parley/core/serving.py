"""What uvicorn's server and protocols have to know of us. Data only."""

from dataclasses import dataclass
from typing import Any

import uvicorn

from parley.core.drain import Drain

WRITE_BUFFER_BYTES = 65_536  # above it a writer waits; what the kernel holds comes on top
CLOSING_S = 1  # what connections get for their buffers, once all requests are done


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may cost before anybody knows who it is; all generous for those who mean well."""

    head_timeout_s: float = 10.0
    head_bytes: int = 65_536
    frames_per_message: int = 256
    frames_per_s: int = 2000  # some microseconds each: a flood holds the loop for some 20 ms
    control_frames_per_s: int = 64


class ServingConfig(uvicorn.Config):
    """uvicorn's, with the bounds, the drain and the time it may take."""

    def __init__(self, app: Any, *, drain: Drain, bounds: Bounds, graceful_s: float, **options: Any) -> None:
        super().__init__(app, timeout_graceful_shutdown=CLOSING_S, **options)
        self.drain = drain
        self.bounds = bounds
        self.graceful_s = graceful_s
