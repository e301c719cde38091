"""Which web pages may call: an exact list, never a pattern over strangers' names.

CORS protects responses only and never sees sockets; guests, tickets and sockets ask here themselves. Those of sites are
put in by whoever reads the sites; nothing is asked for here.
"""

import re
from collections.abc import Iterable

from parley.core.settings import ServerSettings

LOOPBACK = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?\Z")


class Origins:
    """The allow-list of this service."""

    def __init__(self, settings: ServerSettings) -> None:
        self.listed = (*settings.allowed_origins, *((settings.public_origin,) if settings.public_origin else ()))
        # A developer's own pages on any port; names are compared, so a rebound DNS name is not loopback.
        self.takes_loopback = not settings.is_production
        self._of_sites: frozenset[str] = frozenset()

    def put_sites(self, origins: Iterable[str]) -> None:
        """Take these, and no others, besides those of the settings."""
        self._of_sites = frozenset(origins)

    def allow(self, origin: str) -> bool:
        """Whether a page of this origin may call; `null` and everything unlisted may not."""
        if origin in self.listed or origin in self._of_sites:
            return True
        return self.takes_loopback and LOOPBACK.match(origin) is not None
