"""Who may see the inside: health details and metrics are for this machine, named networks, or holders of the token."""

import hmac

from starlette.requests import HTTPConnection

from parley.core.client_address import ClientAddress
from parley.core.settings import ServerSettings


class Ops:
    """The rule for this service."""

    def __init__(self, settings: ServerSettings) -> None:
        self._networks = settings.ops_allow
        self._token = settings.ops_token.get_secret_value() if settings.ops_token else None

    def may_look(self, connection: HTTPConnection) -> bool:
        """Whether this caller is one of those who run the service."""
        client: ClientAddress = connection.scope["client_address"]
        if client.is_loopback:
            return True
        is_known = client.address is not None and not client.is_hearsay
        if is_known and any(client.address in network for network in self._networks):
            return True
        given = connection.headers.get("authorization", "").removeprefix("Bearer ")
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())
