"""A worker: what crashes, is paused and goes on; its round trips; its beat, its watch and its claims; its sweep."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from tests.chat.model.schedule import Step
from tests.chat.model.watching import Watching
from tests.chat.model.writing import Writer, Writing

from parley.chat.repository import ToStop
from parley.chat.service import Committed
from parley.chat.watch import Dead, Watch

if TYPE_CHECKING:
    from tests.chat.model.world import World

Got = TypeVar("Got")
BEAT_S, SWEEP_S, REDIS_DEADLINE_S = 0.5, 2.0, 0.5


class Worker:
    """One process."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.boot_id = world.new_id()
        self.is_alive = True
        self.is_paused = False
        self.is_draining = False
        self.steady_since = world.schedule.now
        """It stood still before."""
        self._waiting: list[Step] = []
        self._claiming: set[UUID] = set()
        self._watch = Watch()
        self.timeline = world.store.timeline
        self.watching = Watching(self)
        self.writer = Writer(self)
        self.later(world.random.uniform(0, BEAT_S), self._look)
        self.later(world.random.uniform(0, SWEEP_S), self._sweep)

    def __str__(self) -> str:
        return f"worker {self.number}"

    # Being a process.

    def later(self, delay_s: float, step: Step) -> None:
        """Do something after a while, if this process still runs then, or once it runs again."""
        self.world.schedule.after(delay_s, partial(self._run, step))

    def crash(self) -> None:
        """Die: only what is under way elsewhere goes on."""
        self.is_alive = False
        self.world.channel.sinks.pop(self, None)
        self.watching.drop_all()

    def pause(self) -> None:
        """Stand still."""
        self.is_paused = True

    def go_on(self) -> None:
        """Continue as if nothing had happened."""
        if not self.is_paused:
            return
        self.is_paused, self.steady_since = False, self.world.schedule.now
        waiting, self._waiting = self._waiting, []
        for step in waiting:
            self.later(0.0, step)

    def _run(self, step: Step) -> None:
        if not self.is_alive:
            return
        if self.is_paused:
            self._waiting.append(step)
        else:
            step()

    # Round trips.

    def query(self, transaction: Callable[[], Got], then: Callable[[Got | None], None]) -> None:
        """Ask PostgreSQL; None: it is away, and what was asked may have happened."""
        world, timeline = self.world, self.world.store.timeline

        def run() -> None:
            answer: Got | None = None
            if world.store.timeline != timeline:
                return
            if not world.is_database_away:
                answer = transaction()
                if world.chance(world.faults.lost_commits):
                    world.note(f"{self} does not hear of its commit")
                    answer = None
            self.later(world.delay(), lambda: then(answer))

        world.schedule.after(world.delay(), run)

    def redis(self, call: Callable[[], Got], then: Callable[[Got | None], None]) -> None:
        """Ask Redis; None: it did not answer in time, and what was asked may have happened, or happen yet."""
        world, timeline, is_answered = self.world, self.world.store.timeline, False

        def finish(answer: Got | None) -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                then(answer)

        def run() -> None:
            if not world.redis.is_up or world.store.timeline != timeline:
                return
            answer = call()
            if not world.chance(world.faults.lost_answers):
                self.later(world.delay(), lambda: finish(answer))

        is_late = world.chance(world.faults.late_pipelines)
        world.schedule.after(world.random.uniform(0.3, 5.0) if is_late else world.delay(), run)
        self.later(REDIS_DEADLINE_S, lambda: finish(None))

    # After a commit.

    def follow_up(self, committed: Committed) -> None:
        """Tell what changed, begin what was claimed, stop what was to be stopped."""
        self.watching.tell(committed.changes)
        for claimed in committed.claimed:
            self.writer.start(claimed)
        for stop in committed.stops:
            self._stop(stop)

    def _stop(self, stop: ToStop) -> None:
        owner = next((worker for worker in self.world.workers if worker.boot_id == stop.owner), None)
        if owner is self:
            self.writer.end_early(stop.message_id, "stopped")
        elif owner is not None and not self.world.chance(self.world.faults.lost_messages):
            owner.later(self.world.delay(), lambda: owner.writer.end_early(stop.message_id, "stopped"))

    # Beat, watch, claims.

    def _look(self) -> None:
        running, asked_at = dict(self.writer.running), self.world.schedule.now
        self.query(partial(self.world.store.beat, self.boot_id), partial(self._looked, running, asked_at))

    def _looked(self, running: Mapping[UUID, Writing | None], asked_at: float, answer: Any) -> None:
        now = self.world.schedule.now
        self.later(max(BEAT_S - (now - asked_at), BEAT_S / 5), self._look)
        if answer is None:
            self._watch.missed()
            return
        mine, others = answer
        dead = self._watch.poll(others, asked_at, now)
        self._mind(dict(mine), running)
        if self.writer.has_room:
            self.query(partial(self.world.store.unowned, dead), partial(self._found, dead))

    def _mind(self, mine: dict[UUID, bool], running: Mapping[UUID, Writing | None]) -> None:
        lost = [message_id for message_id in mine if message_id not in self.writer.running]
        if lost and self.world.rules.claims_after_lost_commits:
            self.query(partial(self.world.store.release, self.boot_id, lost), lambda _: None)
        for message_id, is_stopping in mine.items():
            if is_stopping:
                self.writer.end_early(message_id, "stopped")
        for message_id, writing in running.items():
            if writing is not None and message_id not in mine:
                self.writer.end_early(message_id, "fenced")

    def _found(self, dead: Dead, unowned: list[UUID] | None) -> None:
        for message_id in unowned or ():
            if message_id not in self._claiming:
                self._claiming.add(message_id)
                self.later(self.world.random.uniform(0, 0.2), partial(self._claim, message_id, dead))

    def _claim(self, message_id: UUID, dead: Dead) -> None:
        def claim() -> Committed:
            gone = self.world.store.still_dead(dead)
            self.world.check_owner_is_gone(message_id, gone)
            committed = self.world.store.claim(self.boot_id, message_id, gone)
            self.writer.expect_all(committed)
            return committed

        def claimed(committed: Committed | None) -> None:
            self._claiming.discard(message_id)
            if committed is None:
                self.writer.forget(message_id)
            else:
                self.follow_up(committed)

        if not self.writer.has_room or message_id in self.writer.running:
            self._claiming.discard(message_id)
            return
        self.query(claim, claimed)

    # The sweep.

    def _sweep(self) -> None:
        self.later(SWEEP_S, self._sweep)
        if self.world.rules.sweeps:
            self.query(self._standing, self.watching.take_sweep)

    def _standing(self) -> tuple[int, UUID | None, int]:
        store = self.world.store
        live = store.live
        return store.talk.rev, live.id if live else None, live.attempt if live else 0
