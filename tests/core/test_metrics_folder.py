"""The folder of counts: the dead stay in the sums and leave the states, and nothing grows with their number."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.mmap_dict import MmapedDict
from tests.fixtures.metrics import Scrape

from parley.core import metrics_folder
from parley.core.embedded.counts import VARIABLE
from parley.core.exposition import _AllWorkers
from parley.core.metrics_folder import MetricsFolder

# A worker: counts, says that it has, and lives until it is told or killed.
WORKER = """
import os, sys
from pathlib import Path
from parley.core.embedded.counts import VARIABLE
from parley.core.metrics import Metrics
from parley.core.metrics_folder import MetricsFolder
MetricsFolder(Path(os.environ[VARIABLE])).enter()
metrics = Metrics()
metrics.workers.set(1)
metrics.ws_accepted.inc(int(sys.argv[1]))
metrics.http_duration.labels("GET", "/x").observe(0.02)
metrics.ws_connections.set(int(sys.argv[1]))
metrics.loop_lag.set(int(sys.argv[1]) / 10)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


class Worker:
    """A process that counts."""

    def __init__(self, folder: Path, count: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={VARIABLE: str(folder)},
        )
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())

    def kill(self, *, collect: bool = True) -> None:
        self.process.kill()
        if collect:
            self.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "counts"
    path.mkdir()
    return path


def scrape(folder: Path) -> Scrape:
    return Scrape(generate_latest(_AllWorkers(MetricsFolder(folder))).decode())


def leave_counts(folder: Path, pid: int, count: float) -> None:
    """Leave what a worker that has ended leaves."""
    for kind, name in (("counter", "a_total"), ("histogram", "h_sum"), ("gauge_livesum", "g")):
        files: Any = MmapedDict
        file = files(str(folder / f"{kind}_{pid}.db"))
        file.write_value(f'["{name.removesuffix("_total").removesuffix("_sum")}", "{name}", {{}}, "help"]', count, 0.0)
        file.close()
    (folder / f"{pid}.alive").touch()


def test_sums_are_right_while_all_live_and_after_one_was_killed(folder: Path) -> None:
    """A zombie that nobody has collected yet is dead too."""
    workers = [Worker(folder, count) for count in (3, 4)]
    try:
        both = scrape(folder)
        assert (both["chat_ws_accepted_total"], both["chat_ws_connections"], both["app_workers"]) == (7, 7, 2)
        assert both["event_loop_lag_seconds"] == 0.4
        workers[1].kill(collect=False)
        workers[1].process.stdout.read()  # type: ignore[union-attr]  # until its end has come
        for _ in range(3):
            one = scrape(folder)
            assert (one["chat_ws_accepted_total"], one["chat_ws_connections"], one["app_workers"]) == (7, 3, 1)
            assert one.sum("http_request_duration_seconds_bucket", le="0.025") == 2
            assert one["http_request_duration_seconds_count"] == 2
            assert one["event_loop_lag_seconds"] == 0.3
    finally:
        for worker in workers:
            worker.kill()
    assert scrape(folder)["chat_ws_accepted_total"] == 7


def test_however_many_have_ended_the_files_stay_few(folder: Path) -> None:
    for pid in range(100_000, 100_060):
        leave_counts(folder, pid, 1)
        if pid % 7 == 0:
            assert scrape(folder)["a_total"] == pid - 99_999
    assert scrape(folder)["a_total"] == 60
    assert sorted(file.name for file in folder.iterdir()) == ["counter_0.db", "histogram_0.db", "turn"]


@pytest.mark.parametrize("step", range(1, 9))
def test_a_worker_that_dies_while_it_folds_loses_nothing_and_counts_nothing_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whichever change of the folder was its last."""
    leave_counts(folder, 100_000, 1)
    assert scrape(folder)["a_total"] == 1
    leave_counts(folder, 100_001, 2)
    leave_counts(folder, 100_002, 4)
    left = step

    def until_death(change: Any) -> Any:
        def changed(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise InterruptedError
            return change(*arguments, **options)

        return changed

    with monkeypatch.context() as patched:
        for name in ("rename", "replace", "unlink"):
            patched.setattr(Path, name, until_death(getattr(Path, name)))
        with pytest.raises(InterruptedError):
            scrape(folder)
    assert [scrape(folder)["a_total"] for _ in range(2)] == [7, 7]
    assert not list(folder.glob("gauge*"))


def test_a_reader_that_was_frozen_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_folder, "TURN_S", 0.1)
    leave_counts(folder, 100_000, 5)
    with MetricsFolder(folder).turn() as is_ours:
        assert is_ours
        assert scrape(folder)["a_total"] == 5
        assert (folder / "counter_100000.db").exists(), "only in one's own turn"
    assert scrape(folder)["a_total"] == 5
    assert not (folder / "counter_100000.db").exists()


def test_a_file_that_another_takes_away_while_it_is_read_is_looked_for_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_counts(folder, 100_000, 5)
    looked: list[list[str]] = []
    look = MetricsFolder.sweep

    def sweep(self: MetricsFolder, *, folds: bool) -> list[str]:
        files = look(self, folds=folds)
        looked.append(files)
        return [*files, str(folder / "counter_99999.db")] if len(looked) < 3 else files

    monkeypatch.setattr(MetricsFolder, "sweep", sweep)
    assert scrape(folder)["a_total"] == 5
    assert len(looked) == 3


def test_a_number_that_is_used_again_brings_no_state_back(folder: Path) -> None:
    worker = Worker(folder, 2)
    worker.kill()
    mine = MetricsFolder(folder)
    for file in folder.glob(f"*_{worker.pid}.db"):
        file.rename(folder / file.name.replace(str(worker.pid), str(os.getpid())))
    mine.enter()
    try:
        found = scrape(folder)
        assert (found["chat_ws_accepted_total"], found["chat_ws_connections"]) == (2, 0)
    finally:
        mine.leave()


def test_on_a_full_disk_the_dead_stay_where_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is room: nothing is lost, and nothing counted twice."""
    for count in (3, 4):
        Worker(folder, count).kill()
    monkeypatch.setattr(metrics_folder, "reserve", lambda *_: False)
    mine = MetricsFolder(folder)
    files = mine.sweep(folds=True)
    assert len([file for file in files if "counter" in file]) == 2
    monkeypatch.undo()
    assert len([file for file in mine.sweep(folds=True) if "counter" in file]) == 1
    assert scrape(folder)["chat_ws_accepted_total"] == 7


def test_what_the_dead_have_counted_takes_no_more_room_with_their_number(folder: Path) -> None:
    sizes = []
    for _ in range(3):
        Worker(folder, 1).kill()
        MetricsFolder(folder).sweep(folds=True)
        sizes.append((folder / "counter_0.db").stat().st_size)
    assert len(set(sizes)) == 1
    assert scrape(folder)["chat_ws_accepted_total"] == 3
