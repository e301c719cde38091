"""How long to wait before trying again. Pure: the random number is handed in."""


def full_jitter(attempt: int, *, base_s: float, cap_s: float, random: float) -> float:
    """Return a wait between 0 and the exponential bound, so that many who failed together do not return together.

    `attempt` counts from 0; `random` lies in [0, 1).
    """
    bound: float = base_s * 2.0 ** min(attempt, 32)
    return min(cap_s, bound) * random
