"""Which channels are wanted, and what the server has been told and has confirmed on this connection. Pure.

Wishes change at any moment; commands follow from what is wanted when they are sent, so that the last to leave and the
first to come cannot cross.
"""

from collections.abc import Callable

Sink = Callable[[bytes], None]


class Subscriptions:
    """The wishes of a worker, and one connection's way of fulfilling them."""

    def __init__(self) -> None:
        self.sinks: dict[bytes, Sink] = {}
        self._told: set[bytes] = set()
        self._unanswered: dict[bytes, int] = {}

    def want(self, channel: bytes, sink: Sink) -> None:
        """Wish for a channel; a second wish replaces the sink."""
        self.sinks[channel] = sink

    def drop(self, channel: bytes) -> None:
        """Take the wish back."""
        self.sinks.pop(channel, None)

    def forget(self) -> None:
        """Begin anew with a connection that knows of nothing."""
        self._told.clear()
        self._unanswered.clear()

    def changes(self, channels: set[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return which of these to subscribe and to unsubscribe; they count as told from now on."""
        subscribe = [channel for channel in channels if channel in self.sinks and channel not in self._told]
        unsubscribe = [channel for channel in channels if channel not in self.sinks and channel in self._told]
        self._told.update(subscribe)
        self._told.difference_update(unsubscribe)
        for channel in (*subscribe, *unsubscribe):
            self._unanswered[channel] = self._unanswered.get(channel, 0) + 1
        return subscribe, unsubscribe

    def answered(self, channel: bytes) -> None:
        """Take the server's answer to the oldest command about a channel."""
        left = self._unanswered.get(channel, 0) - 1
        if left > 0:
            self._unanswered[channel] = left
        else:
            self._unanswered.pop(channel, None)

    def is_confirmed(self, channel: bytes) -> bool:
        """Whether all that is published from now on arrives: wanted, and no command about it under way."""
        return channel in self.sinks and channel in self._told and channel not in self._unanswered
