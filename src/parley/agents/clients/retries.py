"""How many repeats a provider may be sent: a few at once and few for each call, so that no storm is bred. Pure."""

from dataclasses import dataclass

BURST = 10.0  # repeats that may come at once
PER_CALL = 0.2  # what each first call adds: under load, at most a fifth more calls
PER_SECOND = 0.1  # with few calls the burst is back within two minutes


@dataclass(slots=True)
class RetryBucket:
    """The tokens of one provider in one worker."""

    tokens: float = BURST
    updated_at: float = 0.0

    def earn(self) -> None:
        """Count a first call."""
        self.tokens = min(BURST, self.tokens + PER_CALL)

    def spend(self, now: float) -> bool:
        """Take a token for a repeat; False when there is none."""
        self.tokens = min(BURST, self.tokens + max(0.0, now - self.updated_at) * PER_SECOND)
        self.updated_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
