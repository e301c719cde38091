"""What can go wrong in a conversation, by code."""

from parley.core.errors import AppError, Conflict, Forbidden, NotFound, Unavailable, Unprocessable


class ConversationNotFound(NotFound):
    """It is absent, deleted, or not the caller's."""

    code, message = "conversation_not_found", "There is no such conversation."


class MessageNotFound(NotFound):
    """It is absent, or in a conversation that is not the caller's."""

    code, message = "message_not_found", "There is no such message."


class ParticipantNotFound(NotFound):
    """Nobody of that id was invited."""

    code, message = "participant_not_found", "There is no such participant."


class NotYours(Forbidden):
    """Who was invited may read and write, and no more."""

    code, message = "not_yours", "Only the owner of the conversation may do this."


class TooManyParticipants(Conflict):
    """A conversation is no mailing list."""

    code, message = "too_many_participants", "No more people can be invited into this conversation."


class ClientIdReused(Unprocessable):
    """The id names another question."""

    code, message = "client_id_reused", "This client_id was used for another message."


class MessageTooLong(Unprocessable):
    """This service takes shorter messages than the wire does."""

    code = "too_long"

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"A message may have at most {most_bytes} bytes of UTF-8.")


class Busy(Conflict):
    """A reply is being written, and the caller did not want to wait."""

    code, message = "busy", "An answer is still being written."


class QueueFull(Conflict):
    """Too many replies wait already."""

    code, message = "queue_full", "Too many questions are waiting for an answer."


class NotLast(Conflict):
    """Only the newest turn can be asked anew."""

    code, message = "not_last", "Only the newest question can be answered again."


class NotEnded(Conflict):
    """The reply is still being written."""

    code, message = "not_ended", "The answer has not ended yet."


class HumanMode(Conflict):
    """A person answers here."""

    code, message = "human_mode", "A person answers in this conversation."


class NoReply(Unprocessable):
    """The message is no reply."""

    code, message = "not_a_reply", "This message is not an answer."


class Overloaded(Unavailable):
    """This worker has as many replies as it can write at a time."""

    code, message = "overloaded", "Too many answers are being written. Please try again."


class Draining(Unavailable):
    """This worker is going away."""

    code, message = "draining", "This server is restarting. Please try again."


class TooManyConnections(AppError):
    """One user, or one address, holds as many sockets and streams as it may."""

    status, retryable = 429, True
    code, message = "too_many_connections", "Too many connections are open. Close one first."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "5"})
