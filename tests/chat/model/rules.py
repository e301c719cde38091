"""Rules of the design whose real code does I/O, so that the model follows them; a mutation leaves one out."""

from dataclasses import dataclass


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class Rules:
    """All hold unless a mutation says otherwise."""

    append_asks_where_the_log_ends: bool = True
    sweeps: bool = True
    compares_timelines: bool = True
    ends_only_its_own_attempt: bool = True
    ends_once: bool = True
    promotes_only_when_free: bool = True
    acknowledges_after_the_commit: bool = True
    reads_one_snapshot: bool = True
    stops_writing_at_the_end: bool = True
    claims_after_lost_commits: bool = True
    looks_at_the_dead_again: bool = True
    fences_only_the_tape_s_own_writer: bool = True
    knows_client_ids: bool = True
    lost_replies_take_an_attempt: bool = True
    resets_what_is_far_behind: bool = True
