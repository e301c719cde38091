"""The rows of sockets: joins a second, memory of an idle one, deliveries to many viewers of one answer."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.people import Person, begin_conversation, make_conversations
from tests.bench.socket_load import Board, Socket, close_sockets, handshake, open_sockets
from tests.bench.stream_servers import Server
from tests.bench.table import Row
from tests.bench.token_upstream import question

JOIN_ROUNDS, JOINS, AT_ONCE = 4, 1_000, 64
HOLD_S = 27.0  # longer than a heartbeat
VIEWERS = 2_000
FAN_TOKENS, FAN_PER_S = 60, 20
PATIENCE_S = 30.0


async def joins(server: Server, bare: Server, people: Sequence[Person], database_url: str) -> list[Row]:
    """Return how many sockets a second join, each a conversation of its own, and what one holds while it is idle.

    `bare` opens sockets and does nothing else.
    """
    rates, bare_rates, memory, board = [], [], [], Board()
    kept = []
    for number in range(-1, JOIN_ROUNDS):
        conversations = await make_conversations(database_url, people, JOINS if number >= 0 else AT_ONCE)
        heads = [handshake(conversation_id, person.access_token) for conversation_id, person in conversations]
        bare_rate, others = await _opened(bare, heads, Board())
        await close_sockets(others)
        before_kib = server.memory_kib()
        rate, sockets = await _opened(server, heads, board)
        if number < 0:
            await close_sockets(sockets)
            continue
        rates.append(rate)
        bare_rates.append(bare_rate)
        kept += sockets
        await asyncio.sleep(1.0)
        memory.append((server.memory_kib() - before_kib) / len(sockets))
    idle_kib, cpu_s = server.memory_kib(), server.cpu_s()
    await asyncio.sleep(HOLD_S)
    grown = (server.memory_kib() - idle_kib) / len(kept)
    cpu_us = (server.cpu_s() - cpu_s) / HOLD_S / len(kept) * 1e6
    await close_sockets(kept)
    if board.pings < len(kept):
        raise SystemExit(f"{len(kept)} sockets heard {board.pings} heartbeats")
    return [
        Row(f"authenticated joins, {AT_ONCE} at once", rates, "joins/s"),
        Row("  bare handshakes", bare_rates, "/s"),
        Row("  joins / bare handshakes", [mine / other for mine, other in zip(rates, bare_rates, strict=True)], "x"),
        Row("memory of an idle joined socket", [one + grown for one in memory[1:]], "KiB"),
        Row("CPU of an idle joined socket, a second", [cpu_us], "us"),
    ]


async def _opened(server: Server, heads: Sequence[bytes], board: Board) -> tuple[float, list[Socket]]:
    """Open a socket for each, and return how many that was a second, too."""
    began = time.perf_counter()
    sockets = await open_sockets(server.port, heads, board, at_once=AT_ONCE)
    return len(sockets) / (time.perf_counter() - began), sockets


class Audience(NamedTuple):
    """Everybody who watches one conversation on one server."""

    server: Server
    board: Board
    sockets: Sequence[Socket]

    @classmethod
    async def gather(cls, server: Server, conversation_id: str, person: Person) -> "Audience":
        """Open all their sockets."""
        board = Board()
        heads = [handshake(conversation_id, person.access_token) for _ in range(VIEWERS)]
        return cls(server, board, await open_sockets(server.port, heads, board, at_once=AT_ONCE))

    async def ask(self, client_id: str) -> tuple[float, float]:
        """Ask once and wait until all have seen the end; return deliveries a CPU second, and frames for a token."""
        self.board.deliveries = self.board.ends = 0
        before_s, began = self.server.cpu_s(), time.perf_counter()
        command = {"type": "chat", "content": question(FAN_TOKENS, FAN_PER_S), "client_id": client_id}
        self.sockets[0].say(json.dumps(command).encode())
        while self.board.ends < VIEWERS:
            if time.perf_counter() - began > PATIENCE_S:
                raise SystemExit(f"{self.board.ends} of {VIEWERS} viewers of {self.server.name} saw the end")
            await asyncio.sleep(0.01)
        deliveries = self.board.deliveries
        return deliveries / (self.server.cpu_s() - before_s), deliveries / VIEWERS / FAN_TOKENS


async def fan_out(server: Server, other: Server, person: Person, rounds: int) -> list[Row]:
    """Return deliveries a CPU second of one answer to many viewers on two workers, beside one that only repeats."""
    conversation_id = await begin_conversation(server.port, person)
    ours, theirs = [await Audience.gather(one, conversation_id, person) for one in (server, other)]
    rates, other_rates, frames = [], [], []
    for number in range(rounds):
        rate, frames_for_a_token = await ours.ask(f"fan-{number}")
        rates.append(rate)
        frames.append(frames_for_a_token)
        await asyncio.sleep(1.0)
        other_rates.append((await theirs.ask(""))[0])
        await asyncio.sleep(1.0)
    await close_sockets([*ours.sockets, *theirs.sockets])
    return [
        Row(f"deliveries per CPU-s, 1 to {VIEWERS} viewers, 2 workers", rates, "/s"),
        Row("  frames a viewer got for a token", frames, ""),
        Row("  a loop of send_text, 1 process, no Redis", other_rates, "/s"),
        Row("  deliveries / those of that loop", [a / b for a, b in zip(rates, other_rates, strict=True)], "x"),
    ]
