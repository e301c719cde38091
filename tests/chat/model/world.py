"""One history: what people do and what breaks, drawn from a seed; then calm, and the truth beside every screen."""

from collections.abc import Callable, Collection
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

from tests.chat.model.faults import Faults
from tests.chat.model.redis import Channel, Redis
from tests.chat.model.rules import Rules, Violation
from tests.chat.model.schedule import Schedule
from tests.chat.model.store import WRITTEN, Asked, End, Row, Store
from tests.chat.model.truth import EMPTY, Truth
from tests.chat.model.viewer import Client
from tests.chat.model.worker import Worker

from parley.chat.cursor import Position
from parley.chat.models import ENDED
from parley.chat.service import Claimed, Committed
from parley.chat.tape import Part, Tape

SCRIPT_S, HELD_S, MOST_S = 8.0, 8.0, 45.0
PROBE_S, PROBE_AGE_S = 7.5, 3.0
CALM_S = 5.0
BLOW_S, LATE_S = 1.0, 0.5
BLOWS = ("nothing", "flush", "lose_tails", "unsubscribe", "crash", "pause")
DECIDED_S = 2.0  # a takeover may come so long after what it was decided upon

WEIGHTS = {
    "ask": 10, "ask_twice": 2, "interrupt": 3, "stop": 5, "again": 4, "edit": 2, "rate": 6, "retitle": 3, "mode": 2,
    "cut": 10, "reload": 2, "arrive": 3, "since": 2,
    "crash": 3, "pause": 3, "drain": 1, "flush": 3, "lose_tails": 2, "redis_away": 2, "unsubscribe": 3,
    "database_away": 2, "restore": 1,
}  # fmt: skip
ALWAYS = {"ask", "stop", "cut"}
RATINGS = ("up", "down")


class World:
    """Everything there is."""

    def __init__(self, seed: int, rules: Rules, *, steps: int | None = None, traces: bool = False) -> None:
        self.random = Random(seed)
        self.rules = rules
        self.schedule = Schedule()
        self.trace: list[str] | None = [] if traces else None
        self.faults = Faults.drawn(self.random)
        self.ring, self.old_tapes = self.random.choice([2, 4, 64]), self.random.choice([1, 2, 4])
        self.most_takeovers = self.random.choice([0, 1, 3])
        self.store = Store(self.new_id(), rules, self.new_id, self.random.choice([3, 12, 200]))
        rates = {"loses": self.faults.lost_messages, "doubles": self.faults.doubled_messages}
        self.channel = Channel(self.schedule, self.random, **rates, delays=self.faults.late_messages)
        self.redis = Redis(self.channel, rules)
        self.is_database_away = self.is_held_open = False
        self.acknowledged: set[UUID] = set()
        self._truth: dict[tuple[UUID, int], Truth] = {}
        self._copy = self.store.copy()
        self._asked = 0
        self.workers = [Worker(self, number) for number in range(self.random.randint(1, 3))]
        self._worker_count = len(self.workers)
        self.clients = [Client(self, number) for number in range(self.random.randint(1, 3))]
        for client in self.clients:
            self.schedule.after(self.random.uniform(0, 1), client.connect)
        self._plan(steps)

    # What the others use.

    def new_id(self) -> UUID:
        """Return an id that the seed decides."""
        return UUID(int=self.random.getrandbits(128))

    def chance(self, likely: float) -> bool:
        """Say whether it happens."""
        return likely > 0 and self.random.random() < likely

    def delay(self) -> float:
        """Return how long a step over the network takes."""
        return self.random.uniform(0.0, 0.6) if self.chance(self.faults.slow_steps) else self.random.uniform(0, 0.004)

    def pace_s(self) -> float:
        """Return when a model says more."""
        return self.random.choice([0.001, 0.02, 0.2, 0.4]) if not self.is_held_open else 0.35

    def note(self, text: str) -> None:
        """Keep a line for whoever looks for a fault."""
        if self.trace is not None:
            self.trace.append(f"{self.schedule.now:8.3f}  {text}")

    def note_event(self, client: Client, event: Any, position: Position) -> None:
        """Keep what a viewer is told, in short."""
        if self.trace is not None:
            at = f"{position.rev} {str(position.reply)[:4]} {position.attempt} {position.n}"
            row = event.get("message") or event
            told = {key: row[key] for key in ("id", "message_id", "rev", "role", "status", "reason") if key in row}
            short = " ".join(f"{str(value)[:4] if 'id' in key else value}" for key, value in told.items())
            self.note(f"{client} at {at}: {event['type']} {short} {event.get('content', '')!r}")

    def begin_tape(self, tape: Tape) -> None:
        """An attempt begins: nobody else may write it."""
        key = (tape.message_id, tape.attempt)
        if key in self._truth:
            raise Violation("two writers had the same attempt")
        self._truth[key] = Truth()

    def grow_tape(self, tape: Tape, part: Part) -> None:
        """Keep what is written, apart from the code that is tried."""
        self._truth[tape.message_id, tape.attempt].grow(part)

    def text_of(self, message_id: UUID, attempt: int, n: int) -> str:
        """Return what an attempt had written up to a position."""
        truth = self._truth.get((message_id, attempt), EMPTY)
        if n > truth.end:
            raise Violation("a cursor lies beyond what was written")
        return truth.text[: truth.characters[n]]

    def check_end(self, claimed: Claimed, end: End) -> None:
        """A reply has been stored as ended: its text is that of its last attempt."""
        truth = self._truth.get((claimed.message_id, claimed.attempt), EMPTY)
        row = self.store.rows[claimed.message_id]
        if not claimed.is_stopping and row.content != self.text_of(claimed.message_id, row.attempt, row.tape_end or 0):
            raise Violation("the stored text is not what the last attempt wrote")
        if not claimed.is_stopping and self.rules.stops_writing_at_the_end and truth.end != end.tape_end:
            raise Violation("something was written after the end")

    def check_fence(self, boot_id: UUID, claimed: Claimed) -> None:
        """Nobody is told to leave a reply that is its own."""
        row = self.store.rows.get(claimed.message_id)
        if row is not None and row.status in WRITTEN and (row.owner, row.attempt) == (boot_id, claimed.attempt):
            raise Violation("a writer was sent away from its own reply")

    def check_owner_is_gone(self, message_id: UUID, dead: Collection[UUID]) -> None:
        """Nobody is taken over who is there."""
        row = self.store.rows.get(message_id)
        if row is None or row.owner not in dead:
            return
        owner = next((worker for worker in self.workers if worker.boot_id == row.owner), None)
        is_there = owner is not None and owner.is_alive and not owner.is_paused
        if is_there and owner is not None and self.schedule.now - owner.steady_since > DECIDED_S:
            raise Violation("a worker was taken over that was there")

    # The script.

    def _plan(self, steps: int | None) -> None:
        kinds = [kind for kind in WEIGHTS if kind in ALWAYS or self.random.random() < 0.6]
        plan = []
        for _ in range(self.random.randint(4, 30)):
            kind = self.random.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
            plan.append((self.random.uniform(0, SCRIPT_S), kind, Random(self.random.getrandbits(32))))
        self.planned = len(plan)
        for at_s, kind, random in sorted(plan, key=lambda one: one[0])[:steps]:
            self.schedule.after(at_s, partial(self._act, kind, random))

    def _act(self, kind: str, random: Random) -> None:
        self.note(f"-- {kind}")
        action: Callable[[Random], None] = getattr(self, f"_do_{kind}")
        action(random)

    def _some_worker(self, random: Random) -> Worker | None:
        found = [worker for worker in self.workers if worker.is_alive and not worker.is_paused]
        return random.choice(found) if found else None

    def _ask(self, worker: Worker | None, client_id: str, on_busy: Any = "queue", replaces: UUID | None = None) -> None:
        if worker is None:
            return

        question_id = self.new_id()
        if not self.rules.acknowledges_after_the_commit:
            self.acknowledged.add(question_id)

        def store() -> Asked:
            room = worker.writer.has_room
            asked = self.store.ask(worker.boot_id, question_id, client_id, on_busy, can_start=room, replaces=replaces)
            worker.writer.expect_all(asked.committed)
            return asked

        self._do(worker, store, lambda asked: asked.committed, self._acknowledge)

    def _do(self, worker: Worker, store: Any, committed_of: Any, told: Any = None) -> None:
        """Run a transaction on a worker, and what follows from it."""
        claims: list[UUID] = []

        def run() -> Any:
            result = store()
            claims.extend(claimed.message_id for claimed in committed_of(result).claimed)
            return result

        def answered(result: Any) -> None:
            if result is None:
                for message_id in claims:
                    worker.writer.forget(message_id)
                return
            if told is not None:
                told(result)
            worker.follow_up(committed_of(result))

        worker.query(run, answered)

    def _acknowledge(self, asked: Asked) -> None:
        self.acknowledged.add(asked.question_id)

    def _change(self, random: Random, store: Callable[[Worker], Committed]) -> None:
        worker = self._some_worker(random)
        if worker is None:
            return

        def run() -> Committed:
            committed = store(worker)
            worker.writer.expect_all(committed)
            return committed

        self._do(worker, run, lambda committed: committed)

    def _do_ask(self, random: Random) -> None:
        self._asked += 1
        self._ask(self._some_worker(random), f"c-{self._asked}")

    def _do_interrupt(self, random: Random) -> None:
        self._asked += 1
        self._ask(self._some_worker(random), f"c-{self._asked}", "interrupt")

    def _do_ask_twice(self, random: Random) -> None:
        self._asked += 1
        for _ in range(3):
            self._ask(self._some_worker(random), f"c-{self._asked}")

    def _do_edit(self, random: Random) -> None:
        question = next((row for row in reversed(self.store.rows.values()) if row.role == "user"), None)
        self._asked += 1
        if question is not None:
            self._ask(self._some_worker(random), f"c-{self._asked}", "interrupt", question.id)

    def _do_again(self, random: Random) -> None:
        self._change(random, lambda one: self.store.again(one.boot_id, can_start=one.writer.has_room))

    def _do_stop(self, random: Random) -> None:
        unended = self.store.unended()
        if unended:
            reply = random.choice(unended)
            self._change(random, lambda _: self.store.stop(reply.id))

    def _do_rate(self, random: Random) -> None:
        ended = [row for row in self.store.rows.values() if row.role == "assistant" and row.status in ENDED]
        if ended:
            reply, rating = random.choice(ended[-2:]), random.choice(RATINGS)
            self._change(random, lambda _: self.store.rate(reply.id, rating))

    def _do_retitle(self, random: Random) -> None:
        title = f"title {random.random()}"
        self._change(random, lambda _: self.store.retitle(title))

    def _do_mode(self, random: Random) -> None:
        mode = random.choice(["ai", "ai", "human"])
        self._change(random, lambda _: self.store.set_mode(mode))

    def _do_cut(self, random: Random) -> None:
        random.choice(self.clients).cut()

    def _do_reload(self, random: Random) -> None:
        random.choice(self.clients).reload()

    def _do_arrive(self, random: Random) -> None:
        self._arrive(None)

    def _do_since(self, random: Random) -> None:
        """Somebody asks over SSE and watches from just before the question."""
        worker = self._some_worker(random)
        self._asked += 1
        client_id = f"c-{self._asked}"
        if worker is None:
            return

        def store() -> Asked:
            room = worker.writer.has_room
            asked = self.store.ask(worker.boot_id, self.new_id(), client_id, "queue", can_start=room)
            worker.writer.expect_all(asked.committed)
            return asked

        def told(asked: Asked) -> None:
            self._acknowledge(asked)
            self._arrive(Position(asked.before_rev))

        self._do(worker, store, lambda asked: asked.committed, told)

    def _arrive(self, since: Position | None) -> None:
        if len(self.clients) < 5:
            self.clients.append(Client(self, len(self.clients), since))
            self.clients[-1].connect()

    # What breaks.

    def _do_crash(self, random: Random) -> None:
        worker = random.choice(self.workers)
        if worker.is_alive:
            self.note(f"{worker} dies")
            worker.crash()
            self.schedule.after(random.uniform(0.2, 4.0), self._replace_worker)

    def _replace_worker(self) -> None:
        self.workers.append(Worker(self, self._worker_count))
        self._worker_count += 1

    def _do_pause(self, random: Random) -> None:
        worker = random.choice(self.workers)
        self.note(f"{worker} stands still")
        worker.pause()
        self.schedule.after(random.uniform(0.3, 6.0), worker.go_on)

    def _do_drain(self, random: Random) -> None:
        worker = random.choice(self.workers)
        if not worker.is_alive or worker.is_draining:
            return
        worker.is_draining = True
        worker.watching.drop_all()
        self.schedule.after(0.5, partial(self._hand_over, worker))
        self._replace_worker()

    def _hand_over(self, worker: Worker) -> None:
        for message_id in list(worker.writer.running):
            worker.writer.end_early(message_id, "released")
        self.schedule.after(1.0, worker.crash)

    def _do_flush(self, random: Random) -> None:
        self.redis.logs.clear()

    def _do_lose_tails(self, random: Random) -> None:
        self.redis.lose_tails(random.randint(1, 3))

    def _do_redis_away(self, random: Random) -> None:
        self.redis.is_up = False
        listening = [one for one in self.workers if one in self.channel.sinks]
        for worker in listening:
            worker.watching.resubscribe()
        if random.random() < 0.5:
            self.redis.logs.clear()
        self.schedule.after(random.uniform(0.2, 4.0), self._heal_redis)

    def _heal_redis(self) -> None:
        self.redis.is_up = True

    def _do_unsubscribe(self, random: Random) -> None:
        random.choice(self.workers).watching.resubscribe()

    def _do_database_away(self, random: Random) -> None:
        self.is_database_away = True
        self.schedule.after(random.uniform(0.2, 4.0), self._heal_database)

    def _heal_database(self) -> None:
        self.is_database_away = False

    def _do_restore(self, random: Random) -> None:
        """The database comes back without its last commits, as another timeline; nobody lives through that."""
        for worker in self.workers:
            worker.crash()
        talk, kept = self._copy
        self.store.restore(talk, kept, f"abc-{int(self.store.timeline[4:], 16) + 1:08X}")
        self.acknowledged &= kept.keys()
        self.redis.logs.clear()
        self._truth.clear()
        self._copy = self.store.copy()
        for _ in range(2):
            self._replace_worker()

    # Running.

    def run(self) -> None:
        """Let the script happen, then calm; raise Violation where a promise is broken."""
        self.schedule.after(self.random.uniform(0, SCRIPT_S), self._keep_copy)
        self.schedule.run(SCRIPT_S)
        self._calm()
        began = self.schedule.now
        self.schedule.run(began + PROBE_S - PROBE_AGE_S)
        seen = self._live_length()
        self.schedule.run(began + PROBE_S)
        self._check_probe(seen)
        self.schedule.run(began + HELD_S)
        self.is_held_open = False
        while self.store.unended():
            if self.schedule.now > began + MOST_S:
                raise Violation("a reply never ended")
            self.schedule.run(self.schedule.now + 1.0)
        self.schedule.run(self.schedule.now + CALM_S)
        self._check_all()

    def _keep_copy(self) -> None:
        self._copy = self.store.copy()

    def _calm(self) -> None:
        self.note("-- calm")
        self.faults = Faults(linger_s=30.0)
        self.channel.calm()
        self._heal_redis()
        self._heal_database()
        self.is_held_open = True
        for worker in self.workers:
            worker.go_on()
        if not [worker for worker in self.workers if worker.is_alive and not worker.is_draining]:
            self._replace_worker()
        self._change(self.random, lambda _: self.store.set_mode("ai"))
        if self.chance(0.7):  # else nothing more is told, and the sweep alone finds what was lost
            self._do_ask(self.random)
        self.schedule.after(BLOW_S, partial(self._strike, self.random.choice(BLOWS)))

    def _strike(self, blow: str) -> None:
        """Break one thing more, of which everything recovers."""
        self.note(f"-- {blow}")
        live = self.store.live
        owner = next((one for one in self.workers if live is not None and one.boot_id == live.owner), None)
        if blow == "flush":
            self.redis.logs.clear()
        elif blow == "lose_tails":
            self.redis.lose_tails(2)
        elif blow == "unsubscribe":
            for worker in self.workers:
                worker.watching.resubscribe()
        elif blow == "crash" and owner is not None:
            owner.crash()
            self._replace_worker()
        elif blow == "pause" and owner is not None:
            owner.pause()
            self.schedule.after(4.0, owner.go_on)
        self.schedule.after(LATE_S, self._come_late)

    def _come_late(self) -> None:
        """Somebody comes to a worker that has heard nothing yet."""
        self._replace_worker()
        self.clients.append(Client(self, len(self.clients)))
        self.clients[-1].connect(self.workers[-1])

    def _live_length(self) -> tuple[Row | None, int, int]:
        live = self.store.live
        if live is None:
            return None, 0, 0
        return live, live.attempt, self._truth.get((live.id, live.attempt), EMPTY).end

    def _check_probe(self, seen: tuple[Row | None, int, int]) -> None:
        """All is well: what was written a while ago is on every screen."""
        live, attempt, length = seen
        if live is None or self.store.live is not live or live.attempt != attempt:
            return
        for client in self.clients:
            position = client.position
            if client.since is not None or client.opened_at > self.schedule.now - PROBE_AGE_S:
                continue
            if position.reply != live.id or position.attempt != attempt or position.n < length:
                raise Violation(f"{client} does not see what is written: {position}, and not {attempt}, {length}")

    def _check_all(self) -> None:
        lost = self.acknowledged - self.store.rows.keys()
        if lost:
            raise Violation("an acknowledged message is lost")
        asked = [row.client_id for row in self.store.rows.values() if row.client_id is not None]
        if len(asked) > len(set(asked)):
            raise Violation("a client_id was stored twice")
        for client in self.clients:
            client.check_end(self.store.rows, self.store.talk)
