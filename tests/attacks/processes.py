"""The service as real processes, for what only a process of its own can show: its log, its loop, its storms."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from tests.fixtures.service import SECRET
from tests.story.serving import Serving, wait_until

from parley.app import create_app
from parley.settings import Settings

LIMITS = ("GENERAL", "LISTS", "ASK", "LOGIN", "REGISTER")
NO_LIMITS = {f"PARLEY_LIMIT_{name}": "10000/second" for name in LIMITS}


@contextmanager
def served(place: Path, database_url: str, redis_url: str, *arguments: str, **environ: str) -> Iterator[Serving]:
    """Run `parley serve` on these engines; it ends with the block."""
    serving = Serving(
        place,
        *arguments,
        environ={
            "PARLEY_DATABASE_URL": database_url,
            "PARLEY_REDIS_URL": redis_url,
            "PARLEY_AUTH_SECRETS": SECRET,
            "PARLEY_AUTH_BCRYPT_COST": "4",
            **NO_LIMITS,
            **environ,
        },
    )
    try:
        serving.wait_ready()
        yield serving
    finally:
        serving.end()


@contextmanager
def in_a_thread(settings: Settings) -> Iterator[str]:
    """Run the service on a loop of its own, for tests that cannot have one; give its address."""
    config = uvicorn.Config(
        create_app(settings), port=0, log_config=None, access_log=False, proxy_headers=False, server_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="service of the test")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
