"""Conversations over HTTP: what is kept. What is asked and streamed is `stream_router`."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Depends, Query, Response, status

from parley.auth.dependencies import CurrentUser
from parley.chat import protocol
from parley.chat.conversation_queries import Stretch, Wanted
from parley.chat.conversations import MessagePage
from parley.chat.dependencies import Conversations
from parley.chat.schemas import (
    ConversationCommand,
    ConversationPatch,
    ConversationView,
    FeedbackCommand,
    MessageView,
    Mode,
    ParticipantCommand,
    ParticipantView,
    Words,
)
from parley.core.limits import General, Lists
from parley.core.problems import problems
from parley.core.routing import api_router
from parley.core.schemas import Page

router = api_router("/chat", "chat")


async def _stretch(
    limit: Annotated[int, Query(ge=1, le=100)] = 20, after: UUID | None = None, before: UUID | None = None
) -> Stretch:
    return Stretch(limit, after, before)


TheStretch = Annotated[Stretch, Depends(_stretch)]


@router.get("/conversations", responses=problems(401, 403, 404))
async def list_conversations(
    _: Lists,
    user: CurrentUser,
    conversations: Conversations,
    stretch: TheStretch,
    *,
    q: Words = "",
    archived: bool = False,
    mode: Mode | None = None,
) -> Page[ConversationView]:
    """List conversations, newest activity first; `q` finds words, or how they begin, in titles and messages."""
    return await conversations.list_conversations(user, Wanted(q, archived, mode), stretch)


@router.post(
    "/conversations",
    status_code=status.HTTP_201_CREATED,
    responses={200: {"model": ConversationView, "description": "Made before"}, **problems(401, 403)},
)
async def create_conversation(
    _: General, user: CurrentUser, conversations: Conversations, command: ConversationCommand, response: Response
) -> ConversationView:
    """Make a conversation. With a `client_id` it is made once, however often this is sent."""
    view, is_new = await conversations.create(user, command)
    response.status_code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
    return view


@router.get("/conversations/{conversation_id}", responses=problems(401, 403, 404))
async def get_conversation(
    _: General, user: CurrentUser, conversations: Conversations, conversation_id: UUID
) -> ConversationView:
    """Read a conversation."""
    return await conversations.get(user, conversation_id)


@router.patch("/conversations/{conversation_id}", responses=problems(401, 403, 404))
async def change_conversation(
    _: General, user: CurrentUser, conversations: Conversations, conversation_id: UUID, patch: ConversationPatch
) -> ConversationView:
    """Name it, archive it, or hand it to a person (`human`) or back to the assistant (`ai`)."""
    return await conversations.change(user, conversation_id, patch)


@router.delete(
    "/conversations/{conversation_id}", status_code=status.HTTP_204_NO_CONTENT, responses=problems(401, 403, 404)
)
async def delete_conversation(
    _: General, user: CurrentUser, conversations: Conversations, conversation_id: UUID
) -> None:
    """Delete a conversation with all that was said in it."""
    await conversations.delete(user, conversation_id)


@router.post("/conversations/{conversation_id}/complete", responses=problems(401, 403, 404))
async def complete_conversation(
    _: General, user: CurrentUser, conversations: Conversations, conversation_id: UUID
) -> ConversationView:
    """Note that it has come to its end; the next question opens it again."""
    return await conversations.complete(user, conversation_id)


@router.get(
    "/conversations/{conversation_id}/messages", response_model=Page[MessageView], responses=problems(401, 403, 404)
)
async def list_messages(
    _: Lists, user: CurrentUser, conversations: Conversations, conversation_id: UUID, stretch: TheStretch
) -> Response:
    """List messages, oldest first; without `after` or `before`, the newest."""
    return _as_it_is(await conversations.list_messages(user, conversation_id, stretch))


@router.get("/conversations/{conversation_id}/participants", responses=problems(401, 403, 404))
async def list_participants(
    _: Lists, user: CurrentUser, conversations: Conversations, conversation_id: UUID, stretch: TheStretch
) -> Page[ParticipantView]:
    """List who was invited. Owner and operators need no invitation."""
    return await conversations.list_participants(user, conversation_id, stretch)


@router.post(
    "/conversations/{conversation_id}/participants",
    status_code=status.HTTP_201_CREATED,
    responses={200: {"model": ParticipantView, "description": "Invited before"}, **problems(401, 403, 404, 409)},
)
async def invite_participant(
    _: General,
    user: CurrentUser,
    conversations: Conversations,
    conversation_id: UUID,
    command: ParticipantCommand,
    response: Response,
) -> ParticipantView:
    """Invite somebody to read and write."""
    view, is_new = await conversations.invite(user, conversation_id, command.user_id)
    response.status_code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
    return view


@router.delete(
    "/conversations/{conversation_id}/participants/{user_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(401, 403, 404),
)
async def remove_participant(
    _: General, user: CurrentUser, conversations: Conversations, conversation_id: UUID, user_id: UUID
) -> None:
    """Shut somebody out again; who was invited may leave."""
    await conversations.remove(user, conversation_id, user_id)


@router.post("/messages/{message_id}/feedback", response_model=MessageView, responses=problems(401, 403, 404, 409))
async def rate_message(
    _: General, user: CurrentUser, conversations: Conversations, message_id: UUID, command: FeedbackCommand
) -> Response:
    """Rate an answer that has ended; `null` takes the rating back."""
    return _as_it_is(await conversations.rate(user, message_id, command.rating, command.comment))


def _as_it_is(body: MessagePage | protocol.MessageView) -> Response:
    """Return what is ready to be sent: a page of long answers is not validated and encoded anew."""
    return Response(orjson.dumps(body), media_type="application/json")
