"""Folders for engines, and a look at processes. As root, pytest's own folders are closed to PostgreSQL's account."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.guards import LoopGuard

from parley.core.embedded.binaries import SYSTEM_FOLDER
from parley.core.embedded.folder import DataFolder


def system_folder_of(data_folder: Path) -> Path:
    return SYSTEM_FOLDER / hashlib.sha256(os.fsencode(data_folder)).hexdigest()[:12]


@pytest.fixture(autouse=True)
def loop_guard() -> LoopGuard:
    """Guard nothing: the loop of a supervisor serves nobody, and its files are its business."""
    return LoopGuard()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can enter."""
    path = Path(tempfile.mkdtemp(prefix="test-parley-")).resolve()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder(place: Path) -> DataFolder:
    return DataFolder(place / "data")


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A data folder below one that only its owner can enter."""
    parent = tmp_path / "closed"
    parent.mkdir(mode=0o700)
    folder = DataFolder(parent / "data")
    yield folder
    shutil.rmtree(system_folder_of(folder.path), ignore_errors=True)
