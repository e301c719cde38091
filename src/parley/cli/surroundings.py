"""The looks of `parley doctor` at this machine: settings, data folder, port. Changes nothing."""

import asyncio
import errno
import os
import socket
from collections import Counter
from collections.abc import Sequence

import httpx

from parley.cli.verdicts import Verdict
from parley.core.embedded.folder import find_data_folder, make_data_folder
from parley.core.embedded.lock import find_running
from parley.core.settings import ServerSettings
from parley.settings import Settings

PROBE_TIMEOUT_S = 1.0
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def look_at_settings(settings: Settings) -> Sequence[Verdict]:
    """Say how many are set and where, and which look like ours and are not."""
    counts = Counter(source.partition(" (")[0] for source in settings.sources.values())
    places = ", ".join(f"{count} from {source}" for source, count in counts.items())
    return [
        Verdict("ok", "settings", f"{settings.server.environment}; {places or 'all are defaults'}"),
        *(Verdict("warn", "settings", f"unknown setting {name}", "correct or remove it") for name in settings.unknown),
    ]


async def look_at_folder(settings: Settings) -> Sequence[Verdict]:
    """Say what the data folder is for, and who works in it; call it while the engines are there."""
    engines = [
        *(["PostgreSQL"] if settings.database.url is None else []),
        *(["Valkey"] if settings.redis.url is None else []),
    ]
    uses = [*engines, *(["the secret for tokens"] if not settings.auth.secrets else [])]
    if not uses:
        return [Verdict("ok", "data folder", "not needed: both stores and the secret are set")]
    folder = find_data_folder(settings.server.data_dir)
    seen = f"{folder.path} for {', '.join(uses)}"
    if not folder.path.exists():
        return [Verdict("ok", "data folder", f"{seen}, made by the first start")]
    make_data_folder(folder)  # it is there: this only checks whose it is
    running = find_running(folder) if engines else None
    if running is None or running.pid == os.getpid():
        return [Verdict("ok", "data folder", seen)]
    return [Verdict("ok", "data folder", f"{seen}, in use by process {running.pid}")]


async def look_at_port(server: ServerSettings) -> Sequence[Verdict]:
    """Say whether the port can be listened on, or whether our own service does."""
    if server.port == 0:
        return [Verdict("ok", "port", "a free one is taken at the start")]
    where = f"{server.host}:{server.port}"
    found = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    problem = _problem_of_listening(found[0][0], found[0][4])
    if problem is None:
        return [Verdict("ok", "port", f"{where} is free")]
    if problem == errno.EADDRINUSE:
        if await _is_ours(server):
            return [Verdict("ok", "port", f"{where} is used by our own service")]
        return [Verdict("fail", "port", f"{where} is used by another program", "end it, or set PARLEY_PORT to another")]
    if problem == errno.EADDRNOTAVAIL:
        return [Verdict("fail", "port", f"{server.host} is no address of this machine", "set PARLEY_HOST to one")]
    return [Verdict("fail", "port", f"{where} cannot be used: {os.strerror(problem).lower()}", "set PARLEY_PORT")]


def _problem_of_listening(family: socket.AddressFamily, address: tuple[object, ...]) -> int | None:
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1)
        except OSError as error:
            return error.errno or errno.EINVAL
    return None


async def _is_ours(server: ServerSettings) -> bool:
    host = WILDCARDS.get(server.host, server.host)
    shown = f"[{host}]" if ":" in host else host
    try:
        # Straight to this machine, whatever proxy the environment names.
        async with asyncio.timeout(PROBE_TIMEOUT_S), httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://{shown}:{server.port}/health/live")
            return bool(answer.json() == {"status": "alive"})
    except (httpx.HTTPError, TimeoutError, ValueError):
        return False
