"""What the engines' binaries say of themselves, and what becomes of one that says nothing."""

import asyncio
import signal
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from parley.core.embedded import binaries
from parley.core.embedded.binaries import valkey_server, version_of


def program(path: Path, does: str) -> Path:
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o700)
    return path


async def test_a_version_is_found_in_what_a_binary_says(tmp_path: Path) -> None:
    assert (await version_of(valkey_server())).count(".") == 2
    assert await version_of(program(tmp_path / "mute", "exit 1")) == ""


async def test_a_binary_that_takes_too_long_has_no_version_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments: str, **options: Any) -> Process:
        started.append(await start(*arguments, **options))
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    monkeypatch.setattr(binaries, "VERSION_TIMEOUT_S", 0.1)
    assert await version_of(program(tmp_path / "slow", "exec sleep 60")) == ""
    assert started[0].returncode == -signal.SIGKILL
