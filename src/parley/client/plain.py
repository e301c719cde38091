"""Plain HTTP: one request at a time, and what its failures mean."""

import json
import ssl

import httpx

from parley.client.comeback import Interrupted, of_status

OPEN_S = 10.0
DEADLINE_S = 30.0  # of a command, reconnects included


def open_http(base_url: str) -> httpx.AsyncClient:
    """Return a client for plain HTTP; certificates are read only where they are needed, because it takes a while."""
    verify = True if base_url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(verify=verify, timeout=httpx.Timeout(OPEN_S, read=DEADLINE_S))


def check(response: httpx.Response) -> None:
    """Raise Interrupted for a refusal; the body must have been read."""
    if not response.is_success:
        raise of_status(response.status_code, response.headers, *read_problem(response.status_code, response.content))


def read_problem(status: int, body: bytes) -> tuple[str, str]:
    """Return code and message of an error body."""
    try:
        error = json.loads(body)["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, TypeError, LookupError):
        return f"http_{status}", "The server refused the request."


def unreachable(error: Exception) -> Interrupted:
    """Return what it means that there was no answer at all."""
    return Interrupted("come_back", "unreachable", f"The server cannot be reached: {type(error).__name__}.")
