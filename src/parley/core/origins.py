"""Which web pages may call: an exact list, never a pattern over strangers' names.

CORS protects responses only and never sees sockets; guests, tickets and sockets ask here themselves.
"""

import re

from parley.core.settings import ServerSettings

LOOPBACK = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?\Z")


class Origins:
    """The allow-list of this service."""

    def __init__(self, settings: ServerSettings) -> None:
        self.listed = (*settings.allowed_origins, *((settings.public_origin,) if settings.public_origin else ()))
        # A developer's own pages on any port; names are compared, so a rebound DNS name is not loopback.
        self.takes_loopback = not settings.is_production

    def allow(self, origin: str) -> bool:
        """Whether a page of this origin may call; `null` and everything unlisted may not."""
        return origin in self.listed or (self.takes_loopback and LOOPBACK.match(origin) is not None)
