"""The demo model as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import Any

from parley.agents.demo.server import MODEL

END_S = 5.0


def start(*arguments: str, descriptors: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "parley.agents.demo", "--pace-s", "0", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, pass_fds=descriptors)


def models(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/models", timeout=END_S) as answer:
        return json.load(answer)["data"][0]["id"]


def end(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    with process:
        return process.wait(END_S)


def test_it_tells_its_port_on_the_pipe_and_ends_when_told() -> None:
    reader, writer = os.pipe()
    process = start("--port", "0", "--status-fd", str(writer), descriptors=(writer,))
    os.close(writer)
    with os.fdopen(reader) as status:
        port, ready = status.read().splitlines()
    assert ready == "ready"
    assert models(f"http://127.0.0.1:{port.removeprefix('port ')}/v1") == MODEL
    assert end(process) == 0


def test_it_takes_over_a_socket_that_listens_and_prints_where_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = start("--fd", str(listener.fileno()), descriptors=(listener.fileno(),))
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url == f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        assert models(url) == MODEL
        assert end(process) == 0
