"""What people are asked and told of conversations; events and commands of sockets are `protocol` and `commands`."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from parley.chat.commands import MAX_CONTENT_BYTES, OnBusy
from parley.chat.models import Conversation
from parley.chat.service import Question
from parley.core.schemas import Command, Id, Moment, Schema, Text, one_line

TITLE_CHARACTERS = 200
COMMENT_CHARACTERS = 2000
WORDS_CHARACTERS = 200
Mode = Literal["ai", "human"]
Role = Literal["user", "assistant", "operator", "notice"]
Status = Literal["queued", "streaming", "stopping", "complete", "stopped", "failed"]
Rating = Literal["up", "down"]


def _title(text: str) -> str:
    """Return a title in one line, still short enough in its normal form."""
    title = one_line(text)
    if len(title) > TITLE_CHARACTERS:
        raise ValueError(f"must have at most {TITLE_CHARACTERS} characters")
    return title


# The length comes first: what follows costs time for each character.
Title = Annotated[str, Field(max_length=TITLE_CHARACTERS, examples=["Order 4711"]), AfterValidator(_title)]
Words = Annotated[str, Field(max_length=WORDS_CHARACTERS), AfterValidator(one_line)]
ClientId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["c-4711"])]
AgentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$", examples=["support"])]


class ConversationCommand(Command):
    """A new conversation; without an agent the default one answers."""

    title: Title = ""
    agent: AgentName | None = None
    client_id: ClientId | None = None


class ConversationPatch(Command):
    """What shall change; what is not named stays."""

    title: Title = ""
    archived: bool = False
    mode: Mode = "ai"


class FeedbackCommand(Command):
    """What somebody thinks of a reply; null takes it back."""

    rating: Rating | None = Field(examples=["up"])
    comment: Annotated[Text, Field(max_length=COMMENT_CHARACTERS)] | None = None


class ParticipantCommand(Command):
    """Whom to invite."""

    user_id: Id


class ConversationView(Schema):
    """A conversation."""

    id: UUID
    title: str
    mode: Mode
    archived: bool
    rev: int
    agent: str | None
    owner_id: UUID
    created_at: Moment
    active_at: Moment
    completed_at: Moment | None

    @classmethod
    def of(cls, row: Conversation) -> "ConversationView":
        """Return what a row looks like from outside."""
        return cls(
            id=row.id,
            title=row.title,
            mode=row.mode,
            archived=row.archived_at is not None,
            rev=row.rev,
            agent=row.agent,
            owner_id=row.owner_id,
            created_at=row.created_at,
            active_at=row.active_at,
            completed_at=row.completed_at,
        )


class AuthorView(Schema):
    """Who wrote a message."""

    id: UUID | None
    name: str


class FeedbackView(Schema):
    """What somebody thought of a reply."""

    rating: Rating
    comment: str | None


class MessageView(Schema):
    """A message, as `rows.message_view` makes it: for the document, nothing is validated on the way out."""

    id: UUID
    conversation_id: UUID
    seq: int
    rev: int
    role: Role
    content: str
    status: Status
    author: AuthorView | None
    created_at: Moment
    client_id: str | None
    steps: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    replaces: UUID | None
    feedback: FeedbackView | None


class ParticipantView(Schema):
    """Somebody who was invited."""

    user_id: UUID
    name: str
    invited_by: UUID | None
    created_at: Moment


def _content(text: str) -> str:
    """Return a message as it was written, if there is anything in it and it is not too long."""
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text.encode()) > MAX_CONTENT_BYTES:
        raise ValueError(f"must have at most {MAX_CONTENT_BYTES} bytes of UTF-8")
    return text


# The length comes first: what follows costs time for each character.
Content = Annotated[
    Text, Field(max_length=MAX_CONTENT_BYTES, examples=["Where is my order?"]), AfterValidator(_content)
]


class MessageCommand(Command):
    """A question in a conversation."""

    content: Content
    client_id: ClientId | None = None
    on_busy: OnBusy = "queue"


class AskCommand(Command):
    """A question; without a conversation it begins one. `session_id` is another name for `conversation_id`."""

    message: Content
    conversation_id: Id | None = None
    session_id: Id | None = None
    client_id: ClientId | None = None
    on_busy: OnBusy = "queue"

    @model_validator(mode="after")
    def _one_name(self) -> "AskCommand":
        if self.conversation_id and self.session_id and self.conversation_id != self.session_id:
            raise ValueError("conversation_id and session_id name different conversations")
        return self

    @property
    def conversation(self) -> UUID | None:
        return self.conversation_id or self.session_id

    def question(self, conversation_id: UUID | None) -> Question:
        """Return what is asked, in this conversation; None: a new one."""
        return Question(self.message, conversation_id, self.client_id, self.on_busy)


class AgainCommand(Command):
    """The newest question once more."""

    client_id: ClientId | None = None
