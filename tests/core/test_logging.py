"""Logs: no secret in them, and no wait for whoever reads them."""

import io
import json
import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest
import structlog

from parley.core import logging as our_logging
from parley.core.logging import LineWriter, configure_logging


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    writer = configure_logging(level="info", pretty=False, stream=stream)
    yield stream
    writer.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO, count: int) -> list[dict[str, object]]:
    deadline = time.monotonic() + 5
    while stream.getvalue().count("\n") < count:
        assert time.monotonic() < deadline, stream.getvalue()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_secrets_are_hidden_by_name_and_by_look(output: io.StringIO) -> None:
    log = structlog.get_logger("test")
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

    log.info("happened", password="canary", nested={"api_key": "canary", "fine": "kept"}, headers=[f"Bearer {jwt}"])
    logging.getLogger("uvicorn.error").warning('"WebSocket /chat/ws/1?ticket=canary&x=1" [accepted]')
    log.info("refused", text="prt_canarycanarycanarycanarycanary")

    text = json.dumps(lines(output, 3))
    assert "canary" not in text
    assert "eyJ" not in text
    assert "kept" in text
    assert "ticket=[hidden]&x=1" in text


def test_a_line_is_one_line_whatever_is_in_it(output: io.StringIO) -> None:
    structlog.get_logger("test").info("happened", path="/a\nlevel=error\r\n\u2028forged", weird=b"\xff", number=1 << 70)

    assert len(lines(output, 1)) == 1
    assert output.getvalue().count("\n") == 1


def test_exceptions_are_told_whole(output: io.StringIO) -> None:
    try:
        int("on purpose")
    except ValueError:
        structlog.get_logger("test").exception("failed")

    assert "on purpose" in json.dumps(lines(output, 1))


def test_libraries_log_through_the_same_door(output: io.StringIO) -> None:
    logging.getLogger("some.library").warning("took %d s", 3)

    [line] = lines(output, 1)
    assert (line["event"], line["level"], line["logger"]) == ("took 3 s", "warning", "some.library")


def test_a_reader_that_stalls_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(our_logging, "QUEUE_LINES", 100)
    reader, written = os.pipe()
    stalled = os.fdopen(written, "w")
    writer = LineWriter(stalled)

    started = time.monotonic()
    for _ in range(1000):
        writer.put("x" * 10_000)  # the pipe holds 64 KiB
    took_s = time.monotonic() - started

    assert writer.dropped > 500
    assert took_s < 1
    threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reader, 1 << 20), b"")], daemon=True).start()
    writer.close()
    stalled.close()


@pytest.mark.parametrize("between_s", [0.0, 0.05])
def test_the_last_line_is_out_once_it_is_closed(between_s: float) -> None:
    """Whoever closes it may end without an interpreter's goodbye, as a worker does whose loop was lost."""
    reader, written = os.pipe()
    with os.fdopen(written, "w") as stream:
        writer = LineWriter(stream)
        writer.put("one")
        time.sleep(between_s)
        writer.put("the last")
        writer.close()
        assert os.read(reader, 100) == b"one\nthe last\n"
    os.close(reader)
