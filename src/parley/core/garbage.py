"""The collector, told once how this process lives: much is made at the start and stays, little forms cycles later."""

import gc

# Measured while sockets connect: most of the tail of the delay is the collector's, and this removes most of it. What
# serves leaves no cycles (tests/chat/test_garbage.py); what libraries leave is found before it is much.
THRESHOLD = (100_000, 10, 10)


def settle_garbage() -> None:
    """Set aside all that was made so far; call it when everything is imported and opened."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLD)
