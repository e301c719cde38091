"""The Python client: watch a conversation, ask, and come back by itself. Knows the wire, and nothing of the server."""

from parley.client.connection import ParleyClient
from parley.client.errors import CommandRefused, ConnectionLost, ContentMismatch, ParleyError, Refused
from parley.client.events import Event
from parley.client.sign_in import SignIn
from parley.client.state import Shown, State, fold

__all__ = [
    "CommandRefused",
    "ConnectionLost",
    "ContentMismatch",
    "Event",
    "ParleyClient",
    "ParleyError",
    "Refused",
    "Shown",
    "SignIn",
    "State",
    "fold",
]
