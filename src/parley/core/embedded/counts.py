"""The folder in which the workers of one start keep what they count (`core.metrics_folder`). Imports no prometheus."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parley.core.embedded.folder import DataFolder, make_data_folder, make_folder
from parley.core.embedded.lock import is_held

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # what prometheus_client reads when a worker imports it
OWNER = "owner"  # locked for as long as its start runs


@contextmanager
def counts_folder(folder: DataFolder, *, is_production: bool) -> Iterator[Path]:
    """Make it afresh: what an earlier start has counted is not ours. Gone when the block ends.

    In the data folder; in production, where there may be none, in a temporary one.
    """
    if is_production:
        path = Path(tempfile.mkdtemp(prefix="parley-metrics-"))
    else:
        make_data_folder(folder)
        # Workers of a killed parent may still write to files of theirs: ours are in a folder of another name.
        for old in make_folder(folder.run).glob("metrics-*"):
            if not is_held(old / OWNER):  # with engines of elsewhere, several may share a data folder
                shutil.rmtree(old, ignore_errors=True)
        path = make_folder(folder.run / f"metrics-{os.getpid()}")
        shutil.rmtree(path)
        make_folder(path)
    owner = os.open(path / OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        os.close(owner)
        shutil.rmtree(path, ignore_errors=True)
